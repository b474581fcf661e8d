"""Whether a chip will take a model as a whole, before anything is calibrated or measured: `edgefx check`.

The model is quantized with ranges from noise, which decide no operation and no shape, and is given to the
compilers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgefx import compilers, runtimes
from edgefx.compilation import Processor
from edgefx.errors import ConversionError, UsageError
from edgefx.models import zoo
from edgefx.models.hints import NO_HINTS, Hints
from edgefx.npus import NPU_DEFAULTS
from edgefx.pipeline.compiled import compile_file
from edgefx.protocols import Progress
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import Compilable, ConversionRequest
from edgefx.shipments import CheckFinding, CheckReport
from edgefx.storage import temporary
from edgefx.types import Effort, ImageSet, IoDtype, Ranges, Resize
from edgefx.vocabulary import TargetKind

if TYPE_CHECKING:
    from edgefx.npus import NpuOptions
    from edgefx.targets import TargetRow
    from edgefx.types import FrozenGraph, LayerInfo

VERSION = 1
_NOISE = 2  # images
_MULTIPLE = 16  # of channels that an Ethos-U computes at a time
_CHANNELS = ("Conv2D", "DepthwiseConv2D", "Dense")
_NAMED = 5  # layers whose channels are wasted
# What to do about a rule that Vela names, by a word of its reason.
_REMEDIES = {
    "stride": "use strides of at most 3, or padding 'valid'",
    "float32": "replace the layer by one that TFLite quantizes, such as relu, relu6 or hard-swish",
    "optype": "replace the layer by operations that the NPU has: vela --supported-ops-report lists them",
    "kernel": "use smaller kernels, or several behind one another",
    "dilat": "use no dilation, or a smaller one",
    "shape": "give the model a fixed input size with --input-size",
}
_OTHER = "see what Vela supports: vela --supported-ops-report"


def run(
    source: str,
    rows: Sequence[TargetRow],
    progress: Progress,
    *,
    options: NpuOptions = NPU_DEFAULTS,
    weights: str | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    hints: Hints = NO_HINTS,
    allow_unsafe: bool = False,
) -> CheckReport:
    """Check a model for NPUs and microcontrollers.

    Args:
        source: A zoo name, or the path of a model.
        rows: Targets of `edgefx.targets.COMPILED`.
        progress: Where long work is reported.
        options: What compilers for NPUs are told.
        weights: Zoo models: the weights; by default random ones, as the structure is the same.
        classes: Zoo models: the number of classes.
        input_size: Models: input height and width in pixels.
        hints: Models: what their file does not tell.
        allow_unsafe: Load a model that would be refused as unsafe.

    Raises:
        UsageError: A target is one of a runtime, which takes every model.
        MissingDependencyError: A compiler is not installed.
        EdgefxError: The model cannot be loaded, or is none that can be deployed.
    """
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    for row in rows:
        if row.kind in (TargetKind.RUNTIME, TargetKind.NATIVE):
            raise UsageError(
                f"{row.name} takes every model that edgefx can convert",
                hint="check for NPUs and microcontrollers: -t 'ethos-u55-*', -t tflm-int8",
            )
        runtimes.load(row).check()
        compilers.load(row).check()
    configured = {row.name: compilers.load(row).configure(row.name, options) for row in rows}
    family = zoo.FAMILIES.get(source.lower())
    if weights is None and family is not None and zoo.PACKAGED not in family.weights:
        weights = zoo.RANDOM
    with temporary.workspace() as workdir:
        with progress.task(f"load {source}"):
            loaded = load(
                source,
                weights=weights,
                classes=classes,
                input_size=input_size,
                allow_unsafe=allow_unsafe,
                hints=hints,
            )
        begun = time.monotonic()
        with progress.task("make the graph deployable"):
            graph = canonicalize(loaded, workdir)
        try:
            integer = _quantized(graph, rows[0], workdir, progress)
        except ConversionError as error:
            found = [_refusal(row.name, error) for row in rows]
        else:
            found = [
                finding
                for row in rows
                for finding in _compiled(row, integer, configured[row.name], workdir, progress)
            ]
        if any(row.kind is TargetKind.NPU for row in rows):
            found += _wasted(graph.layers)
        return CheckReport(
            schema_version=VERSION,
            model=graph.spec.name,
            targets=tuple(row.name for row in rows),
            findings=tuple(found),
            seconds=round(time.monotonic() - begun, 3),
        )


def _quantized(graph: FrozenGraph, row: TargetRow, workdir: Path, progress: Progress) -> Path:
    """Write an integer artifact whose ranges mean nothing.

    Raises:
        ConversionError: The model cannot be quantized as a whole.
    """
    shape = (_NOISE, graph.spec.height, graph.spec.width, 3)
    noise = ImageSet(
        pixels=np.random.default_rng(0).integers(0, 256, shape, np.uint8),
        labels=None,
        paths=tuple(Path(f"noise-{number}") for number in range(_NOISE)),
        sha256="",
        resize=Resize.STRETCH,
    )
    scheme = QuantScheme(
        precision=row.precision,
        io_dtype=IoDtype.INT8,
        seed=0,
        effort=Effort.FAST,
        ranges=Ranges.MIN_MAX,
        integer_only=True,
    )
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=noise)
    return runtimes.load(row).convert(request, workdir / f"check{row.suffix}", progress)[0]


def _compiled(
    row: TargetRow, integer: Path, options: NpuOptions, workdir: Path, progress: Progress
) -> Iterator[CheckFinding]:
    """Yield what a chip does not take of an integer artifact."""
    runtime = runtimes.load(row)
    assert isinstance(runtime, Compilable)
    out = workdir / f"{row.name}{row.suffix}"
    try:
        with progress.task(f"compile for {row.name}"):
            _, compiled = compile_file(row, runtime, integer, out, options)
    except ConversionError as error:
        yield _refusal(row.name, error)
        return
    for one in compiled.placements:
        if one.processor is Processor.CPU:
            yield CheckFinding(
                target=row.name,
                layer=one.layer,
                operation=", ".join(one.operations),
                reason=one.reason or "the compiler does not say why",
                remedy=next((text for word, text in _REMEDIES.items() if word in one.reason.lower()), _OTHER),
                breaks=True,
            )


def _refusal(target: str, error: ConversionError) -> CheckFinding:
    return CheckFinding(
        target=target, layer="", operation="", reason=error.message, remedy=error.hint, breaks=True
    )


def _wasted(layers: Sequence[LayerInfo]) -> Iterator[CheckFinding]:
    """Yield the layers that waste most of an NPU's multiply-accumulates by their number of channels."""
    wasteful = [
        (layer, channels, -(-channels // _MULTIPLE) * _MULTIPLE)
        for layer in layers
        if layer.kind in _CHANNELS and layer.macs and (channels := layer.output_shape[-1]) % _MULTIPLE
    ]
    wasteful.sort(key=lambda one: one[0].macs * (one[2] / one[1] - 1), reverse=True)
    for layer, channels, rounded in wasteful[:_NAMED]:
        yield CheckFinding(
            target="ethos-*",
            layer=layer.name,
            operation=layer.kind,
            reason=f"{channels} channels are computed as {rounded}: an Ethos-U takes {_MULTIPLE} at a time",
            remedy=f"{rounded} channels cost no more, {rounded - _MULTIPLE or _MULTIPLE} are faster",
            breaks=False,
        )
