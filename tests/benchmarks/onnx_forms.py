"""Which convolutions ONNX Runtime should compute in INT8 on this machine.

Quantizes those with at least so many multiply-accumulates per value moved, for several thresholds, and runs
all forms and the float32 model in turn. The threshold with the least time over several models belongs into
`edgefx.runtimes.onnx.profile.INTENSITY`, under the class of machine that is printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.system import cpu
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Resize

from .common import show

_CALIBRATION = 4  # images: latency does not depend on the ranges


def main(options: list[str]) -> None:
    """Make the forms and time them in turn."""
    parser = argparse.ArgumentParser(prog="onnx_forms", description=__doc__)
    parser.add_argument("--model", default="digits", help="zoo name or file")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0, 15, 30, 60, 120])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {"machine": str(cpu.detect())}
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
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load
    from edgefx.runtimes.onnx import convert, quantize
    from edgefx.runtimes.onnx.runtime import RUNTIME

    progress = SILENT
    graph = canonicalize(load(source), folder)
    paths = {"float32": folder / "form-float32.onnx"}
    model = convert.float_model(graph, progress)
    convert.save(model, paths["float32"])
    scheme = QuantScheme(
        precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=Effort.FAST, hardware=cpu.detect()
    )
    shares = {}
    for threshold in thresholds:
        name = f"from {threshold:g} MACs per value"
        paths[name] = folder / f"form-{threshold:g}.onnx"
        model = convert.float_model(graph, progress)
        made = quantize.int8_model(
            model,
            graph,
            scheme,
            _noise(graph),
            progress,
            intensity=threshold,
        )
        convert.save(made, paths[name])
        shares[name] = RUNTIME.describe(paths[name]).int8_macs_share or 0.0
    return paths, shares


def _noise(graph: FrozenGraph) -> ImageSet:
    shape = (_CALIBRATION, graph.spec.height, graph.spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    paths = tuple(Path(f"noise-{number}") for number in range(_CALIBRATION))
    return ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH)


def _ratios(paths: dict[str, Path], threads: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return median and least time of each form over that of the first."""
    from edgefx.runtimes.onnx.session import open_session

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
