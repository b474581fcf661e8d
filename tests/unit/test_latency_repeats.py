"""Intervals of medians and ratios: what another measurement would find."""

from __future__ import annotations

import math

import numpy as np

from edgefx.benchmarking.repeats import median_interval, ratio, ratio_interval

LAUNCHES, PASSES = 5, 10


def _measured(rng: np.random.Generator, *, truth: float) -> tuple[list[list[float]], list[list[float]]]:
    """Measure two artifacts once: drift hits both, each process has luck of its own, and each pass."""
    ours: list[list[float]] = []
    other: list[list[float]] = []
    for _ in range(LAUNCHES):
        drift = np.exp(np.cumsum(rng.normal(0, 0.03, PASSES)))
        for found, scale in ((ours, truth), (other, 1.0)):
            process = math.exp(rng.normal(0, 0.03))
            found.append([float(one) for one in scale * process * drift * rng.normal(1.0, 0.02, PASSES)])
    return ours, other


def test_the_interval_covers_the_next_measurement_and_the_truth() -> None:
    rng = np.random.default_rng(1)
    next_covered = truth_covered = 0
    for _ in range(400):
        ours, other = _measured(rng, truth=0.8)
        low, high = ratio_interval(ours, other) or (0.0, 0.0)
        again = ratio(*_measured(rng, truth=0.8))
        next_covered += low <= again <= high
        truth_covered += low <= 0.8 <= high
    assert 0.91 < next_covered / 400 < 0.98
    assert truth_covered / 400 > 0.95  # it is a prediction interval, which is wider


def test_passes_alone_would_be_far_too_sure() -> None:
    """The same with the launches taken for passes of one process, as a bootstrap over passes takes them."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        first, again = (
            np.log(np.divide(*(np.ravel(one) for one in _measured(rng, truth=0.8)))) for _ in range(2)
        )
        drawn = np.median(rng.choice(first, (200, len(first))), axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= np.median(again) <= high
    assert covered / 200 < 0.7


def test_a_moment_that_slows_both_down_does_not_move_the_ratio() -> None:
    quiet, busy = [1.0] * 7, [1.0] * 3 + [5.0] * 4  # more than half of the passes met a busy machine
    assert ratio([quiet, busy], [[2 * one for one in quiet], [2 * one for one in busy]]) == 0.5


def test_one_launch_tells_nothing_of_the_next() -> None:
    assert ratio_interval([[1.0, 1.1, 0.9]], [[2.0, 2.1, 1.9]]) is None
    assert median_interval([[1.0, 1.1, 0.9]]) is None
    low, high = median_interval([[1.0], [1.1]]) or (0.0, 0.0)
    assert low < 1.0
    assert high > 1.1
