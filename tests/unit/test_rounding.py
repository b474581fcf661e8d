"""Rounding by second moments, on data whose best rounding is known or can be compared."""

from __future__ import annotations

import numpy as np
import pytest

from edgefx.quantize.gptq import Moments, rounded


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [8, 40], their steps, and strongly correlated inputs [500, 40]."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(8, 40))
    inputs = generator.normal(size=(500, 6)) @ generator.normal(size=(6, 40))
    inputs += 0.1 * generator.normal(size=inputs.shape)
    return weights, np.abs(weights).max(axis=1) / 127 * 16, inputs.astype(np.float32)


def test_errors_cancel_in_what_the_weights_compute(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    weights, steps, inputs = data
    moments = Moments(40)
    for part in np.array_split(inputs, 3):
        moments.add(part)
    codes = rounded(weights, steps, moments.central())
    nearest = np.round(weights / steps[:, None])
    assert codes.dtype == np.int8

    def error(chosen: np.ndarray) -> float:
        made = inputs @ (chosen * steps[:, None] - weights).T
        return float(np.square(made - made.mean(axis=0)).mean())

    assert error(codes) < 0.3 * error(nearest)


@pytest.mark.parametrize("moments", [np.eye(300), np.zeros((300, 300))], ids=["independent", "constant"])
def test_inputs_without_correlation_are_rounded_to_the_nearest(moments: np.ndarray) -> None:
    """300 columns: more than are corrected at once."""
    weights = np.random.default_rng(1).normal(size=(5, 300))
    steps = np.abs(weights).max(axis=1) / 127
    codes = rounded(weights, steps, moments)
    np.testing.assert_array_equal(codes, np.round(weights / steps[:, None]))


def test_is_what_the_paper_says() -> None:
    """Column after column by the factor of the inverse, as in its algorithm 1 without blocks."""
    generator = np.random.default_rng(2)
    size = 300
    weights = generator.normal(size=(6, size))
    steps = np.abs(weights).max(axis=1) / 127 * 16
    inputs = generator.normal(size=(1000, size)) @ generator.normal(size=(size, size))
    inputs *= np.linspace(2.0, 0.5, size)
    moments = inputs.T @ inputs / len(inputs)
    damped = moments + np.eye(size) * 0.01 * np.trace(moments) / size
    order = np.argsort(-np.diag(damped), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    rest, expected = weights[:, order], np.empty((6, size))
    for column in range(size):
        expected[:, order[column]] = np.clip(np.round(rest[:, column] / steps), -127, 127)
        error = (rest[:, column] - expected[:, order[column]] * steps) / factor[column, column]
        rest[:, column:] -= np.outer(error, factor[column, column:])
    np.testing.assert_array_equal(rounded(weights, steps, moments), expected)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    vectors = np.random.default_rng(3).normal(3, 1, size=(60, 7)).astype(np.float32)
    moments = Moments(7)
    moments.add(vectors[:13])
    moments.add(vectors[13:])
    np.testing.assert_allclose(moments.central(), np.cov(vectors.T, bias=True), atol=1e-5)
