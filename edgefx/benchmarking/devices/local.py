"""The parent's end of a latency worker: start it, ask it, and never leave it behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from edgefx.benchmarking import memory
from edgefx.benchmarking.devices.protocol import START_TIMEOUT_S, Device, Runner
from edgefx.errors import BenchmarkError
from edgefx.types import Precision

_STDERR_TAIL = 15  # lines


class Worker(Runner):
    """A latency worker process for one artifact; a context manager."""

    def __init__(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> None:
        self._any_ends = any_ends
        self._path = path
        self._threads = threads
        self._precision = precision
        self._answers: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Self:
        # -P: the user's working folder is not searched for modules.
        command = [sys.executable, "-P", "-m", "edgefx.benchmarking.worker", str(self._path.resolve())]
        command += ["--threads", str(self._threads)]
        if self._precision is not None:
            command += ["--precision", str(self._precision)]
        if self._any_ends:
            command.append("--any")
        # A file and not a pipe: a talkative library cannot block on it.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603 - our own module, arguments as a list
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(self._threads),
            encoding="utf-8",
        )
        memory.limit(self._process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(grace_s=2.0 if kind is None else 0.0)
        self._stderr.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the runtime is imported."""
        self._receive(START_TIMEOUT_S, "start")

    def _ask(self, request: str, timeout_s: float) -> dict[str, object]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died(request) from None
        return self._receive(timeout_s, request)

    def _receive(self, timeout_s: float, request: str) -> dict[str, object]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self._end(grace_s=0.0)
            raise BenchmarkError(
                f"{self._path}: the latency worker did not answer '{request}' within {timeout_s:.0f} s",
                hint="try fewer threads, or leave this target out",
                details=self._tail(),
            ) from None
        if line is None:
            raise self._died(request)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise BenchmarkError(f"{self._path}: the latency worker answered {line.strip()!r}")
        if "error" in answer:
            self._end(grace_s=2.0)
            raise BenchmarkError(
                self._about(str(answer["error"])),
                hint=str(answer["hint"]),
                details=self._tail(),
            )
        return answer

    def _about(self, error: str) -> str:
        """Name the file, once."""
        where = f"{self._path}: "
        return f"{where}cannot be measured: {error.removeprefix(where)}"

    def _read(self) -> None:
        """Pass the worker's lines on (a thread: pipes cannot be waited for with a timeout everywhere)."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _died(self, request: str) -> BenchmarkError:
        self._end(grace_s=2.0)
        code = self._process.returncode
        reason = f"exit code {code}"
        if code < 0:
            reason = f"signal {signal.Signals(-code).name}"
        return BenchmarkError(
            f"{self._path}: the latency worker died during '{request}' ({reason})",
            hint="the runtime crashed or ran out of memory; its last output is above",
            details=self._tail(),
        )

    def _tail(self) -> list[str]:
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-_STDERR_TAIL:]

    def _end(self, *, grace_s: float) -> None:
        """End the process: by closing its stdin if there is time, else at once."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already: a buffered request cannot be flushed
            self._process.stdin.close()
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1.0)
        if not self._reader.is_alive():  # closing a pipe that is being read would wait for the reader
            assert self._process.stdout is not None
            self._process.stdout.close()


class _Host:
    """This machine."""

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return "host"

    def start(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> Worker:
        """Start a worker process; see `Device.start`."""
        return Worker(path, threads, precision, any_ends=any_ends)


HOST: Final[Device] = _Host()


def environment(threads: int) -> dict[str, str]:
    """Environment of a worker: thread counts for libraries that read them there, and idle threads asleep."""
    env = dict(os.environ)
    env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    env["OMP_WAIT_POLICY"] = "PASSIVE"
    env["PYTHONFAULTHANDLER"] = "1"  # a native crash names the Python line
    root = Path(__file__).resolve().parents[3]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout that may not be installed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), str(root))))
    return env
