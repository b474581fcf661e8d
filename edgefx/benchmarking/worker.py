"""One artifact in a process of its own: opened, timed, and its memory measured.

``python -m edgefx.benchmarking.worker ARTIFACT --threads N [--precision P] [--any]`` speaks JSON lines:
requests on stdin, one answer each on stdout. With ``--any`` the file need not be an image classifier. It
imports the artifact's runtime and never TensorFlow, so that the peak memory is what a deployment would need.
Between requests it blocks on stdin and uses no CPU.

    (start)          -> {"ready": true}                 the runtime is imported, nothing is opened yet
    open             -> {"load_ms": float,              opening the file
                         "cold_start_ms": float}        that and the first inference
    run K            -> {"times_ms": [float, ...]}      K inferences of what is in the input
    profile K        -> {"raw": {...}}                  what the runtime's profiler tells of K inferences
    stats            -> {"peak_memory_mb": float, "precision_ran": str}
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgefx.errors import EdgefxError
from edgefx.protocols import TimedSession
from edgefx.runtimes import load
from edgefx.runtimes.session import AnySession
from edgefx.system.packages import missing
from edgefx.targets import row_for_artifact
from edgefx.types import Precision, TensorInfo

if TYPE_CHECKING:
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
        session: TimedSession | AnySession | None = None
        for line in requests:
            command, _, argument = line.strip().partition(" ")
            if command == "open":
                begin = time.perf_counter_ns()
                if any_ends:
                    session = stack.enter_context(
                        runtime.open_any(path, threads=threads, precision=precision)
                    )
                else:
                    session = stack.enter_context(
                        runtime.open_session(path, threads=threads, precision=precision)
                    )
                opened = time.perf_counter_ns() - begin
                once = _inference(session)
                yield {"load_ms": opened / 1e6, "cold_start_ms": opened / 1e6 + _ms(once)}
            elif command == "profile":
                yield {"raw": _profiled(path, threads, precision, int(argument))}
            elif session is None:
                raise EdgefxError(f"benchmark worker: '{command}' before 'open'")
            elif command == "run":
                yield {"times_ms": [_ms(once) for _ in range(int(argument))]}
            elif command == "stats":
                yield {"peak_memory_mb": peak_memory_mb(), "precision_ran": session.precision_ran}
            else:
                raise EdgefxError(f"benchmark worker: unknown request '{command}'")


def _profiled(path: Path, threads: int, precision: Precision | None, runs: int) -> dict[str, object]:
    """Ask the runtime's profiler; what it raises depends on the runtime and on the file."""
    collect = import_module(f"{row_for_artifact(path).module}.collect").collect
    try:
        found: dict[str, object] = collect(
            str(path), threads, runs, is_float32=precision is Precision.FLOAT32
        )
    except Exception as error:
        raise EdgefxError(f"{path}: cannot be profiled: {error}") from error
    return found


def peak_memory_mb() -> float:
    """Peak resident set of this process in 10^6 bytes.

    Not ``ru_maxrss`` on Linux: a child inherits its parent's through fork and exec, and the parent may
    hold TensorFlow. ``VmHWM`` belongs to this process's own address space.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import psutil

    windows_peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
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
