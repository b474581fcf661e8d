"""Noise: told, measured again, never kept, and no reason to call anything slower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices.protocol import Runner, Stats, Timed
from edgefx.benchmarking.latency import measure, warm
from edgefx.errors import BenchmarkError
from edgefx.protocols import SILENT
from edgefx.report import findings
from edgefx.results import Latency, RunReport
from edgefx.types import Precision
from tests.unit.report_samples import report

_TIMING = Timing(rounds=100, warmup=0, budget_s=30.0)
_ONCE = 100 + 5 * 4  # inferences: those before each of four passes of five launches are not timed


class _Worker(Runner):
    """Stands in for a worker process; its times come from a script."""

    scripts: dict[str, Iterator[float]]

    def __init__(self, path: Path, _threads: int, _precision: object) -> None:
        self._times = self.scripts[path.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def wait_ready(self) -> None:
        return

    def open(self) -> float:
        return 1.0

    def run(self, times: int) -> list[float]:
        return [next(self._times) for _ in range(times)]

    def timed(self, count: int, least_ms: float = 0.0) -> Timed:
        assert not least_ms
        times = self.run(1 + count)[1:]  # the first does not count
        return Timed(times_ms=times, wall_ms=sum(times), cpu_ms=sum(times))

    def stats(self) -> Stats:
        return Stats(peak_memory_mb=3.0, runtime_memory_mb=1.0, precision_ran="int8", cores=2)

    def _ask(self, request: str, timeout_s: float) -> dict[str, object]:
        raise AssertionError(f"{request} ({timeout_s} s): every request is answered above")


@pytest.mark.parametrize(
    ("times", "rounds", "done", "used"),
    [
        ([1.0] * 10, 4, True, 4),
        ([8.0, 8.0, 4.0, 4.0, 2.0, 2.0, 1.99, 1.99], 4, True, 8),
        ([1.0, 1.0, 3.0, 3.0], 4, True, 4),  # slower is no warming up
        ([2.0**-number for number in range(20)], 2, False, 10),
        ([5.0], 1, None, 1),
        ([], 0, None, 0),
    ],
)
def test_it_is_warm_when_it_does_not_get_faster(
    times: list[float], rounds: int, done: bool | None, used: int
) -> None:
    worker = _Worker.__new__(_Worker)
    worker._times = iter(times)
    found = warm(worker, rounds)
    assert (found.done, found.rounds) == (done, used)
    assert len(list(worker._times)) == len(times) - used


class _Device:
    """Stands in for this machine."""

    name = "host"

    def start(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> _Worker:
        del any_ends
        return _Worker(path, threads, precision)


def _script(*calm_after: int, quiet_ms: float = 1.0) -> Iterator[float]:
    """Yield times that swing between one and three for so many inferences, then hardly change."""
    swings = calm_after[0] if calm_after else 0
    for number in range(swings):
        yield quiet_ms * (3.0 if number // 12 % 2 else 1.0)
    rng = np.random.default_rng(round(1000 * quiet_ms))
    while True:
        yield quiet_ms * float(rng.normal(1.0, 0.01))


def _measured(monkeypatch: pytest.MonkeyPatch, scripts: dict[str, Iterator[float]]) -> dict[str, Latency]:
    monkeypatch.setattr(_Worker, "scripts", scripts, raising=False)
    subjects = [Subject(key=name, path=Path(name), float_key="float") for name in scripts]
    return measure(subjects, _TIMING, threads=1, progress=SILENT, device=_Device())


def test_a_quiet_measurement_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(monkeypatch, {"float": _script(), "int8": _script(quiet_ms=0.5)})
    assert not any(one.noisy for one in found.values())
    assert found["int8"].ratio_to_float == pytest.approx(0.5, rel=0.02)
    low, high = found["int8"].ratio_ci95 or (0, 0)
    assert 0.47 < low < 0.5 < high < 0.53
    assert (found["int8"].launches, found["int8"].rounds) == (5, 100)
    assert found["int8"].cpu_utilization == pytest.approx(0.5)  # one of two cores
    assert found["int8"].model_memory_mb == 2.0


def test_a_noisy_measurement_is_made_again_and_the_quiet_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(monkeypatch, {"float": _script(_ONCE), "int8": _script()})
    assert found["float"].p50_ms == pytest.approx(1.0, rel=0.02)
    assert found["float"].noise < 0.05
    assert not found["float"].noisy


def test_what_stays_noisy_says_so_also_of_what_is_compared_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _measured(monkeypatch, {"float": _script(100_000), "int8": _script()})
    assert found["float"].noisy
    assert found["int8"].noisy
    assert found["int8"].noise == found["float"].noise > 0.25


def _slower(sample: RunReport, *, ratio: float, interval: tuple[float, float], noisy: bool) -> list[str]:
    first = sample.targets[0]
    assert first.latency is not None
    known = replace(first.latency, ratio_to_float=ratio, ratio_ci95=interval, noisy=noisy, noise=0.4)
    changed = replace(sample, targets=(replace(first, latency=known, warnings=()),), warnings=())
    return list(findings.warnings(findings.complete(changed)))


def test_what_is_slower_says_where_the_time_goes() -> None:
    sample = report()
    first = sample.targets[0]
    assert first.latency is not None
    told = replace(first.latency, float_share=0.568, conversion_share=0.31)
    told_of = replace(sample, targets=(replace(first, latency=told),))
    (slower,) = _slower(told_of, ratio=1.3, interval=(1.2, 1.4), noisy=False)
    assert "; its operations spend 57% of their time in float and 31% in conversions; " in slower


def test_nothing_is_called_slower_inside_the_noise() -> None:
    assert _slower(report(), ratio=1.3, interval=(0.9, 1.7), noisy=False) == []
    (slower,) = _slower(report(), ratio=1.3, interval=(1.2, 1.4), noisy=False)
    assert slower == (
        "tflite-int8: slower than float32 of the same runtime on this host: 1.30x its median "
        "(95 % CI 1.20x to 1.40x); edgefx benchmark --profile says what takes the time; measure where it is"
        " to run (--device), and take a float target where INT8 is no faster"
    )
    (noisy,) = _slower(report(), ratio=1.3, interval=(1.2, 1.4), noisy=True)
    assert "not to be relied on: the speed changed by 40%" in noisy


def test_an_artifact_that_fails_when_it_is_measured_again_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dying(number: int) -> Iterator[float]:
        yield from islice(_script(quiet_ms=0.5), number)
        raise BenchmarkError("the worker died")

    scripts = {"float": _script(100_000), "int8": dying(_ONCE + 30)}
    failed: list[str] = []
    monkeypatch.setattr(_Worker, "scripts", scripts, raising=False)
    found = measure(
        [Subject(key=name, path=Path(name), float_key="float") for name in scripts],
        _TIMING,
        threads=1,
        progress=SILENT,
        device=_Device(),
        on_failure=lambda subject, _error: failed.append(subject.key),
    )
    assert failed == ["int8"]
    assert list(found) == ["float"]
    assert found["float"].noisy
