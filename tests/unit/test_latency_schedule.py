"""How the latency measurement shares its time, and the numbers it reports."""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import numpy as np
import pytest

from edgefx.benchmarking.asked import Subject
from edgefx.benchmarking.repeats import percentile
from edgefx.benchmarking.schedule import MIN_ROUNDS, allot, schedule, spread
from edgefx.cli.options import Counts
from edgefx.pipeline import benchmark


def test_everyone_gets_all_rounds_when_time_allows() -> None:
    assert allot([2.0, 5.0, 3.0], rounds=100, budget_s=10) == [100, 100, 100]


def test_the_slow_get_what_the_fast_leave() -> None:
    fast, slow = allot([2.0, 259.0], rounds=200, budget_s=10)
    assert fast == 200
    assert slow == int((10_000 - 400) / 259)


def test_the_budget_holds_for_many_slow_ones() -> None:
    estimates = [10.0, 100.0, 100.0, 100.0]
    shares = allot(estimates, rounds=1000, budget_s=4)
    assert sum(share * ms for share, ms in zip(shares, estimates, strict=True)) <= 4000
    assert shares[0] == 100
    assert shares[1:] == [10, 10, 10]


def test_nobody_goes_without() -> None:
    assert allot([10_000.0, 20_000.0], rounds=50, budget_s=1) == [MIN_ROUNDS, MIN_ROUNDS]
    assert allot([10_000.0], rounds=2, budget_s=1) == [2]
    assert allot([], rounds=2, budget_s=1) == []


def test_what_is_fast_is_timed_longer() -> None:
    """The time that it takes is left over for nobody else."""
    fast, slow = allot([0.05, 250.0], rounds=100, budget_s=10, least_s=1.0)
    assert (fast, slow) == (100, 36)
    plan = schedule([0.05, 250.0], rounds=100, least_s=1.0, budget_s=10, launches=5)
    assert (plan.counts, plan.least_ms, plan.launches, plan.passes) == ((100, 36), 1000.0, 1, 7)
    plan = schedule([0.05, 0.1], rounds=100, least_s=1.0, budget_s=10, launches=5)
    assert (plan.launches, plan.passes, plan.pass_ms) == (5, 20, 10.0)


def test_the_least_time_keeps_to_the_limit() -> None:
    assert schedule([0.05] * 8, rounds=100, least_s=10.0, budget_s=4, launches=5).least_ms == 500.0


@pytest.mark.parametrize("estimate_ms", [0.001, 1.0, 300.0, 1e5])
@pytest.mark.parametrize("rounds", [1, 5, 7, 20, 39, 40, 100, 1001])
@pytest.mark.parametrize("launches", [1, 3, 10])
def test_every_pass_has_an_inference_of_every_artifact(
    rounds: int, launches: int, estimate_ms: float
) -> None:
    plan = schedule([estimate_ms, 1.0], rounds=rounds, least_s=1.0, budget_s=30.0, launches=launches)
    for artifact in (0, 1):
        parts = [
            plan.in_pass(artifact, launch, number)
            for launch in range(plan.launches)
            for number in range(plan.passes)
        ]
        assert sum(parts) == plan.counts[artifact]
        assert min(parts) >= 1


@pytest.mark.parametrize("rounds", [0, 1, 7, 20, 99, 100, 101])
def test_rounds_are_spread_evenly(rounds: int) -> None:
    parts = spread(rounds, 20)
    assert len(parts) == 20
    assert sum(parts) == rounds
    assert max(parts) - min(parts) <= 1


def test_few_rounds_are_spread_over_the_whole_run() -> None:
    taken = [number for number, part in enumerate(spread(5, 20)) if part]
    assert max(b - a for a, b in itertools.pairwise(taken)) == 4


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 2, 19, 100])
def test_percentiles_are_numpys(share: float, count: int) -> None:
    values = np.random.default_rng(count).exponential(size=count).tolist()
    assert percentile(values, share) == pytest.approx(float(np.quantile(values, share)))


def test_several_numbers_of_threads_are_measured_each_against_float_with_as_many() -> None:
    subjects = [
        Subject(key="a-int8.onnx", path=Path("a-int8.onnx"), float_key="a-float32.onnx"),
        Subject(key="a-float32.onnx", path=Path("a-float32.onnx")),
    ]
    assert list(benchmark._with_threads(subjects, [4])) == subjects
    swept = list(benchmark._with_threads(subjects, [1, 2]))
    assert [(one.key, one.threads, one.float_key) for one in swept] == [
        ("a-int8.onnx (1 thread)", 1, "a-float32.onnx (1 thread)"),
        ("a-int8.onnx (2 threads)", 2, "a-float32.onnx (2 threads)"),
        ("a-float32.onnx (1 thread)", 1, None),
        ("a-float32.onnx (2 threads)", 2, None),
    ]


@pytest.mark.parametrize(("text", "numbers"), [("2", (2,)), ("1,2,4", (1, 2, 4)), ("2,2", (2,))])
def test_numbers_of_threads_are_read(text: str, numbers: tuple[int, ...]) -> None:
    assert Counts().convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "0", "1,", "1;2", "-1"])
def test_what_is_no_number_of_threads(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Counts().convert(text, None, None)
