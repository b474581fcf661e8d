"""ONNX Runtime: float32, float16, dynamic and INT8 artifacts, and running them.

The four functions of `edgefx.types.Target`. Conversion is in `onnx_convert`, quantization in `onnx_quantize`,
reading back in `onnx_describe`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import (
    ConversionError,
    UnknownNameError,
    UsageError,
)
from edgefx.packages import require
from edgefx.targets import TARGETS
from edgefx.types import (
    Artifact,
    Effort,
    FrozenGraph,
    ImageSet,
    IoDtype,
    OutputKind,
    Precision,
    Progress,
    QuantScheme,
    Ranges,
    Session,
    Spans,
)

if TYPE_CHECKING:
    import onnx

    from edgefx.quantize.ranges import Range


def check() -> None:
    """Raise `MissingDependencyError` when TensorFlow, tf2onnx, onnx or ONNX Runtime is absent."""
    require(*TARGETS["onnx-int8"].packages, purpose="the onnx targets")


def convert(
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet | None,
    out: Path,
    progress: Progress,
    *,
    spans: Spans | None = None,
) -> tuple[Path, ...]:
    """Write the ``.onnx`` for `scheme` as `out`.

    Args:
        graph: The canonical graph.
        scheme: Precision and type of the ends; integer ends exist for INT8 only.
        calibration: Images for the activation ranges; needed by INT8.
        out: The file to write; it appears when it is complete and checked, or not at all.
        progress: Told of the conversion and of each calibration image.
        spans: INT8: the ranges that a training found.

    Returns:
        `out`.

    Raises:
        UsageError: INT8 without calibration images, a precision that ONNX Runtime does not have, or integer
            ends asked of a float target.
        ConversionError: tf2onnx refused the graph, or what was written is not what was asked for.
        OutputError: `out` cannot be written.
        DiskFullError: No space left.
    """
    check()
    from edgefx.targets import machine, onnx_convert, onnx_machine, onnx_quantize

    if scheme.precision is not Precision.INT8 and scheme.io_dtype is not IoDtype.FLOAT32:
        raise UsageError(
            f"onnx-{scheme.precision} has float32 input and output, {scheme.io_dtype} was asked for",
            hint="use --io-dtype with onnx-int8",
        )
    model = onnx_convert.float_model(graph, progress)
    match scheme.precision:
        case Precision.FLOAT32:
            pass
        case Precision.FLOAT16:
            model = onnx_quantize.float16(model)
        case Precision.DYNAMIC:
            model = onnx_quantize.dynamic(model)
        case Precision.INT8:
            if message := onnx_machine.caveat(machine.detect()):
                progress.note(message)
            model = int8_model(model, graph, scheme, calibration, progress, spans=spans)
        case _:
            raise UsageError(
                f"ONNX Runtime has no {scheme.precision}",
                hint="onnx targets: float32, float16, dynamic, int8",
            )
    onnx_convert.save(model, out, check=lambda path: _verify(path, graph, scheme))
    return (out,)


def describe(path: Path) -> Artifact:
    """Read an artifact's inputs, outputs and operations back from its file.

    Raises:
        ArtifactError: The file is missing, damaged or no ONNX file, or its external data is missing.
    """
    from edgefx.targets import onnx_describe

    require("onnx", purpose="reading .onnx files")
    return onnx_describe.describe(path)


@contextmanager
def open(  # noqa: A001 - the Target protocol's word
    path: Path, threads: int, precision: Precision | None = None
) -> Iterator[Session]:
    """Open an artifact in ONNX Runtime's CPU provider with `threads` intra-op threads.

    Files of other origin may be NHWC or NCHW, of fixed or free batch, with float, uint8 or int8 input.

    Args:
        path: The ``.onnx`` file.
        threads: Intra-op threads.
        precision: Not used; an ONNX file itself says what it computes in.

    Raises:
        ArtifactError: The file is missing, damaged, not an image classifier, or ONNX Runtime refuses it.
    """
    del precision
    require("onnx", "onnxruntime", purpose="running .onnx files")
    from edgefx.targets.onnx_session import OrtSession

    session = OrtSession(path, threads)
    try:
        yield session
    finally:
        session.close()


# -------------------------------------------------------------------------------------------------- int8


def int8_model(
    model: onnx.ModelProto,
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet | None,
    progress: Progress,
    *,
    spans: Spans | None = None,
    intensity: float | None = None,
) -> onnx.ModelProto:
    """Quantize a tidy float32 model.

    `Effort.FAST` chooses ranges, the others also equalize channels, optimize the weights and leave out what
    INT8 costs too much; `Effort.HIGH` leaves out more.

    Args:
        model: From `onnx_convert.float_model`.
        graph: What it was made from.
        scheme: Ends, effort, layers kept in float.
        calibration: Images for the activation ranges.
        progress: Told of each pass over the images.
        spans: Ranges that a training found. Weights that were trained with them are rounded to the nearest
            level, whatever the effort.
        intensity: See `onnx_quantize.plan`.

    Raises:
        UsageError: No images, or a layer to be kept in float that does not exist.
        ConversionError: Nothing is left for INT8, or the float model overflows on an image.
    """
    from edgefx.targets import onnx_calibrate, onnx_channels, onnx_gates, onnx_quantize, onnx_rounding

    if calibration is None or not len(calibration):
        raise UsageError("onnx-int8 needs calibration images", hint="give a folder with --calib")
    _check_layers(scheme.keep_float, graph)
    thorough = scheme.effort is not Effort.FAST and spans is None
    seed, spared = scheme.seed, frozenset[str]()
    plan = onnx_quantize.plan(model, keep_float=scheme.keep_float, intensity=intensity)
    if thorough:
        model, errors = onnx_gates.equalize(model, plan, calibration, seed=seed, progress=progress)
        spared = onnx_quantize.spared(model, plan, errors, effort=scheme.effort)
    model = onnx_gates.split_biases(model, plan.dynamic - spared)
    plan = onnx_quantize.plan(model, keep_float=scheme.keep_float, spared=spared, intensity=intensity)
    extra: tuple[str, ...] = ()
    if scheme.io_dtype is not IoDtype.FLOAT32 and graph.spec.output is OutputKind.LOGITS:
        extra = (graph.output_name,)
    ranges = onnx_calibrate.ranges(model, plan, extra, calibration, progress, asked=scheme.ranges)
    channels = None
    if spans is not None:
        ranges |= _trained_ranges(model, spans)
    elif scheme.ranges is Ranges.AUTO:
        channels = onnx_channels.ranges(model, plan, calibration, seed=seed, progress=progress)
    codes = onnx_rounding.optimize(model, plan, calibration, seed=seed, progress=progress) if thorough else {}
    with progress.task("quantizing to int8"):
        return onnx_quantize.static(
            model,
            plan,
            ranges,
            io_dtype=scheme.io_dtype,
            output=graph.spec.output,
            codes=codes,
            channels=channels,
        )


def _trained_ranges(model: onnx.ModelProto, spans: Spans) -> dict[str, Range]:
    """Return the trained ranges by tensor."""
    from edgefx.quantize.ranges import Range
    from edgefx.targets import onnx_graph

    # What a layer computes on its way, such as the transposed image, is not what was trained.
    outputs = {onnx_graph.layer_of(result): result for node in model.graph.node for result in node.output}
    return {outputs[layer]: Range(*span) for layer, span in spans.items() if layer in outputs}


def _check_layers(names: Collection[str], graph: FrozenGraph) -> None:
    """Raise `UnknownNameError` when a layer to be kept in float does not exist."""
    known = [layer.name for layer in graph.layers]
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError("layer", name, known)


def _verify(path: Path, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the written file back; raise `ConversionError` when it is not what was asked for."""
    from edgefx.targets import onnx_describe

    found = onnx_describe.describe(path)
    got = [(end.name, end.dtype) for end in (*found.inputs, *found.outputs)]
    wanted = [(name, scheme.io_dtype.value) for name in (graph.input_name, graph.output_name)]
    problems = []
    if got != wanted:
        problems.append(f"inputs and outputs are {got}, asked for {wanted}")
    if scheme.precision is Precision.INT8 and not found.compute_int8:
        problems.append("no operation runs in INT8")
    if problems:
        raise ConversionError(
            f"the onnx-{scheme.precision} file is not what was asked for: {problems[0]}",
            hint="please report this model",
        )
