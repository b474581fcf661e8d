"""Channels that a layer can best do without, and what the others make good."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.pruning.elimination import damped, eliminate, fitted

FloatArray = NDArray[np.float64]


def layer(seed: int = 0, channels: int = 9, outputs: int = 4) -> tuple[FloatArray, FloatArray]:
    """Weights [channels, outputs], and the covariance of channels that hang together."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(400, channels)) @ generator.normal(size=(channels, channels))
    return generator.normal(size=(channels, outputs)), np.cov(values.T)


def loss(weights: FloatArray, covariance: FloatArray, kept: NDArray[np.int64]) -> float:
    """What is lost where the channels that stay are fitted, by definition."""
    whole = damped(covariance)
    fit = np.zeros_like(weights)
    fit[kept] = np.linalg.solve(whole[np.ix_(kept, kept)], whole[kept] @ weights)
    apart = fit - weights
    return float(np.einsum("io,ij,jo->", apart, whole, apart))


def test_what_is_said_to_be_lost_is_what_a_fit_loses() -> None:
    weights, covariance = layer()
    found = eliminate(weights, covariance, 7)
    assert len(found.order) == len(set(found.order)) == 7
    for removed in range(8):
        kept = found.kept(9, removed)
        assert len(kept) == 9 - removed
        assert found.losses[removed] == pytest.approx(loss(weights, covariance, kept), rel=1e-6, abs=1e-9)


def test_many_channels_go_as_they_would_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, covariance = layer(channels=40)
    together = eliminate(weights, covariance, 30)
    monkeypatch.setattr("edgefx.pruning.elimination._TOGETHER", 1)
    alone = eliminate(weights, covariance, 30)
    assert together.order.tolist() == alone.order.tolist()
    np.testing.assert_allclose(together.losses, alone.losses, rtol=1e-8)


def test_the_first_to_go_is_the_best_of_all() -> None:
    weights, covariance = layer(3)
    everything = np.arange(9)
    losses = [loss(weights, covariance, np.delete(everything, one)) for one in everything]
    assert eliminate(weights, covariance, 1).order[0] == int(np.argmin(losses))
    best = min(
        loss(weights, covariance, np.delete(everything, pair))
        for pair in itertools.combinations(everything, 2)
    )
    assert eliminate(weights, covariance, 2).losses[2] < 1.5 * best


def test_one_of_two_equal_channels_costs_nothing_and_both_do() -> None:
    """Whoever goes by each channel's own size would take both, or neither."""
    weights, covariance = layer(1)
    twice = np.r_[np.arange(9), 8]
    covariance = covariance[np.ix_(twice, twice)]
    found = eliminate(weights[twice], covariance, 9)
    first, second = sorted(found.order.tolist().index(one) if one in found.order else 9 for one in (8, 9))
    prices = [*np.diff(found.losses), np.inf]
    assert prices[first] < 0.02 * np.trace(weights.T @ covariance[:9, :9] @ weights)
    assert prices[second] > 10 * prices[first]


def test_dead_channels_go_first() -> None:
    weights, covariance = layer(2)
    covariance[[2, 5]] = covariance[:, [2, 5]] = 0.0
    assert set(eliminate(weights, covariance, 2).order) == {2, 5}
    assert eliminate(weights, np.zeros((9, 9)), 4).losses[-1] >= 0


def test_a_fit_is_that_of_least_squares_and_stays_near_where_images_tell_nothing() -> None:
    generator = np.random.default_rng(0)
    channels, weights = generator.normal(size=(300, 5)), generator.normal(size=(5, 2))
    outputs = channels @ weights
    covariance = channels.T @ channels / 300
    products = channels.T @ outputs / 300
    near = generator.normal(size=(5, 2))
    found = fitted(covariance, products, near, damping=1e-9)
    np.testing.assert_allclose(found, weights, atol=1e-6)
    covariance[4], covariance[:, 4], products[4] = 0, 0, 0
    np.testing.assert_allclose(fitted(covariance, products, near)[4], near[4], atol=1e-9)
