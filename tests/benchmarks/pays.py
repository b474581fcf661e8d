"""Whether INT8 pays where a profile says so: compile, measure, profile, compile again, measure.

    python -m tests.benchmarks pays [--model b0.keras v2-b0 …] [--profile FILE.json | --seconds 170]

Each model is written in float32 and in INT8 by three placements: by the tables of the classes of CPU, as
before there were profiles; by the profile of this CPU's class that ships with edgefx, where there is one; and
by a profile that is measured first (or given). All run in turn in this process, which prints the time of
each over float32's: that of the fastest inferences, the median of the pairs that ran one after the other,
and, for how far chance goes, the same for a second copy of float32. INT8 that is slower than float32 beyond
that chance is marked.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgefx import runtimes
from edgefx.benchmarking.devices.connect import ON_HOST
from edgefx.hardware import HardwareProfile
from edgefx.pipeline import hardware as profiling
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.storage import hardware
from edgefx.system import cpu
from edgefx.targets import TARGETS
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Resize
from edgefx.vocabulary import Runtime

_CALIBRATION = 8  # images of noise: latency hardly depends on ranges
_RUNTIMES = (Runtime.ONNX, Runtime.OPENVINO)
_SLOWER = 1.02
_SETTLED = 0.1  # seconds
_TIMED = 3  # inferences in a row
_LEAST = 8
_AGAIN = "float32 again"


def main(options: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="pays", description=__doc__)
    parser.add_argument(
        "--model", nargs="+", default=["digits"], help="zoo names or files; random weights do"
    )
    parser.add_argument("--profile", type=Path, help="a profile that was measured before")
    parser.add_argument("--seconds", type=float, default=170.0, help="for the profile")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--time", type=float, default=25.0, help="seconds for each model, runtime and threads"
    )
    args = parser.parse_args(options)
    own = hardware.read(args.profile) if args.profile else None
    if own is None:
        own = profiling.profile(ON_HOST, SILENT, threads=args.threads, seconds=args.seconds)
    print(f"{own.cpu}, {own.hardware}; INT8 / float32, fastest and (median of pairs)")
    for source in args.model:
        with tempfile.TemporaryDirectory() as folder:
            for runtime, paths in _made(source, own, Path(folder)).items():
                for threads in args.threads:
                    _print(source, runtime, threads, _times(paths, threads, args.time))


def _made(source: str, own: HardwareProfile, folder: Path) -> dict[Runtime, dict[str, Path]]:
    """Write a model in all forms; returns their paths by runtime, float32 first."""
    from edgefx.models import zoo
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    # Time does not depend on weights; those of the digits come along.
    family = zoo.known(source)
    weights = None if family is None or zoo.PACKAGED in family.weights else zoo.RANDOM
    graph = canonicalize(load(source, weights=weights), folder)
    here = cpu.detect()
    placements = {"class tables": None, "shipped profile": hardware.shipped(here), "own profile": own}
    exact = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    int8 = replace(exact, precision=Precision.INT8, effort=Effort.FAST, hardware=here)
    found: dict[Runtime, dict[str, Path]] = {}
    for runtime in _RUNTIMES:
        schemes = {"float32": exact, _AGAIN: exact}
        schemes |= {
            name: replace(int8, profile=one)
            for name, one in placements.items()
            if one is not None or name == "class tables"
        }
        found[runtime] = {name: _write(runtime, graph, scheme, folder) for name, scheme in schemes.items()}
    return found


def _write(runtime: Runtime, graph: FrozenGraph, scheme: QuantScheme, folder: Path) -> Path:
    row = TARGETS[f"{runtime}-{scheme.precision}"]
    out = Path(tempfile.mkdtemp(dir=folder)) / f"model-{scheme.precision}{row.suffix}"
    calibration = _noise(graph) if row.needs_calibration else None
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=calibration)
    return runtimes.load(row).convert(request, out, SILENT)[0]


def _noise(graph: FrozenGraph) -> ImageSet:
    shape = (_CALIBRATION, graph.spec.height, graph.spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    paths = tuple(Path(f"noise-{number}") for number in range(_CALIBRATION))
    return ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH)


def _times(paths: dict[str, Path], threads: int, seconds: float) -> dict[str, np.ndarray]:
    """Run all forms in turn for a while; returns the times of each, in nanoseconds.

    The threads of ONNX Runtime go on looking for work for tens of milliseconds after an inference and take
    the core from the session that follows: each runs for longer than that before it is timed.
    """
    with ExitStack() as stack:
        work = []
        for name, path in paths.items():
            precision = Precision.FLOAT32 if "float32" in name else Precision.INT8
            session = stack.enter_context(
                runtimes.for_artifact(path).open_session(path, threads=threads, precision=precision)
            )
            _, height, width, _ = session.input_spec.shape
            image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
            work.append(session.prepared(image))
        rows: list[list[int]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(rows) < _LEAST:
            row: list[int] = []
            for one in work if len(rows) % 2 == 0 else work[::-1]:
                settled = time.monotonic() + _SETTLED
                while time.monotonic() < settled:
                    one()
                begun = time.perf_counter_ns()
                for _ in range(_TIMED):
                    one()
                row.append(time.perf_counter_ns() - begun)
            rows.append(row if len(rows) % 2 == 0 else row[::-1])
    times = np.array(rows[1:], np.float64)
    return dict(zip(paths, times.T, strict=True))


def _print(source: str, runtime: Runtime, threads: int, times: dict[str, np.ndarray]) -> None:
    exact = times["float32"]
    cells = []
    for name, found in times.items():
        if name == "float32":
            continue
        least = np.quantile(found, 0.05) / np.quantile(exact, 0.05)
        pairs = float(np.median(found / exact))
        slower = name != _AGAIN and min(least, pairs) > _SLOWER
        cells.append(f"{name} {least:.3f} ({pairs:.3f}){' SLOWER' if slower else ''}")
    label = f"{Path(source).stem}, {runtime}, {threads} thread{'s' if threads > 1 else ''}"
    print(f"  {label:44} " + "  ".join(cells), flush=True)
