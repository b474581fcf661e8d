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

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefx.errors import ConversionError
from edgefx.quantize.ranges import Consumer, Range
from edgefx.targets import machine, onnx_gates, onnx_graph, onnx_machine
from edgefx.targets.onnx_describe import KEPT_FLOAT
from edgefx.targets.onnx_graph import Graph
from edgefx.targets.onnx_writer import ChannelRanges, Writer
from edgefx.types import Effort, IoDtype, OutputKind

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

# A small network may have no such convolution; an artifact called INT8 computes at least this share of the
# dense convolutions' work in INT8.
_LEAST_SHARE = 0.6
# Below which SQNR (dB) of its own output a convolution computes in float, and at most for which share of the
# planned multiply-accumulates. Sound layers have 30 dB and more; one at 25 dB errs by a twentieth.
_SPARED = {Effort.FAST: (0.0, 0.0), Effort.BALANCED: (25.0, 0.1), Effort.HIGH: (30.0, 0.25)}
_LINEAR = ("Conv", "Add", "GlobalAveragePool")
_SMALL = 1024  # weights with fewer values are not worth compressing


@dataclass(frozen=True)
class Plan:
    """What runs in INT8.

    Attributes:
        convolutions: Names of the convolutions computed on integers.
        tensors: The activations that are quantized for them, each with what it feeds.
        products: Those of the tensors that are outputs of a Mul, such as swish.
        dynamic: Those of the convolutions whose input takes its range from the image at hand; only their
            output is among the tensors.
        exact: Nodes whose weights are not to be rounded to INT8 either.
        stored: Dense convolutions of maps that compute in float on weights stored as INT8.
    """

    convolutions: frozenset[str]
    tensors: Mapping[str, Consumer]
    products: frozenset[str]
    dynamic: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()


def plan(
    model: onnx.ModelProto,
    *,
    keep_float: Collection[str] = (),
    spared: Collection[str] = (),
    intensity: float | None = None,
) -> Plan:
    """Choose the convolutions that gain from INT8 and list the tensors whose ranges they need.

    Args:
        model: The tidy float32 model; biases of gated convolutions may be split off.
        keep_float: Layers that stay as they are. Others do not take their place.
        spared: Convolutions that compute in float, on weights stored as INT8, from `spared`.
        intensity: Multiply-accumulates per value moved from which INT8 is faster; that of this machine's
            class where none is given.

    Raises:
        ConversionError: The model has no convolution with constant weights at all, or none is left.
    """
    if intensity is None:
        intensity = onnx_machine.intensity(machine.detect())
    graph = Graph(model)
    shapes, readers, producers = graph.shapes(), graph.consumers(), graph.producers()
    candidates = [
        (macs / traffic, macs, node)
        for node in graph.nodes
        if (found := _work(node, graph, shapes)) is not None
        for macs, traffic in [found]
    ]
    if not candidates:
        raise ConversionError(
            "the model has no convolution that could run in INT8", hint="is it an EfficientNet?"
        )
    candidates.sort(key=lambda candidate: -candidate[0])  # stable: equal ones stay in graph order
    needed, chosen = _LEAST_SHARE * sum(macs for _, macs, _ in candidates), []
    for own_intensity, macs, node in candidates:
        if own_intensity < intensity and needed <= 0:
            break
        chosen.append(node)
        needed -= macs
    exact = frozenset(node.name for node in graph.nodes if onnx_graph.layer_of(node.name) in keep_float)
    chosen = [node for node in chosen if node.name not in exact and node.name not in spared]
    if not chosen:
        raise ConversionError(
            "all convolutions that could run in INT8 are to be kept in float",
            hint="use onnx-float32, or keep fewer layers in float",
        )
    dynamic = frozenset(entry.convolution for entry in onnx_gates.find(graph, [node.name for node in chosen]))
    tensors: dict[str, Consumer] = {}
    for node in chosen:
        for name in (*([] if node.name in dynamic else [node.input[0]]), node.output[0]):
            tensors[name] = _consumer(name, readers, producers)
    return Plan(
        convolutions=frozenset(node.name for node in chosen),
        tensors=tensors,
        products=frozenset(
            name for name in tensors if name in producers and producers[name].op_type == "Mul"
        ),
        dynamic=dynamic,
        exact=exact,
        stored=frozenset(
            node.name
            for _, _, node in candidates
            if node not in chosen and node.name not in exact and _weights(node, graph)
        ),
    )


def spared(
    model: onnx.ModelProto, plan: Plan, errors: Mapping[str, float], *, effort: Effort
) -> frozenset[str]:
    """Choose the convolutions that compute in float because INT8 would cost them too much, the worst first.

    Four of V2-B0's 40, none of B0's 26 lie below 25 dB; without them V2-B0's logits gain 2 dB for 0.02 of its
    float time.

    Args:
        model: The float32 model.
        plan: What would run in INT8.
        errors: Error over output energy by convolution, from `onnx_gates`.
        effort: What accuracy is worth.
    """
    limit_db, most = _SPARED[effort]
    graph = Graph(model)
    shapes = graph.shapes()
    work = {
        node.name: found[0]
        for node in graph.nodes
        if node.name in plan.convolutions and (found := _work(node, graph, shapes)) is not None
    }
    left, chosen = most * sum(work.values()), set()
    for name in sorted(errors, key=lambda name: (-errors[name], name)):
        left -= work[name]
        if left < 0 or errors[name] < 10 ** (-limit_db / 10):
            break
        chosen.add(name)
    return frozenset(chosen)


def _work(
    node: onnx.NodeProto, graph: Graph, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, int] | None:
    """Return multiply-accumulates and values moved of a dense convolution of maps, None for all else.

    Depthwise convolutions gained nothing from INT8, convolutions of pooled vectors have nothing to gain.
    """
    if node.op_type != "Conv" or node.input[1] not in graph.constants:
        return None
    weight = graph.constants[node.input[1]].shape
    source, result = shapes.get(node.input[0]), shapes.get(node.output[0])
    if source is None or result is None or onnx_graph.attribute(node, "group", 1) != 1:
        return None
    if math.prod(source[2:]) == 1:
        return None
    return math.prod(result) * math.prod(weight[1:]), math.prod(source) + math.prod(result)


def _consumer(
    tensor: str, readers: Mapping[str, list[onnx.NodeProto]], producers: Mapping[str, onnx.NodeProto]
) -> Consumer:
    """Tell what a tensor is and feeds, for the choice of its range."""
    by_type = {node.op_type: node for node in readers.get(tensor, ())}
    count = len(readers.get(tensor, ()))
    if count == 1 and "Sigmoid" in by_type:
        return Consumer.SIGMOID
    if count == 2 and set(by_type) == {"Sigmoid", "Mul"} and _is_swish(by_type["Sigmoid"], by_type["Mul"]):
        return Consumer.SWISH
    return (
        Consumer.LINEAR if tensor in producers and producers[tensor].op_type in _LINEAR else Consumer.GENERIC
    )


def _swish_of(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> onnx.NodeProto | None:
    """Return the Mul of a swish when `node` is its Sigmoid and nothing else reads what they share."""
    if node.op_type != "Sigmoid" or len(readers[node.input[0]]) != 2 or len(readers[node.output[0]]) != 1:
        return None
    mul = readers[node.output[0]][0]
    return mul if mul.op_type == "Mul" and _is_swish(node, mul) else None


def _is_swish(sigmoid: onnx.NodeProto, mul: onnx.NodeProto) -> bool:
    return set(mul.input) == {sigmoid.input[0], sigmoid.output[0]}


# --------------------------------------------------------------------------------------------- the forms


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as float16; a Cast, which ONNX Runtime folds at load, makes them float32 again.

    ONNX Runtime has no float16 convolution on most CPUs: a float16 graph runs with two conversions around
    every operation.
    """
    graph = Graph(model)
    writer = Writer(graph)
    for node in graph.nodes:
        for index in _weights(node, graph):
            writer.store_float16(node, index)
        writer.nodes.append(node)
    return writer.finish()


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as INT8 per channel; dense layers quantize their input at run time.

    Convolutions compute in float32. Quantizing their inputs at run time too (DynamicQuantizeLinear and
    ConvInteger) is as accurate with per-channel weights, but 2.4 x to 5.4 x as slow as float32;
    `onnxruntime.quantization.quantize_dynamic` does it with one scale for all weights of a layer, which
    costs 46 percentage points on EfficientNet-B0. This form: 1.0 x, 0.27 x the size, 0.3 points.
    """
    graph = Graph(model)
    writer = Writer(graph)
    for node in graph.nodes:
        if node.op_type == "Gemm" and _weights(node, graph) and _plain_gemm(node):
            writer.dynamic_gemm(node)
            continue
        for index in _weights(node, graph):
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
    """
    codes, channels = codes or {}, channels or {}
    graph = Graph(model)
    shapes, readers = graph.shapes(), graph.consumers()
    writer = Writer(graph)
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
        mul = _swish_of(node, readers)
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
    for index in _weights(node, writer.graph):
        if exact:
            writer.store_float16(node, index, large_as_float32=True)
        else:
            writer.store_int8(node, index, codes)
    writer.nodes.append(node)


def _weights(node: onnx.NodeProto, graph: Graph) -> list[int]:
    """Return the input positions of a node's weights that are worth storing in fewer bits."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return []
    return [
        index
        for index in (1,)
        if node.input[index] in graph.constants and graph.constants[node.input[index]].size >= _SMALL
    ]


def _plain_gemm(node: onnx.NodeProto) -> bool:
    get = onnx_graph.attribute
    return (
        get(node, "alpha", 1.0) == 1.0
        and get(node, "beta", 1.0) == 1.0
        and get(node, "transA", 0) == 0
        and get(node, "transB", 0) == 0
    )
