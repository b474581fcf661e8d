"""Energy by counters of the machine and by an external meter; what must not be taken for one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgefx.benchmarking import counters
from edgefx.benchmarking.asked import Subject
from edgefx.benchmarking.energy import measured
from edgefx.benchmarking.power_log import PowerLog
from edgefx.errors import UsageError
from edgefx.protocols import SILENT
from edgefx.results import Latency
from tests import tiny_onnx


def _zone(root: Path, zone: str, name: str, energy_uj: int, most: int = 262143328850) -> None:
    folder = root / "powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_packages_are_counted_once_and_wrap(tmp_path: Path) -> None:
    def state(first: int, second: int) -> counters.Reading:
        _zone(tmp_path, "intel-rapl:0", "package-0", first, most=1000)
        _zone(tmp_path, "intel-rapl:0:0", "core", first)
        _zone(tmp_path, "intel-rapl:1", "package-1", second)
        _zone(tmp_path, "intel-rapl:2", "psys", first + second)
        return counters.read(str(tmp_path))

    before = state(900, 5_000_000)
    assert counters.source(before) == "RAPL"
    assert counters.joules(before, state(100, 7_000_000)) == pytest.approx(2.0002)
    assert counters.joules(before, before) is None


def test_sensors_that_count_joules(tmp_path: Path) -> None:
    sensor = tmp_path / "hwmon" / "hwmon3"
    sensor.mkdir(parents=True)
    for number, (label, value) in enumerate({"Ecore000": 5, "Esocket0": 1_500_000}.items(), 1):
        (sensor / f"energy{number}_label").write_text(f"{label}\n")
        (sensor / f"energy{number}_input").write_text(f"{value}\n")
    before = counters.read(str(tmp_path))
    assert counters.source(before) == "hwmon"
    (sensor / "energy2_input").write_text("4000000\n")
    assert counters.joules(before, counters.read(str(tmp_path))) == pytest.approx(2.5)
    (sensor / "energy2_input").write_text("7\n")  # set back: nobody knows how far it got
    assert counters.joules(before, counters.read(str(tmp_path))) is None


def test_no_counter_is_no_energy(tmp_path: Path) -> None:
    nothing = counters.read(str(tmp_path))
    assert (nothing, counters.source(nothing), counters.joules(nothing, nothing)) == ({}, "", None)


def _written(path: Path, times: list[float], watts: float = 5.0) -> PowerLog:
    path.write_text("time,volts,watts\n" + "".join(f"{one},5.1,{watts}\n" for one in times))
    return PowerLog(path)


def test_energy_is_the_integral_between_two_moments(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text("time,watts\n" + "".join(f"{100 + number / 10},{number}\n" for number in range(101)))
    # Power rises by 10 W/s from 0 at 100 s: between 102.55 and 104.05 s its mean is 33 W.
    assert PowerLog(path).joules(102.55, 104.05) == pytest.approx(33.0 * 1.5)
    when = [datetime.fromtimestamp(100 + number / 10, UTC).isoformat() for number in range(101)]
    path.write_text("Time, Watts \n" + "".join(f"{one},{number}\n" for number, one in enumerate(when)) + "1")
    assert PowerLog(path).joules(102.55, 104.05) == pytest.approx(33.0 * 1.5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no columns 'time' and 'watts'"),
        ("when,power\n1,2\n", "no columns"),
        ("time,watts\n1,2\n", "fewer than two samples"),
        ("time,watts\n1,2\n1,2\n", "sample 2 is not later"),
        ("time,watts\n1,2\n2,x\n", "line 3: could not convert"),
        ("time,watts\n1,2\n2,nan\n", "no watts"),
        ("time,watts\n1,2\n2,-1\n", "no watts"),
        ("time,watts\n1,2\ninf,1\n", "no time"),
        ("time,watts\n1,2\n2\n", "line 3"),
        ("time,watts\n2026-01-01T00:00:00,2\n", "no offset from UTC"),
        ("time,watts\n" + '"' * 300_000 + "\n", "line"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "power.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        PowerLog(path).check()
    assert str(path) in caught.value.message


def test_another_clock_is_refused(tmp_path: Path) -> None:
    now = time.time()
    recent = [now - 2 + number / 10 for number in range(20)]
    assert _written(tmp_path / "power.csv", recent).check() == pytest.approx(0.1, abs=0.01)
    for shift, said in ((-3600, "3600 s before it was written"), (8, "8 s after it was written")):
        with pytest.raises(UsageError, match=said):
            _written(tmp_path / "power.csv", [one + shift for one in recent]).check()


def test_a_meter_that_has_stopped_is_refused(tmp_path: Path) -> None:
    past = time.time() - 600
    log = _written(tmp_path / "power.csv", [past + number / 10 for number in range(20)])
    os.utime(log.path, (past + 2, past + 2))
    with pytest.raises(UsageError, match="nothing was written to it for 59"):
        log.check()


def test_what_the_log_does_not_cover_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefx.benchmarking.power_log._LEAST_WAIT_S", 0.3)
    times = [100 + number / 10 for number in range(101)]
    log = _written(tmp_path / "power.csv", times)
    with pytest.raises(UsageError, match=r"it begins 1\.0 s too late"):
        log.joules(99.0, 103.0)
    with pytest.raises(UsageError, match=r"it ends 2\.0 s too early"):
        log.joules(101.0, 112.0)
    with pytest.raises(UsageError, match=r"5 samples in 0\.5 s are too few"):
        log.joules(101.05, 101.55)
    with pytest.raises(UsageError, match=r"a gap of 2\.0 s"):
        _written(log.path, [one for one in times if not 103 < one < 105]).joules(101.0, 108.0)


@contextmanager
def _meter(path: Path, watts: float) -> Iterator[None]:
    """Write like a meter that sees a constant power."""
    done = threading.Event()

    def write() -> None:
        with path.open("w") as file:
            file.write("time,watts\n")
            while not done.wait(0.02):
                file.write(f"{time.time()},{watts}\n")
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.2)
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_energy_of_an_artifact_by_a_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefx.benchmarking.energy._LEAST_S", 0.5)
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    latency = Latency(
        device="host", threads=1, rounds=1, p50_ms=1, p95_ms=1, min_ms=1, cold_start_ms=1, peak_memory_mb=1,
        precision_ran="float32",
    )  # fmt: skip
    log = PowerLog(tmp_path / "power.csv")
    with _meter(log.path, 7.0):
        found = measured(
            [Subject(key="tiny", path=path)], {"tiny": latency}, log, progress=SILENT,
            on_failure=lambda subject, error: pytest.fail(f"{subject}: {error}"),
        )["tiny"]  # fmt: skip
    assert found.energy_watts == pytest.approx(7.0)
    assert 0 < (found.energy_mj or 0) < 7000 * 0.1
    assert found.energy_source == "meter"
