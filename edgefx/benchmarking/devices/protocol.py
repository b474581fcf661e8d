"""What the measurement asks of a device, and what every process that runs an artifact there answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edgefx.types import Precision

START_TIMEOUT_S = 180.0  # importing a runtime on a cold disk, or compiling a large model
RUN_TIMEOUT_S = 60.0  # on top of twenty times the expected duration


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

    def profile(self, count: int, *, expected_ms: float) -> dict[str, object]:
        """Return what the runtime's profiler tells of `count` inferences; the artifact need not be open."""
        answer = self._ask(f"profile {count}", START_TIMEOUT_S + 20 * count * expected_ms / 1e3)
        raw = answer["raw"]
        assert isinstance(raw, dict)
        return raw

    def stats(self) -> tuple[float, str]:
        """Return peak memory in MB (10^6 bytes) and the precision that ran."""
        answer = self._ask("stats", RUN_TIMEOUT_S)
        return float(str(answer["peak_memory_mb"])), str(answer["precision_ran"])


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
