"""ONNX INT8 from a trained model: its weights, rounded to the nearest, and its ranges as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.models.thaw import with_weights
from edgefx.quantize.fakequant import FakeQuantization
from edgefx.quantize.ranges import Range
from edgefx.targets import onnx, onnx_convert, onnx_gates, onnx_graph, onnx_quantize
from edgefx.types import FrozenGraph, ImageSet, IoDtype, OutputKind, Progress, QuantScheme

if TYPE_CHECKING:
    import onnx as onnx_package

    from edgefx.targets.onnx_quantize import Plan


def convert(
    trained: FakeQuantization,
    graph: FrozenGraph,
    scheme: QuantScheme,
    out: Path,
    *,
    calibration: ImageSet,
    progress: Progress,
) -> tuple[Path, ...]:
    """Write what was trained as an ``.onnx`` in the form that ONNX Runtime runs well.

    Which convolutions compute in INT8 is chosen as after training without it. Tensors that they read or
    write span the trained ranges; products with a gate take theirs from each image, as ever.

    Args:
        trained: Weights and grids after training.
        graph: The canonical graph, before training.
        scheme: Ends, and layers kept in float.
        out: The file to write.
        calibration: Images for a range that training did not know, such as that of logits as integers.
        progress: Told of each step.

    Raises:
        ConversionError: The graph cannot be converted, or nothing is left for INT8.
        OutputError: `out` cannot be written.
    """
    onnx.check()
    again = with_weights(graph, trained.canonical_weights(), graph.workdir / "trained")
    model = onnx_convert.float_model(again, progress)
    plan = onnx_quantize.plan(model, keep_float=scheme.keep_float)
    model = onnx_gates.split_biases(model, plan.dynamic)
    plan = onnx_quantize.plan(model, keep_float=scheme.keep_float)
    ranges = _ranges(model, plan, trained, again, scheme, calibration=calibration, progress=progress)
    with progress.task("quantizing to int8"):
        quantized = onnx_quantize.static(
            model, plan, ranges, io_dtype=scheme.io_dtype, output=graph.spec.output
        )
    onnx_convert.save(
        quantized,
        out,
        check=lambda path: onnx._verify(path, again, scheme),  # noqa: SLF001 - the same runtime
    )
    return (out,)


def _ranges(
    model: onnx_package.ModelProto,
    plan: Plan,
    trained: FakeQuantization,
    graph: FrozenGraph,
    scheme: QuantScheme,
    *,
    calibration: ImageSet,
    progress: Progress,
) -> dict[str, Range]:
    """The trained ranges by tensor; what training did not round is measured."""
    from edgefx.targets import onnx_calibrate

    found: dict[str, Range] = {}
    # What a layer computes on its way, such as the transposed image, is not what was trained.
    outputs = {onnx_graph.layer_of(result): result for node in model.graph.node for result in node.output}
    for tensor in plan.tensors:
        layer = onnx_graph.layer_of(tensor)
        span = trained.range_of(layer)
        if span is not None and outputs[layer] == tensor:
            found[tensor] = Range(*span)
    extra: tuple[str, ...] = ()
    if scheme.io_dtype is not IoDtype.FLOAT32 and graph.spec.output is OutputKind.LOGITS:
        extra = (graph.output_name,)
    missing = [tensor for tensor in plan.tensors if tensor not in found]
    if missing or extra:
        found = onnx_calibrate.ranges(model, plan, extra, calibration, progress) | found
    return found
