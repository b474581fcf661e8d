"""What each tuned constant is worth: other values of it tried, and what they make of the model's logits.

    python -m tests.benchmarks ablations                     # all of them, on digits, in minutes
    python -m tests.benchmarks ablations tflite.equalize gptq.DAMPING      # some, by a part of the name
    python -m tests.benchmarks ablations --list
    python -m tests.benchmarks ablations --model M.keras --calib TRAIN/ --held-out TEST/ --images 100

For each value the target is converted anew, from the same float model, on the calibration images. The table
gives signal to noise (dB) of the logits against the float artifact of the same runtime, on held-out images,
with the mean of each image's logits taken off, and the share of the images whose best class stays. Constants
that are about time have a benchmark of their own, which `--list` names. `REGISTRY` holds every constant whose
line says "tuned: ablations NAME"; tests/architecture/test_tuned.py compares the two.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.protocols import SILENT
from edgefx.quantization import UNCOMPRESSED, QuantScheme, WeightCompression
from edgefx.quantize.histogram import Consumer
from edgefx.system import cpu
from edgefx.targets import TARGETS
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Resize

from .common import show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Ablation:
    """A tuned constant and the values to try.

    Attributes:
        constant: ``module:NAME``.
        values: The present value is tried too, wherever it stands.
        target: What is converted to see its effect.
        effort: Of the conversion.
        compression: Of its weights.
        command: For a constant about time: the benchmark that gives its table; nothing is converted here.
    """

    constant: str
    values: tuple[object, ...]
    target: str = "tflite-int8"
    effort: Effort = Effort.BALANCED
    compression: WeightCompression = UNCOMPRESSED
    command: str = ""

    @property
    def name(self) -> str:
        """The constant's name without its leading underscore, after room (or runtime) and module."""
        module, _, constant = self.constant.partition(":")
        return f"{module.removeprefix('edgefx.').removeprefix('runtimes.')}.{constant.strip('_')}"

    @property
    def tried(self) -> list[object]:
        """The values to try, the present one among them; none for a constant about time."""
        present = [] if self.command or self.present in self.values else [self.present]
        return [*self.values, *present]

    @property
    def present(self) -> object:
        """The value that the constant has."""
        module, _, constant = self.constant.partition(":")
        return getattr(import_module(module), constant)


_TFLITE, _ONNX, _OPENVINO = "edgefx.runtimes.tflite", "edgefx.runtimes.onnx", "edgefx.runtimes.openvino"
_FORMS = "python -m tests.benchmarks onnx_forms"
_BYHAND = "python -m tests.benchmarks byhand"

REGISTRY: tuple[Ablation, ...] = (
    Ablation("edgefx.quantize.ranges:_ONE_SIDED", (1.0, 4.0, 16.0, 64.0, 256.0), "onnx-int8"),
    Ablation("edgefx.quantize.ranges:_POOLED_ROOM", (1.0, 1.25, 1.5, 2.0)),
    Ablation(
        "edgefx.quantize.ranges:_CLIPPING",
        tuple(
            {Consumer.GENERIC: 1.0, Consumer.SWISH: weight, Consumer.SIGMOID: weight}
            for weight in (1.0, 4.0, 16.0)
        ),
    ),
    Ablation("edgefx.quantize.gptq:_DAMPING", (0.001, 0.01, 0.1)),
    Ablation(f"{_TFLITE}.equalize:_PRICE", (0.02, 0.06, 0.2)),
    Ablation(f"{_TFLITE}.equalize:_WORTH", (0.003, 0.01, 0.03)),
    Ablation(f"{_TFLITE}.equalize:_IMAGES", (8, 16, 32)),
    Ablation(f"{_TFLITE}.equalize:_HALF", (0.5, 0.75, 1.0)),
    Ablation(f"{_TFLITE}.equalize:_SLACK", (1.0, 1.2, 1.5)),
    Ablation(f"{_TFLITE}.equalize:_REACH", (75, 90, 100)),
    Ablation(f"{_TFLITE}.equalize:_FLAT", (4.0, 5.0, 6.0)),
    Ablation(f"{_TFLITE}.bias:_IMAGES", (25, 50, 100)),
    Ablation(f"{_TFLITE}.bias:_DOUBT", (0.0, 1.0, 4.0, 9.0)),
    Ablation(f"{_TFLITE}.rounding:_POSITIONS", (16, 64, 128)),
    Ablation(f"{_TFLITE}.compress:_LOUD", (0.0, 0.02, 1.0), compression=WeightCompression(values=16)),
    Ablation(f"{_TFLITE}.reconstruct:_EPOCHS", (6, 12, 18), effort=Effort.HIGH),
    Ablation(f"{_TFLITE}.reconstruct:_KEPT_APART", (0.1, 0.2, 0.3), effort=Effort.HIGH),
    Ablation("edgefx.qat.trainer:_BIAS_RATE", (0.5, 1.7, 5.0), effort=Effort.HIGH),
    Ablation("edgefx.qat.trainer:_SCALE_RATE", (0.02, 0.07, 0.2), effort=Effort.HIGH),
    Ablation("edgefx.qat.trainer:_BETA_2", (0.95, 0.99, 0.999), effort=Effort.HIGH),
    Ablation("edgefx.qat.schedule:_SHIFT", (0.0, 1 / 16, 1 / 8), effort=Effort.HIGH),
    Ablation("edgefx.qat.layers:_SCALE_SHARE", (4, 8, 16), effort=Effort.HIGH),
    Ablation(f"{_ONNX}.equalize:_POSITIONS", (8, 32, 64), "onnx-int8"),
    Ablation(f"{_ONNX}.channels:_OWN", (0.25, 1 / 3, 0.5, 1.0), "onnx-int8"),
    Ablation(f"{_ONNX}.channels:_ONE_SIDED", (1.0, 4.0, 16.0), "onnx-int8"),
    Ablation(f"{_ONNX}.channels:_LEAST", (1e-4, 1e-3, 1e-2), "onnx-int8"),
    Ablation(f"{_ONNX}.channels:_POSITIONS", (8, 32, 64), "onnx-int8"),
    Ablation(f"{_ONNX}.rounding:_POSITIONS", (16, 50, 100), "onnx-int8"),
    Ablation(
        f"{_ONNX}.passes:SPARED",
        tuple(
            {Effort.BALANCED: (limit_db, most), Effort.HIGH: (30.0, 0.25)}
            for limit_db, most in ((0.0, 0.0), (20.0, 0.1), (25.0, 0.1), (60.0, 1.0))
        ),
        "onnx-int8",
    ),
    Ablation(f"{_ONNX}.placement:_LEAST_SHARE", (0.4, 0.6, 0.8), "onnx-int8"),
    Ablation(f"{_ONNX}.profile:INTENSITY", (), "onnx-int8", command=_FORMS),
    Ablation(f"{_OPENVINO}.quantize:_TOWARDS_EXTREMES", (0.0, 0.25, 0.4, 0.6, 1.0), "openvino-int8"),
    Ablation(f"{_OPENVINO}.equalize:_POWERS", ((0.0,), (0.0, 0.5), (0.0, 0.25, 0.5)), "openvino-int8"),
    Ablation(
        f"{_OPENVINO}.equalize:_TOWARDS_EXTREMES", ((0.5,), (0.0, 0.25, 0.5, 1.0, 1.5)), "openvino-int8"
    ),
    Ablation(f"{_OPENVINO}.equalize:_POSITIONS", (10, 25, 50), "openvino-int8"),
    Ablation(f"{_OPENVINO}.equalize:_LOUD", (0.003, 0.006, 0.012, 1.0), "openvino-int8"),
    Ablation(f"{_OPENVINO}.equalize:_LOUD_WORK", (), "openvino-int8", command=_BYHAND),
    Ablation(f"{_OPENVINO}.equalize:_LOUD_WORK_ELSEWHERE", (0.0, 0.035, 0.1), "openvino-int8"),
    Ablation(f"{_OPENVINO}.rounding:_POSITIONS", (16, 64, 128), "openvino-int8"),
    Ablation(f"{_OPENVINO}.placement:_LARGE", (), "openvino-int8", command=_BYHAND),
)


def main(options: list[str]) -> None:
    """Try the values of the constants asked for."""
    parser = argparse.ArgumentParser(prog="ablations", description=__doc__)
    parser.add_argument("names", nargs="*", help="constants, as --list names them, or a part of that")
    parser.add_argument("--list", action="store_true", help="name the constants")
    parser.add_argument("--model", default="digits", help="zoo name or file")
    parser.add_argument("--calib", type=Path, help="calibration images (digits brings its own)")
    parser.add_argument("--held-out", type=Path, help="images to measure on (digits brings its own)")
    parser.add_argument("--images", type=int, default=100, help="of each folder at most")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    chosen = [one for one in REGISTRY if not args.names or any(part in one.name for part in args.names)]
    if not chosen:
        sys.exit(f"no constant of that name; known: {', '.join(one.name for one in REGISTRY)}")
    if args.list:
        for one in chosen:
            print(f"  {one.name:38} {one.command or f'{one.target}, effort {one.effort}: {one.values}'}")
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(args, Path(folder))
        for one in chosen:
            rows: dict[str, object] = {}
            if one.command:
                rows[one.name] = f"about time: {one.command}"
            for value in one.tried:
                mark = "  <- present" if value == one.present else ""
                rows[f"{one.name} = {value}"] = bench.measured(one, value) + mark
            show(rows, as_json=args.json)
            sys.stdout.flush()


@contextmanager
def _set(one: Ablation, value: object) -> Iterator[None]:
    """Let a constant have another value for a while, also where a public one was imported by its name."""
    module, _, constant = one.constant.partition(":")
    present = one.present
    places = [import_module(module)]
    if not constant.startswith("_"):
        places += [
            other
            for name, other in sys.modules.items()
            if name.startswith("edgefx.") and vars(other).get(constant) is present
        ]
    for place in places:
        setattr(place, constant, value)
    try:
        yield
    finally:
        for place in places:
            setattr(place, constant, present)


class _Bench:
    """A model with its images, converted as often as asked."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        from edgefx.data import digits
        from edgefx.models.graph.canonical import canonicalize
        from edgefx.models.load import load

        if args.model != "digits" and not (args.calib and args.held_out):
            sys.exit("--calib and --held-out are needed for a model of your own")
        self._folder = folder
        self._graph: FrozenGraph = canonicalize(load(args.model), folder)
        self._calibration = self._images(args.calib or digits.calibration_folder(), args.images)
        self._held_out = self._images(args.held_out or digits.evaluation_folder(), args.images)
        self._exact: dict[str, NDArray[np.float64]] = {}
        self._made = 0

    def measured(self, one: Ablation, value: object) -> str:
        """Convert with one value, and say what the logits and the time are."""
        import numpy as np

        row = TARGETS[one.target]
        if row.runtime not in self._exact:
            reference = TARGETS[f"{row.runtime}-float32"]
            self._exact[row.runtime] = self._logits(reference.name, Effort.BALANCED)
        begun = time.perf_counter()
        with _set(one, value):
            found = self._logits(one.target, one.effort, one.compression)
        seconds = time.perf_counter() - begun
        exact = self._exact[row.runtime]
        ratio = np.square(exact).mean() / max(np.square(exact - found).mean(), 1e-30)
        agreement = float((exact.argmax(1) == found.argmax(1)).mean())
        return f"{10 * np.log10(ratio):6.2f} dB   agreement {100 * agreement:6.2f} %   {seconds:6.1f} s"

    def _logits(
        self, target: str, effort: Effort, compression: WeightCompression = UNCOMPRESSED
    ) -> NDArray[np.float64]:
        """Convert, and return the centred logits of the held-out images, [images, classes]."""
        import numpy as np

        from edgefx import runtimes
        from edgefx.runtimes.protocol import ConversionRequest

        row = TARGETS[target]
        self._made += 1
        out = self._folder / f"{self._made}" / f"model{row.suffix}"
        out.parent.mkdir()
        request = ConversionRequest(
            graph=self._graph,
            scheme=QuantScheme(
                precision=row.precision,
                io_dtype=IoDtype.FLOAT32,
                effort=effort,
                compression=compression,
                hardware=cpu.detect(),
            ),
            calibration=self._calibration if row.needs_calibration else None,
        )
        path = runtimes.load(row).convert(request, out, SILENT)[0]
        with runtimes.introspectable(row).probes(path, self._graph, threads=2) as probes:
            rows = [probes.infer(image)[self._last] for image in self._held_out.pixels]
        logits: NDArray[np.float64] = np.asarray(rows, np.float64)
        logits -= logits.mean(1, keepdims=True)
        return logits

    @property
    def _last(self) -> str:
        """The layer that puts out the logits."""
        return [layer.name for layer in self._graph.layers if layer.kind == "Dense"][-1]

    def _images(self, folder: Path, count: int) -> ImageSet:
        from edgefx.data import calibration, folders, images

        listed = folders.scan(folder)
        if count < len(listed.items):
            listed, _ = calibration.split(listed, samples=count, seed=0)
        spec = self._graph.spec
        return images.decode(
            listed,
            height=spec.height,
            width=spec.width,
            resize=Resize.STRETCH,
            skip_bad=False,
            progress=SILENT,
            role="calibration",
        )
