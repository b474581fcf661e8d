"""Which convolutions ONNX Runtime should compute in INT8 on this machine.

Quantizes those with at least so many multiply-accumulates per value moved, for several thresholds, and runs
all forms and the float32 model in turn. The threshold with the least time over several models belongs into
`edgefx.targets.onnx_machine.INTENSITY`, under the class of machine that is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgefx.targets import machine
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, QuantScheme, Resize, Task

from .common import show

_CALIBRATION = 4  # images: latency does not depend on the ranges


class _Silent:
    """A `Progress` that says nothing."""

    def advance(self, steps: int = 1) -> None:
        """Count nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """Show nothing."""
        del label, total
        yield self

    def note(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Pass a warning on."""
        print(message, file=sys.stderr)


def main(options: list[str]) -> None:
    """Make the forms and time them in turn."""
    parser = argparse.ArgumentParser(prog="onnx_forms", description=__doc__)
    parser.add_argument("--model", default="digits", help="zoo name or file")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0, 15, 30, 60, 120])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {"machine": str(machine.detect())}
    with tempfile.TemporaryDirectory() as folder:
        paths, shares = _forms(args.model, args.thresholds, Path(folder))
        for threads in args.threads:
            for name, (p50, least) in _ratios(paths, threads, args.rounds).items():
                share = f", {100 * shares[name]:3.0f} % of MACs in INT8" if name in shares else ""
                rows[f"{threads} thread{'s' if threads > 1 else ''}, {name}"] = (
                    f"p50 {p50:.3f}, least {least:.3f} of float32{share}"
                )
    show(rows, as_json=args.json)


def _forms(source: str, thresholds: list[float], folder: Path) -> tuple[dict[str, Path], dict[str, float]]:
    """Write the float32 model and one form per threshold; returns paths and INT8 shares of the work."""
    from edgefx.models.canonical import canonicalize
    from edgefx.models.load import load
    from edgefx.targets import onnx, onnx_convert

    progress = _Silent()
    graph = canonicalize(load(source), folder)
    paths = {"float32": folder / "form-float32.onnx"}
    model = onnx_convert.float_model(graph, progress)
    onnx_convert.save(model, paths["float32"])
    scheme = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=Effort.FAST)
    shares = {}
    for threshold in thresholds:
        name = f"from {threshold:g} MACs per value"
        paths[name] = folder / f"form-{threshold:g}.onnx"
        model = onnx_convert.float_model(graph, progress)
        made = onnx.int8_model(model, graph, scheme, _noise(graph), progress, intensity=threshold)
        onnx_convert.save(made, paths[name])
        shares[name] = onnx.describe(paths[name]).int8_macs_share or 0.0
    return paths, shares


def _noise(graph: FrozenGraph) -> ImageSet:
    shape = (_CALIBRATION, graph.spec.height, graph.spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    paths = tuple(Path(f"noise-{number}") for number in range(_CALIBRATION))
    return ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH)


def _ratios(paths: dict[str, Path], threads: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return median and least time of each form over that of the first."""
    from edgefx.targets.onnx_session import open_session

    sessions = [open_session(path, threads) for path in paths.values()]
    shape = sessions[0].get_inputs()[0].shape
    feed = {"image": np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)}
    times = np.empty((rounds + 5, len(sessions)))
    for turn in times:
        for number, session in enumerate(sessions):
            begin = time.perf_counter()
            session.run(None, feed)
            turn[number] = time.perf_counter() - begin
    medians, least = np.median(times[5:], axis=0), times[5:].min(axis=0)
    return {
        name: (float(medians[number] / medians[0]), float(least[number] / least[0]))
        for number, name in enumerate(paths)
    }
