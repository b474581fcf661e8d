"""What the timing itself costs: what a latency worker reports, against a bare loop over the runtime.

    python -m tests.benchmarks timing [--rounds 3000] [--folder build/]

Both run in this process on the same opened artifact, in turn, so that what disturbs one disturbs the other.
Neither counts what copies the image into the input and the scores out of the output: an application may do
better or worse there.

Printed for each artifact, in microseconds: the fastest inference and the median of both, and what the clock
takes by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from edgefx import runtimes
from edgefx.protocols import Session
from tests import tiny_onnx

_BATCH = 50  # inferences of one kind before the other's turn
_MOST_US = 20.0


def main(options: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks timing")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--folder", type=Path, help="Of a run, whose float32 artifacts are taken.")
    asked = parser.parse_args(options)
    print(
        f"{'artifact':32}{'bare min':>10}{'ours min':>10}{'more':>8}{'bare p50':>10}"
        f"{'ours p50':>10}{'ratio':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        given = sorted(asked.folder.glob("*-float32.*")) if asked.folder else []
        paths = [path for path in given if path.suffix in (".tflite", ".onnx", ".xml")]
        for path in paths or [tiny_onnx.write(Path(folder) / "tiny-float32.onnx")]:
            _compare(path, asked.rounds)
    clock = [-time.perf_counter_ns() + time.perf_counter_ns() for _ in range(10_000)]
    print(f"the clock, read twice: {median(clock) / 1e3:.2f}")


def _compare(path: Path, rounds: int) -> None:
    with runtimes.for_artifact(path).open_session(path, threads=1) as session:
        _, height, width, _ = session.input_spec.shape
        batch = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        ours, bare = session.prepared(batch), _bare(session)
        for _ in range(_BATCH):
            ours()
            bare()
        ours_us: list[float] = []
        bare_us: list[float] = []
        while len(ours_us) < rounds:
            ours_us += [_time_us(ours) for _ in range(_BATCH)]
            bare_us += [_time_us(bare) for _ in range(_BATCH)]
    more = min(ours_us) - min(bare_us)
    middle = median(bare_us), median(ours_us)
    print(
        f"{path.name:32}{min(bare_us):10.1f}{min(ours_us):10.1f}{more:8.1f}{middle[0]:10.1f}{middle[1]:10.1f}"
        f"{middle[1] / middle[0]:8.3f}" + ("" if more <= _MOST_US else f"  more than {_MOST_US:.0f} us")
    )


def _bare(session: Session) -> Callable[[], object]:
    """Return what runs the artifact and nothing else, on what lies in its input."""
    if (interpreter := getattr(session, "_interpreter", None)) is not None:
        invoke: Callable[[], object] = interpreter.invoke
        return invoke
    if (request := getattr(session, "_request", None)) is not None:
        infer: Callable[[], object] = request.infer
        return infer
    opened = session._session  # type: ignore[attr-defined]
    feed = {session.input_spec.name: np.zeros(session.input_spec.shape, np.float32)}
    return lambda: opened.run(None, feed)


def _time_us(work: Callable[[], object]) -> float:
    begun = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begun) / 1e3
