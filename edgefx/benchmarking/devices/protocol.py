"""What the measurement asks of a device, and what every process that runs an artifact there answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgefx.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgefx.benchmarking.asked import Subject, Timing
    from edgefx.errors import BenchmarkError
    from edgefx.protocols import Progress
    from edgefx.results import Latency

START_TIMEOUT_S = 180.0  # importing a runtime on a cold disk, or compiling a large model
RUN_TIMEOUT_S = 60.0  # on top of twenty times the expected duration


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Inferences that were timed, one after the other.

    Attributes:
        times_ms: Each of them.
        wall_ms: All of them, with what lies between.
        cpu_ms: What all threads of the process computed meanwhile.
    """

    times_ms: list[float]
    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, kw_only=True)
class Flood:
    """Inferences of several streams at the same time.

    Attributes:
        inferences: How many all of them ran.
        wall_ms: Until the last of them had ended.
        cpu_ms: What all threads of the process computed meanwhile.
        joules: What the machine's counters of energy have counted meanwhile; None without them.
        counter: What these are.
    """

    inferences: int
    wall_ms: float
    cpu_ms: float
    joules: float | None
    counter: str


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a process says of itself.

    Attributes:
        peak_memory_mb: Its peak resident set, in 10^6 bytes.
        runtime_memory_mb: Its resident set before it opened the artifact, likewise.
        precision_ran: What the runtime executed in.
        cores: Those that it may use.
    """

    peak_memory_mb: float
    runtime_memory_mb: float
    precision_ran: str
    cores: int


class Runner(ABC):
    """One artifact in a process of its own, here or elsewhere.

    Raises:
        BenchmarkError: From every request: the process died, did not answer in time, or answered with an
            error. It is ended before the error is raised.
    """

    _last_ms = 1e3  # duration of the last inference, for the next request's timeout
    load_ms: float | None = None  # of the cold start, opening the file; None before `open`

    @abstractmethod
    def wait_ready(self) -> None:
        """Wait until the runtime is imported."""

    @abstractmethod
    def _ask(self, request: str, timeout_s: float) -> dict[str, object]:
        """Send one request of the worker's protocol and return its answer."""

    def open(self) -> float:
        """Open the artifact and run it once; returns the cold start in milliseconds."""
        answer = self._ask("open", START_TIMEOUT_S)
        cold_start_ms = float(str(answer["cold_start_ms"]))
        self.load_ms = float(str(answer["load_ms"]))
        self._last_ms = cold_start_ms
        return cold_start_ms

    def run(self, count: int) -> list[float]:
        """Run `count` inferences; returns the milliseconds of each."""
        answer = self._ask(f"run {count}", RUN_TIMEOUT_S + 20 * count * self._last_ms / 1e3)
        times = answer["times_ms"]
        assert isinstance(times, list)
        self._last_ms = max(times)
        return times

    def timed(self, count: int, least_ms: float = 0.0) -> Timed:
        """Time at least `count` inferences, and as many more as take `least_ms` together.

        One that is not timed comes first, as the caches hold another artifact's weights.
        """
        expected_s = (count * self._last_ms + least_ms) / 1e3
        answer = self._ask(f"time {count} {least_ms}", RUN_TIMEOUT_S + 20 * expected_s)
        times = answer["times_ms"]
        assert isinstance(times, list)
        self._last_ms = max(times)
        return Timed(
            times_ms=times, wall_ms=float(str(answer["wall_ms"])), cpu_ms=float(str(answer["cpu_ms"]))
        )

    def prepare(self, streams: int, batch: int) -> int:
        """Open the artifact so many times, for batches of so many; returns the cores that can be used."""
        answer = self._ask(f"prepare {streams} {batch}", START_TIMEOUT_S * streams)
        return int(str(answer["cores"]))

    def flood(self, seconds: float) -> Flood:
        """Run all that was prepared at the same time, over and over for so long."""
        answer = self._ask(f"flood {seconds}", RUN_TIMEOUT_S + seconds)
        return Flood(
            inferences=int(str(answer["inferences"])),
            wall_ms=float(str(answer["wall_ms"])),
            cpu_ms=float(str(answer["cpu_ms"])),
            joules=None if answer["joules"] is None else float(str(answer["joules"])),
            counter=str(answer["counter"]),
        )

    def profile(self, count: int, *, expected_ms: float) -> dict[str, object]:
        """Return what the runtime's profiler tells of `count` inferences; the artifact need not be open."""
        answer = self._ask(f"profile {count}", START_TIMEOUT_S + 20 * count * expected_ms / 1e3)
        raw = answer["raw"]
        assert isinstance(raw, dict)
        return raw

    def stats(self) -> Stats:
        """Return what the process says of itself."""
        answer = self._ask("stats", RUN_TIMEOUT_S)
        return Stats(
            peak_memory_mb=float(str(answer["peak_memory_mb"])),
            runtime_memory_mb=float(str(answer["runtime_memory_mb"])),
            precision_ran=str(answer["precision_ran"]),
            cores=int(str(answer["cores"])),
        )


@runtime_checkable
class Measurer(Protocol):
    """A machine that cannot be asked for single inferences, and measures by itself."""

    def measure(
        self,
        subjects: Sequence[Subject],
        timing: Timing,
        *,
        threads: int,
        progress: Progress,
        on_failure: Callable[[Subject, BenchmarkError], None],
    ) -> dict[str, Latency]:
        """Measure latency; see `edgefx.benchmarking.latency.measure`."""


class Device(Protocol):
    """A machine that runs artifacts."""

    @property
    def name(self) -> str:
        """What results call it: "host" is this machine."""

    def start(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> AbstractContextManager[Runner]:
        """Start a process for one artifact, which is not opened yet.

        Args:
            path: The artifact's main file, on this machine.
            threads: Intra-op threads.
            precision: What the target asked for, if known.
            any_ends: Whether it is something else than an image classifier.
        """
