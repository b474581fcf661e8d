"""Quantize a tidy float32 ONNX model, in the forms that ONNX Runtime runs well.

Written here instead of calling `onnxruntime.quantization`, because for EfficientNets the form decides more
than the ranges do. Measured on an x86-64 CPU with VNNI, one thread, against the tidy float32 model
(EfficientNet-B0 / V2-B0):

- Everything in INT8: 1.05 x the time, since QLinearSigmoid and QLinearMul cost more than the float swish.
- A DequantizeLinear in front of a float convolution's weights is *not* folded when a session loads, because
  ONNX Runtime keeps it for its Q/DQ fusions: 2.3 x. Cast and Mul on the same weights are folded: 1.0 x.
- Only convolutions that do much arithmetic per value moved (`onnx_machine`), rest in float: 0.85 x / 0.70 x.
- Swish behind them as one ``com.microsoft.QuickGelu`` (ONNX Runtime would fuse Sigmoid and Mul to it by
  itself, but not behind a DequantizeLinear with two readers): 0.79 x / 0.62 x.
- The products of squeeze-and-excite with a range of their own for each image (`onnx_gates`), outputs in front
  of swish with a range per channel (`onnx_channels`), and the convolutions that err most in float: 0.82 x /
  0.67 x, for a tenth of the error. This is written.

Activations are uint8 and weights int8, which x86-64 CPUs without VNNI multiply with 16-bit saturation: there
the accuracy may be lower than measured on a CPU that has it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from edgefx.errors import UnknownNameError, UsageError
from edgefx.protocols import Progress
from edgefx.quantization import QuantScheme, Spans
from edgefx.quantize.ranges import Range
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.artifact import KEPT_FLOAT
from edgefx.runtimes.onnx.graph import Graph, swish_of, weights
from edgefx.runtimes.onnx.placement import Plan
from edgefx.runtimes.onnx.writer import ChannelRanges, Writer
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, OutputKind, Ranges

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


# --------------------------------------------------------------------------------------------- the forms


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as float16; a Cast, which ONNX Runtime folds at load, makes them float32 again.

    ONNX Runtime has no float16 convolution on most CPUs: a float16 graph runs with two conversions around
    every operation.
    """
    graph = Graph(model)
    writer = Writer(graph)
    for node in graph.nodes:
        for index in weights(node, graph):
            writer.store_float16(node, index)
        writer.nodes.append(node)
    return writer.finish()


def dynamic(model: onnx.ModelProto, *, unsigned: bool = False) -> onnx.ModelProto:
    """Store weights as INT8 per channel; dense layers quantize their input at run time.

    Convolutions compute in float32. Quantizing their inputs at run time too (DynamicQuantizeLinear and
    ConvInteger) is as accurate with per-channel weights, but 2.4 x to 5.4 x as slow as float32;
    `onnxruntime.quantization.quantize_dynamic` does it with one scale for all weights of a layer, which
    costs 46 percentage points on EfficientNet-B0. This form: 1.0 x, 0.27 x the size, 0.3 points.

    Args:
        model: The tidy float32 model.
        unsigned: See `Writer`.
    """
    graph = Graph(model)
    writer = Writer(graph, unsigned=unsigned)
    for node in graph.nodes:
        if node.op_type == "Gemm" and weights(node, graph) and _plain_gemm(node):
            writer.dynamic_gemm(node)
            continue
        for index in weights(node, graph):
            writer.store_int8(node, index)
        writer.nodes.append(node)
    return writer.finish()


def static(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Mapping[str, Range],
    *,
    io_dtype: IoDtype = IoDtype.FLOAT32,
    output: OutputKind = OutputKind.PROBABILITIES,
    codes: Mapping[str, NDArray[np.int8]] | None = None,
    channels: Mapping[str, ChannelRanges] | None = None,
    unsigned: bool = False,
) -> onnx.ModelProto:
    """Quantize the planned convolutions with Q/DQ pairs; store all other weights as INT8 per channel.

    Args:
        model: The tidy float32 model, the biases of the plan's dynamic convolutions split off.
        plan: From `plan`.
        ranges: Real range per tensor of the plan; with integer ends on logits also the output's.
        io_dtype: Element type of the graph's input and output.
        output: What the output means; probabilities span [0, 1].
        codes: Weights of convolutions where they are not just rounded, from `onnx_rounding`.
        channels: Tensors in front of a swish whose channels have ranges of their own.
        unsigned: See `Writer`.
    """
    codes, channels = codes or {}, channels or {}
    graph = Graph(model)
    shapes, readers = graph.shapes(), graph.consumers()
    writer = Writer(graph, unsigned=unsigned)
    output_name = graph.outputs[0].name
    quantized_by: set[str] = set()  # outputs of INT8 convolutions: all their readers must read the DQ
    fused: set[str] = set()
    for node in graph.nodes:
        result = node.output[0]
        if result in fused:
            continue
        if node.name in plan.dynamic:
            writer.dynamic_convolution(node, ranges[result], codes.get(node.name))
            continue
        if node.name in plan.convolutions:
            source = node.input[0]
            scale = writer.activation(source, ranges[source])
            writer.store_convolution(node, scale, codes.get(node.name), output=channels.get(result))
            node.input[0] = f"{source}/dequantized"
            writer.nodes.append(node)
            if result in channels:
                writer.channel_output(result, channels[result])
            else:
                writer.activation(result, ranges[result])
            quantized_by.add(result)
            continue
        mul = swish_of(node, readers)
        node.input[:] = [f"{name}/dequantized" if name in quantized_by else name for name in node.input]
        if mul is not None and node.input[0].endswith("/dequantized"):
            writer.quick_gelu(node, mul, shapes[mul.output[0]])
            fused.add(mul.output[0])
            continue
        _store(writer, node, codes.get(node.name), exact=node.name in plan.exact)
    if plan.exact:
        writer.note(KEPT_FLOAT, ",".join(sorted({onnx_graph.layer_of(name) for name in plan.exact})))
    if io_dtype is not IoDtype.FLOAT32:
        limits = Range(0.0, 1.0) if output is OutputKind.PROBABILITIES else ranges[output_name]
        writer.integer_ends(io_dtype, limits)
    return writer.finish()


def _store(writer: Writer, node: onnx.NodeProto, codes: NDArray[np.int8] | None, *, exact: bool) -> None:
    """Write a node that computes in float, its weights in fewer bits."""
    for index in weights(node, writer.graph):
        if exact:
            writer.store_float16(node, index, large_as_float32=True)
        else:
            writer.store_int8(node, index, codes)
    writer.nodes.append(node)


def _plain_gemm(node: onnx.NodeProto) -> bool:
    get = onnx_graph.attribute
    return (
        get(node, "alpha", 1.0) == 1.0
        and get(node, "beta", 1.0) == 1.0
        and get(node, "transA", 0) == 0
        and get(node, "transB", 0) == 0
    )


def int8_model(
    model: onnx.ModelProto,
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet | None,
    progress: Progress,
    *,
    spans: Spans | None = None,
    intensity: float | None = None,
    unsigned: bool = False,
) -> onnx.ModelProto:
    """Quantize a tidy float32 model.

    `Effort.FAST` chooses ranges, the others also equalize channels, optimize the weights and leave out what
    INT8 costs too much; `Effort.HIGH` leaves out more.

    Args:
        model: From `convert.float_model`.
        graph: What it was made from.
        scheme: Ends, effort, layers kept in float.
        calibration: Images for the activation ranges.
        progress: Told of each pass over the images.
        spans: Ranges that a training found. Weights that were trained with them are rounded to the nearest
            level, whatever the effort.
        intensity: See `placement.plan`.
        unsigned: See `Writer`.

    Raises:
        UsageError: No images, or a layer to be kept in float that does not exist.
        ConversionError: Nothing is left for INT8, or the float model overflows on an image.
    """
    from edgefx.runtimes.onnx import calibrate, equalize, gates, placement, rounding
    from edgefx.runtimes.onnx import channels as onnx_channels

    if calibration is None or not len(calibration):
        raise UsageError("onnx-int8 needs calibration images", hint="give a folder with --calib")
    _check_layers(scheme.keep_float, graph)
    thorough = scheme.effort is not Effort.FAST and spans is None
    seed, spared = scheme.seed, frozenset[str]()
    plan = placement.plan(model, keep_float=scheme.keep_float, intensity=intensity, hardware=scheme.hardware)
    if thorough:
        model, errors = equalize.equalize(model, plan, calibration, seed=seed, progress=progress)
        spared = placement.spared(model, plan, errors, effort=scheme.effort)
    model = gates.split_biases(model, plan.dynamic - spared)
    plan = placement.plan(
        model,
        keep_float=scheme.keep_float,
        spared=spared,
        intensity=intensity,
        hardware=scheme.hardware,
    )
    extra: tuple[str, ...] = ()
    if scheme.io_dtype is not IoDtype.FLOAT32 and graph.spec.output is OutputKind.LOGITS:
        extra = (graph.output_name,)
    ranges = calibrate.ranges(model, plan, extra, calibration, progress, asked=scheme.ranges)
    channels = None
    if spans is not None:
        ranges |= _trained_ranges(model, spans)
    elif scheme.ranges is Ranges.AUTO:
        channels = onnx_channels.ranges(model, plan, calibration, seed=seed, progress=progress)
    codes = rounding.optimize(model, plan, calibration, seed=seed, progress=progress) if thorough else {}
    with progress.task("quantizing to int8"):
        return static(
            model,
            plan,
            ranges,
            io_dtype=scheme.io_dtype,
            output=graph.spec.output,
            codes=codes,
            channels=channels,
            unsigned=unsigned,
        )


def _trained_ranges(model: onnx.ModelProto, spans: Spans) -> dict[str, Range]:
    """Return the trained ranges by tensor."""
    from edgefx.quantize.ranges import Range
    from edgefx.runtimes.onnx import graph as onnx_graph

    # What a layer computes on its way, such as the transposed image, is not what was trained.
    outputs = {onnx_graph.layer_of(result): result for node in model.graph.node for result in node.output}
    return {outputs[layer]: Range(*span) for layer, span in spans.items() if layer in outputs}


def _check_layers(names: Collection[str], graph: FrozenGraph) -> None:
    """Raise `UnknownNameError` when a layer to be kept in float does not exist."""
    known = [layer.name for layer in graph.layers]
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError("layer", name, known)
