"""What an interval and a gate promise, on samples whose truth is known: `benchmarks.coverage` in short."""

from __future__ import annotations

import pytest

from edgefx.evaluation.expected import of_drop
from tests.benchmarks.coverage import LIMIT_PP, coverage


@pytest.mark.parametrize(("images", "drop_pp"), [(300, 0.0), (300, 2.0), (1000, 0.5), (3000, 1.0)])
def test_nineteen_of_twenty_intervals_hold_the_drop(images: int, drop_pp: float) -> None:
    held, below, above = coverage(images, drop_pp, gains=0.01, samples=4000, seed=1)
    assert 0.935 < held < 0.975
    assert max(below, above) < 0.04


@pytest.mark.parametrize("images", [100, 300, 1000, 10_000])
def test_a_gate_rarely_passes_what_loses_too_much(images: int) -> None:
    at_the_limit = of_drop(0.01 + LIMIT_PP / 100, 0.01, images, limit_pp=LIMIT_PP)
    assert at_the_limit.passes < 0.03  # 2.5 % is what the upper end of the interval promises
    beyond = of_drop(0.01 + 2 * LIMIT_PP / 100, 0.01, images, limit_pp=LIMIT_PP)
    assert beyond.passes < at_the_limit.passes + 1e-12
    assert 1 - at_the_limit.fails > 0.4  # as often does the figure alone keep the limit


def test_a_gate_rarely_fails_what_loses_little_on_many_images() -> None:
    assert of_drop(0.012, 0.01, 10_000, limit_pp=LIMIT_PP).fails < 1e-6
    assert of_drop(0.012, 0.01, 10_000, limit_pp=LIMIT_PP).passes > 0.99
