"""Whether every form of model compiles, equals the Keras model before quantization, and what INT8 leaves.

    python -m tests.benchmarks forms                                  # on digits
    python -m tests.benchmarks forms --calib TRAIN/ --held-out TEST/ --keep forms.json --write forms.md
    python -m tests.benchmarks forms --only ResNet --only v2- --converters

For each form of `tests.forms.table` and each INT8 runtime: signal to noise in dB of the output against the
Keras model on held-out images (power of what differs between images, over that of the error), and how often
the answer stays; with --converters also what the runtime's own converter makes of the same frozen graph with
its defaults, which takes half of the time. Weights are random, normalizations are fitted to images, and the
last layer to their labels. With --keep, what is in the file is not measured again, but errors are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx import runtimes
from edgefx.data import digits, folders, images
from edgefx.errors import EdgefxError
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.scores import by_class
from edgefx.system import cpu
from edgefx.targets import TARGETS
from edgefx.types import Effort, ImageSet, ModelTask, Resize

from ..forms import build
from ..forms.table import FORMS, Form
from .forms_converters import CONVERTERS
from .forms_table import written

if TYPE_CHECKING:
    from edgefx.models.load import LoadedModel
    from edgefx.types import FrozenGraph, ModelSpec, Pixels, Scores

    Sizes = Callable[[int, int], ImageSet]

INT8 = ("tflite-int8", "onnx-int8", "openvino-int8")
_COMPARED = 8  # images on which parity is measured
_FITTED, _CALIBRATION, _HELD_OUT = 60, 24, 48  # images


def main(arguments: list[str]) -> None:
    """Measure the forms, and print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks forms")
    parser.add_argument("--calib", type=Path, default=digits.calibration_folder())
    parser.add_argument("--held-out", type=Path, default=digits.evaluation_folder())
    parser.add_argument("--only", action="append", default=[], help="forms with this in their name")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--converters", action="store_true", help="measure what those give, too")
    parser.add_argument("--keep", type=Path, help="JSON of what was measured")
    parser.add_argument("--write", type=Path, help="a page of Markdown, whose tables are replaced")
    options = parser.parse_args(arguments)
    parts = options.only or [""]  # in the order asked for
    chosen = dict.fromkeys(form for part in parts for form in FORMS if part in form.name)
    found = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    bench = _Bench(
        fit=_decoder(options.calib, _FITTED),
        held_out=_decoder(options.held_out, _HELD_OUT),
        effort=Effort(options.effort),
        converters=options.converters,
    )
    for form in chosen:
        if form.name in found and _is_whole(found[form.name], converters=options.converters):
            continue
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = bench.measured(form, Path(folder))
            except Exception as error:  # noqa: BLE001 - the other forms are measured all the same
                row = {"error": repr(error)[:300]}
                traceback.print_exc()
        found[form.name] = row
        print(f"{form.name}: {json.dumps(row)} {time.process_time() - begun:.0f} s of CPU", flush=True)
        if options.keep:
            options.keep.write_text(json.dumps(found, indent=1) + "\n")
    if options.write:
        known = {form.name: found[form.name] for form in FORMS if form.name in found}
        options.write.write_text(_head(options.write) + written(known))


_MARK = "<!-- what follows is written by: python -m tests.benchmarks forms -->\n"


def _head(page: Path) -> str:
    """Return what stands above the tables of a page, the mark with it."""
    text = page.read_text() if page.exists() else ""
    return text.partition(_MARK)[0] + _MARK + "\n"


def _is_whole(row: dict[str, Any], *, converters: bool) -> bool:
    return "refused" in row or (INT8[0] in row and (not converters or "converter" in row[INT8[0]]))


def _decoder(root: Path, count: int) -> Sizes:
    listed = folders.scan(root)
    step = max(1, len(listed.items) // count)
    listed = replace(listed, items=listed.items[::step][:count])

    @cache
    def decoded(height: int, width: int) -> ImageSet:
        return images.decode(
            listed,
            height=height,
            width=width,
            resize=Resize.STRETCH,
            skip_bad=False,
            progress=SILENT,
            role="evaluation",
        )

    return decoded


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all forms are measured with."""

    fit: Sizes
    held_out: Sizes
    effort: Effort
    converters: bool

    def measured(self, form: Form, folder: Path) -> dict[str, Any]:
        """Build, load and compile one form."""
        from edgefx.models.graph.canonical import canonicalize, compare
        from edgefx.models.load import load

        path = build.save(form, folder, self.fit)
        try:
            loaded = load(str(path), hints=build.hints_of(form), input_size=form.input_size)
            graph = canonicalize(loaded, folder / "work")
        except EdgefxError as error:
            return {"refused": _said(error).replace(str(path), "model")}
        spec = loaded.spec
        calibration = _some(self.fit(spec.height, spec.width), _CALIBRATION)
        test = self.held_out(spec.height, spec.width)
        want = loaded.predict(test.pixels)
        parity = compare(want[:_COMPARED], graph, test.pixels[:_COMPARED])
        tasks = "+".join(one.task for one in spec.outputs) or spec.task.value
        row: dict[str, Any] = {"task": tasks, "parity": parity.max_abs_dp, "macs": graph.spec.macs}
        for target in INT8:
            row[target] = self._ours(target, graph, calibration, test.pixels, want)
        if self.converters and not spec.outputs:
            plain = folder / "plain.pb"
            plain.write_bytes(_plain(loaded))
            for target in INT8:
                row[target]["converter"] = self._theirs(target, plain, spec, calibration, want)
        return row

    def _ours(
        self, target: str, graph: FrozenGraph, calibration: ImageSet, pixels: Pixels, want: Scores
    ) -> dict[str, Any]:
        row = TARGETS[target]
        runtime = runtimes.load(row)
        scheme = QuantScheme(
            precision=row.precision, io_dtype=row.io_dtypes[0], effort=self.effort, hardware=cpu.detect()
        )
        request = ConversionRequest(graph=graph, scheme=scheme, calibration=calibration)
        begun = time.process_time()
        try:
            path = runtime.convert(request, graph.workdir / f"int8{row.suffix}", SILENT)[0]
            with runtime.open_session(path, threads=1, precision=row.precision) as session:
                got = session.infer(pixels)
        except EdgefxError as error:
            return {"refused": _said(error)}
        described = runtime.describe(path)
        return {
            **_fidelity_of_model(want, got, graph.spec),
            "int8": described.compute_int8,
            "float": described.compute_float,
            "share": described.int8_macs_share,
            "cpu_s": round(time.process_time() - begun, 1),
        }

    def _theirs(
        self, target: str, graph: Path, spec: ModelSpec, calibration: ImageSet, want: Scores
    ) -> dict[str, Any]:
        """What the runtime's own converter makes of the model as TensorFlow traces it."""
        pixels = self.held_out(spec.height, spec.width).pixels
        try:
            got = CONVERTERS[target](graph, spec.output.value, calibration.pixels, pixels)
        except Exception as error:  # noqa: BLE001 - they raise anything
            return {"refused": (str(error).strip() or type(error).__name__).splitlines()[0][:200]}
        return _fidelity(want, by_class(got.reshape(len(pixels), -1), spec.output), spec.task)


def _plain(loaded: LoadedModel) -> bytes:
    """Return the model as TensorFlow traces it, frozen: none of edgefx's rewriting is in it."""
    from edgefx.models.graph.freeze import freeze

    outputs = tuple(one.name for one in loaded.spec.outputs) or (loaded.spec.output.value,)
    frozen = freeze(loaded.trace(batch=1, outputs=outputs), outputs=outputs, inline=True)
    content: bytes = frozen.SerializeToString()
    return content


def _said(error: EdgefxError) -> str:
    return f"{error.message}; hint: {error.hint}" if error.hint else error.message


def _some(found: ImageSet, count: int) -> ImageSet:
    step = max(1, len(found) // count)
    chosen = slice(0, step * count, step)
    assert found.labels is not None
    return replace(found, pixels=found.pixels[chosen], labels=found.labels[chosen], paths=found.paths[chosen])


def _fidelity_of_model(want: Scores, got: Scores, spec: ModelSpec) -> dict[str, Any]:
    """Of several outputs the signal to noise of the worst, and how often the class stays."""
    if not spec.outputs:
        return _fidelity(want, got, spec.task)
    found = [(one, _fidelity(want[:, place], got[:, place], one.task)) for one, place in spec.parts]
    agreement = next(each["agreement"] for one, each in found if one is spec.first)
    return {"db": min(each["db"] for _, each in found), "agreement": agreement}


def _fidelity(want: Scores, got: Scores, task: ModelTask) -> dict[str, Any]:
    """Signal to noise in dB, and how often the answer stays; None where there are no classes."""
    wanted, found = want.astype(np.float64), got.astype(np.float64)
    noise = max(float(np.square(wanted - found).mean()), 1e-30)
    signal = max(float(np.square(wanted - wanted.mean(0)).mean()), 1e-30)
    agreement = None
    if task is ModelTask.MULTILABEL:
        agreement = float(((wanted > 0.5) == (found > 0.5)).mean())
    elif task in (ModelTask.CLASSIFICATION, ModelTask.BINARY):
        agreement = float((wanted.argmax(1) == found.argmax(1)).mean())
    return {"db": round(float(10 * np.log10(signal / noise)), 1), "agreement": agreement}
