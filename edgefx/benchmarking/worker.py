"""One artifact in a process of its own: opened, timed, and its memory measured.

``python -m edgefx.benchmarking.worker ARTIFACT --threads N [--precision P] [--any]`` speaks JSON lines:
requests on stdin, one answer each on stdout. With ``--any`` the file need not be an image classifier. It
imports the artifact's runtime and never TensorFlow, so that the peak memory is what a deployment would need.
Between requests it blocks on stdin and uses no CPU.

    (start)          -> {"ready": true}                 the runtime is imported, nothing is opened yet
    open             -> {"load_ms": float,              opening the file
                         "cold_start_ms": float}        that and the first inference
    run K            -> {"times_ms": [float, ...]}      K inferences of what is in the input
    time K MS        -> {"times_ms": [float, ...],      one more that does not count, then at least K, and as
                         "wall_ms": float,              many as take MS milliseconds; what all of them took,
                         "cpu_ms": float}               and what the threads of this process computed in it
    prepare N B      -> {"cores": int}                  opens N sessions for batches of B, each in a thread
    flood S          -> {"inferences": int,             of all these sessions at the same time, for S seconds;
                         "wall_ms": float,              what the machine's counters of energy have counted
                         "cpu_ms": float,               meanwhile, and which they are
                         "joules": float or null, "counter": str}
    profile K        -> {"raw": {...}}                  what the runtime's profiler tells of K inferences
    stats            -> {"peak_memory_mb": float, "runtime_memory_mb": float, "precision_ran": str,
                         "cores": int}                  the memory before "open", and the cores it may use
    (end of stdin)   -> exit 0

A failure answers ``{"error": message, "hint": hint}`` and exits with 1; a native crash leaves its traces on
stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgefx.benchmarking import counters
from edgefx.errors import EdgefxError
from edgefx.protocols import TimedSession
from edgefx.runtimes import load
from edgefx.runtimes.session import AnySession
from edgefx.system import host
from edgefx.system.packages import missing
from edgefx.targets import row_for_artifact
from edgefx.types import Precision, TensorInfo

if TYPE_CHECKING:
    from edgefx.runtimes.protocol import Runtime
    from edgefx.types import Pixels


def main() -> int:
    """Serve requests until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m edgefx.benchmarking.worker")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--precision", type=Precision, default=None)
    parser.add_argument("--any", action="store_true", dest="any_ends")
    args = parser.parse_args()
    # The parent decides when a worker ends: by closing stdin, or by killing it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _claim_stdout()
    try:
        for answer in serve(args.artifact, args.threads, args.precision, sys.stdin, any_ends=args.any_ends):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except BrokenPipeError:
        return 1  # the parent is gone; there is nobody to tell
    except EdgefxError as error:
        answers.write(json.dumps({"error": error.message, "hint": error.hint}) + "\n")
        answers.flush()
        return 1
    return 0


def serve(
    path: Path, threads: int, precision: Precision | None, requests: TextIO, *, any_ends: bool = False
) -> Iterator[dict[str, object]]:
    """Yield one answer for each line of `requests`; see the module's docstring.

    Raises:
        EdgefxError: The artifact cannot be opened or run, or its runtime is not installed.
    """
    row = row_for_artifact(path)
    runtime = load(row)
    for module in (*row.engine, f"{row.module}.session"):
        try:
            import_module(module)
        except ImportError as error:
            raise missing(
                module.partition(".")[0], *row.engine_packages, purpose=str(path), cause=error
            ) from error
    yield {"ready": True}
    with ExitStack() as stack:
        served = _Served(path, threads, precision, runtime, stack, any_ends=any_ends)
        for line in requests:
            command, _, argument = line.strip().partition(" ")
            yield served.answer(command, argument)


class _Served:
    """The artifact of this process, and what it is asked."""

    def __init__(
        self,
        path: Path,
        threads: int,
        precision: Precision | None,
        runtime: Runtime,
        stack: ExitStack,
        *,
        any_ends: bool,
    ) -> None:
        self._path, self._threads, self._precision, self._any_ends = path, threads, precision, any_ends
        self._runtime, self._stack = runtime, stack
        self._memory_mb, self._cores = (
            memory_mb("VmRSS:"),
            host.cores(),
        )  # a runtime may bind threads to cores
        self._session: TimedSession | AnySession | None = None
        self._once: Callable[[], object] = lambda: None
        self._streams: list[Callable[[], object]] = []

    def answer(self, command: str, argument: str) -> dict[str, object]:
        """Answer a request; see the module's docstring."""
        if command in ("run", "time", "stats") and self._session is None:
            raise EdgefxError(f"benchmark worker: '{command}' before 'open'")
        known: dict[str, Callable[..., dict[str, object]]] = {
            "open": self._open,
            "run": self._run,
            "time": lambda count, least_ms: timed(self._once, int(count), float(least_ms)),
            "prepare": self._prepare,
            "flood": lambda seconds: flooded(self._streams, float(seconds)),
            "profile": self._profiled,
            "stats": self._stats,
        }
        if command not in known:
            raise EdgefxError(f"benchmark worker: unknown request '{command}'")
        return known[command](*argument.split())

    def _run(self, count: str) -> dict[str, object]:
        return {"times_ms": [_ms(self._once) for _ in range(int(count))]}

    def _open(self) -> dict[str, object]:
        begin = time.perf_counter_ns()
        path, threads, precision = self._path, self._threads, self._precision
        session: TimedSession | AnySession
        if self._any_ends:
            opening = self._runtime.open_any(path, threads=threads, precision=precision)
            session = self._stack.enter_context(opening)
        else:
            session = self._stack.enter_context(
                self._runtime.open_session(path, threads=threads, precision=precision)
            )
        opened = time.perf_counter_ns() - begin
        self._session, self._once = session, _inference(session)
        return {"load_ms": opened / 1e6, "cold_start_ms": opened / 1e6 + _ms(self._once)}

    def _prepare(self, count: str, batch: str) -> dict[str, object]:
        opened = [
            self._runtime.open_any(
                self._path, threads=self._threads, precision=self._precision, batch=int(batch)
            )
            for _ in range(int(count))
        ]
        self._streams = [self._stack.enter_context(one).run for one in opened]
        return {"cores": self._cores}

    def _stats(self) -> dict[str, object]:
        peak_mb = memory_mb("VmHWM:")  # before the precision is asked for, which may read the file
        assert self._session is not None
        return {
            "peak_memory_mb": peak_mb,
            "runtime_memory_mb": self._memory_mb,
            "precision_ran": self._session.precision_ran,
            "cores": self._cores,
        }

    def _profiled(self, runs: str) -> dict[str, object]:
        """Ask the runtime's profiler; what it raises depends on the runtime and on the file."""
        collect = import_module(f"{row_for_artifact(self._path).module}.collect").collect
        is_float32 = self._precision is Precision.FLOAT32
        try:
            return {"raw": collect(str(self._path), self._threads, int(runs), is_float32=is_float32)}
        except Exception as error:
            raise EdgefxError(f"{self._path}: cannot be profiled: {error}") from error


def timed(once: Callable[[], object], count: int, least_ms: float) -> dict[str, object]:
    """Time at least `count` inferences, and as many as take `least_ms`, after one that is not timed."""
    once()
    times: list[float] = []
    cpu_s, begin = time.process_time(), time.perf_counter_ns()
    end = begin + least_ms * 1e6
    while len(times) < count or time.perf_counter_ns() < end:
        times.append(_ms(once))
    wall_ms = (time.perf_counter_ns() - begin) / 1e6
    return {"times_ms": times, "wall_ms": wall_ms, "cpu_ms": 1e3 * (time.process_time() - cpu_s)}


def flooded(streams: Sequence[Callable[[], object]], seconds: float) -> dict[str, object]:
    """Run inferences in a thread for each stream, over and over for so long."""
    counts = [0] * len(streams)
    before = counters.read()
    begin, cpu_s = time.perf_counter(), time.process_time()

    def run(number: int) -> None:
        while time.perf_counter() - begin < seconds:
            streams[number]()
            counts[number] += 1

    with ThreadPoolExecutor(max_workers=len(streams)) as pool:
        for done in [pool.submit(run, number) for number in range(len(streams))]:
            done.result()
    wall_ms, cpu_ms = 1e3 * (time.perf_counter() - begin), 1e3 * (time.process_time() - cpu_s)
    return {
        "inferences": sum(counts),
        "wall_ms": wall_ms,
        "cpu_ms": cpu_ms,
        "joules": counters.joules(before, counters.read()),
        "counter": counters.source(before),
    }


def memory_mb(field: str) -> float:
    """Return a field of Linux's account of this process in 10^6 bytes: "VmHWM:" is the peak, "VmRSS:" now.

    Not ``ru_maxrss`` on Linux: a child inherits its parent's through fork and exec, and the parent may
    hold TensorFlow. ``VmHWM`` belongs to this process's own address space.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024 / 1e6
    import psutil

    used = psutil.Process().memory_info()
    if field == "VmRSS:":
        return float(used.rss) / 1e6
    windows_peak = getattr(used, "peak_wset", None)
    if windows_peak is not None:
        return float(windows_peak) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _inference(session: TimedSession | AnySession) -> Callable[[], object]:
    """Return one inference, and nothing else: of random pixels, or of anything, where there are no images."""
    if isinstance(session, AnySession):
        return session.run
    return session.prepared(_batch(session.input_spec))


def _ms(inference: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    inference()
    return (time.perf_counter_ns() - begin) / 1e6


def _batch(spec: TensorInfo) -> Pixels:
    """Make the images to time: random pixels, the same ones each time, as many as the file's batch."""
    import numpy as np

    n, *image = (size if size > 0 else 1 for size in spec.shape)
    if image[0] in (1, 3) and image[-1] not in (1, 3):  # NCHW in the file; sessions take NHWC
        image = [*image[1:], image[0]]
    return np.random.default_rng(0).integers(0, 256, (n, *image), dtype=np.uint8)


def _claim_stdout() -> TextIO:
    """Keep the real stdout for answers; whatever libraries print there goes to stderr."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main())
