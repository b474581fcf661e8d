"""Few distinct weights, and zeros among them: what they may be, and what rounding makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.quantize import codebook, gptq

STEPS = np.array([0.01, 0.02, 0.005])


def layer(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights [3, 64], their steps, and the moments of correlated inputs [64, 64]."""
    generator = np.random.default_rng(seed)
    weights = generator.laplace(size=(3, 64)) * STEPS[:, None] * 20
    inputs = generator.normal(size=(500, 64)) @ generator.normal(size=(64, 64)) / 8
    return weights, STEPS, np.cov(inputs.T)


def error(weights: NDArray[np.float64], codes: NDArray[np.int8], moments: NDArray[np.float64]) -> float:
    apart = codes * STEPS[:, None] - weights
    return float(np.einsum("ij,ij->", apart @ moments, apart))


def test_codebooks_are_the_values_where_there_are_few() -> None:
    codes = np.array([[-100.0, 3, 3, 90], [5, 5, 5, 5]])
    found = codebook.codebooks(codebook.histogram(codes, np.ones(4)), 3)
    assert set(found[0]) == {-100, 3, 90}
    assert 5 in found[1]


def test_important_weights_draw_the_values() -> None:
    codes = np.repeat(np.arange(-100.0, 101)[None], 2, axis=0)
    importance = np.ones(codes.shape)
    importance[1, codes[1] > 50] = 1000.0
    even, right = codebook.codebooks(codebook.histogram(codes, importance), 4)
    assert (even > 50).sum() <= 1
    assert (right > 50).sum() >= 3


def test_zero_is_a_value_where_it_must_be() -> None:
    codes = np.linspace(40, 100, 50)[None]
    found = codebook.codebooks(codebook.histogram(codes, np.ones(50)), 4, with_zero=True)
    assert 0 in found
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("values", [2, 5, 16])
def test_rounded_weights_have_no_other_values(values: int) -> None:
    weights, steps, moments = layer()
    books = codebook.codebooks(codebook.histogram(weights / steps[:, None], np.diag(moments)), values)
    codes = gptq.rounded(weights, steps, moments, codebooks=books)
    for row, book in zip(codes, books, strict=True):
        assert set(row.tolist()) <= set(book.tolist())


def test_errors_of_few_values_cancel() -> None:
    weights, steps, moments = layer()
    books = codebook.codebooks(codebook.histogram(weights / steps[:, None], np.diag(moments)), 8)
    nearest = np.abs((weights / steps[:, None])[:, :, None] - books[:, None]).argmin(axis=2)
    plain = np.take_along_axis(books, nearest, 1).astype(np.int8)
    assert error(weights, gptq.rounded(weights, steps, moments, codebooks=books), moments) < 0.7 * error(
        weights, plain, moments
    )


def test_more_values_lose_less() -> None:
    weights, steps, moments = layer()
    rows = codebook.histogram(weights / steps[:, None], np.diag(moments)) * steps[:, None] ** 2
    found = [
        codebook.distortion(rows, codebook.codebooks(rows, values)) for values in (2, 4, 8, 16, 32, 64, 128)
    ]
    assert found == sorted(found, reverse=True)


def test_zeros_cost_less_where_weights_say_little() -> None:
    weights, steps, moments = layer()
    losses = codebook.losses(weights, moments)
    kept = losses > np.quantile(losses, 0.5)
    codes = gptq.rounded(weights, steps, moments, kept=kept)
    assert not codes[~kept].any()
    at_random = np.random.default_rng(1).permutation(kept.reshape(-1)).reshape(kept.shape)
    by_chance = gptq.rounded(weights, steps, moments, kept=at_random)
    assert error(weights, codes, moments) < 0.5 * error(weights, by_chance, moments)


def test_two_of_four_stay() -> None:
    weights, _, moments = layer()
    kept = codebook.largest_two_of_four(codebook.losses(weights, moments))
    assert (kept.reshape(-1, 4).sum(axis=1) == 2).all()


def test_without_few_values_rounding_is_what_it_was() -> None:
    weights, steps, moments = layer()
    codes = gptq.rounded(weights, steps, moments)
    assert (codes == gptq.rounded(weights, steps, moments, kept=np.ones(weights.shape, np.bool_))).all()
    every = np.arange(-127.0, 128)[None]
    assert (codes == gptq.rounded(weights, steps, moments, codebooks=every)).mean() > 0.99
