"""Which convolutions and products of an ONNX model run in INT8."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefx.errors import ConversionError
from edgefx.hardware import Form, Role, RuntimeProfile
from edgefx.quantize.ranges import Consumer
from edgefx.runtimes.onnx import gates, profile
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.graph import is_swish as _is_swish
from edgefx.runtimes.onnx.graph import weights as _weights
from edgefx.runtimes.onnx.passes import SPARED
from edgefx.types import Effort
from edgefx.vocabulary import Hardware

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Placement:
    """What runs in INT8.

    Attributes:
        convolutions: Names of the convolutions computed on integers.
        tensors: The activations that are quantized for them, each with what it feeds.
        dynamic: Those of the convolutions whose input takes its range from the image at hand; only their
            output is among the tensors.
        kept: Nodes whose weights are not to be rounded to INT8 either.
        stored: Dense convolutions of maps that compute in float on weights stored as INT8.
    """

    convolutions: frozenset[str]
    tensors: Mapping[str, Consumer]
    dynamic: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()


def plan(
    model: onnx.ModelProto,
    *,
    keep_float: Collection[str] = (),
    costly: Collection[str] = (),
    intensity: float | None = None,
    hardware: Hardware = Hardware.OTHER,
    measured: RuntimeProfile | None = None,
) -> Placement:
    """Choose the convolutions that gain from INT8 and list the tensors whose ranges they need.

    Where it was measured what gains, nothing else is chosen, and maybe nothing at all: the weights are then
    stored as INT8, and all is computed in float.

    Args:
        model: The tidy float32 model; biases of gated convolutions may be split off.
        keep_float: Layers that stay as they are. Others do not take their place.
        costly: Convolutions that compute in float, on weights stored as INT8, from `costly`.
        intensity: Multiply-accumulates per value moved from which INT8 is faster; that of the hardware where
            none is given.
        hardware: The class of CPU that the artifact is for.
        measured: What was measured of ONNX Runtime there, unless `intensity` is given.

    Raises:
        ConversionError: The model has no convolution with constant weights at all, or none is left.
    """
    graph = OnnxGraph(model)
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
    if intensity is not None or measured is None:
        measured = None
        chosen = _above(candidates, profile.intensity(hardware) if intensity is None else intensity)
    else:
        chosen = [node for _, _, node in candidates if measured.pays(form_of(node, graph, shapes, readers))]
    kept = frozenset(node.name for node in graph.nodes if onnx_graph.layer_of(node.name) in keep_float)
    chosen = [node for node in chosen if node.name not in kept and node.name not in costly]
    if not chosen and measured is None:
        raise ConversionError(
            "all convolutions that could run in INT8 are to be kept in float",
            hint="use onnx-float32, or keep fewer layers in float",
        )
    chosen += _between(graph, chosen, kept=kept | frozenset(costly))
    dynamic = frozenset(entry.convolution for entry in gates.find(graph, [node.name for node in chosen]))
    tensors: dict[str, Consumer] = {}
    for node in chosen:
        result = node.output[0]
        if node.name not in dynamic and (clamp := onnx_graph.clamp_of(node, readers, graph)):
            result = clamp[0].output[0]  # what it cuts off needs no code
        for name in (*([] if node.name in dynamic else [node.input[0]]), result):
            tensors[name] = _consumer(name, readers, producers)
    return Placement(
        convolutions=frozenset(node.name for node in chosen),
        tensors=tensors,
        dynamic=dynamic,
        kept=kept,
        stored=frozenset(
            node.name
            for _, _, node in candidates
            if node not in chosen and node.name not in kept and _weights(node, graph)
        ),
    )


def _above(candidates: list[tuple[float, int, onnx.NodeProto]], intensity: float) -> list[onnx.NodeProto]:
    """Choose the convolutions by their arithmetic per value, the most first.

    Args:
        candidates: Arithmetic per value, multiply-accumulates and node of each.
        intensity: From where INT8 is faster; those below are chosen, too, until enough are.
    """
    needed, chosen = _LEAST_SHARE * sum(macs for _, macs, _ in candidates), []
    for own_intensity, macs, node in sorted(candidates, key=lambda candidate: -candidate[0]):  # stable
        if own_intensity < intensity and needed <= 0:
            break
        chosen.append(node)
        needed -= macs
    return chosen


def form_of(
    node: onnx.NodeProto,
    graph: OnnxGraph,
    shapes: Mapping[str, tuple[int, ...]],
    readers: Mapping[str, list[onnx.NodeProto]],
) -> Form:
    """Return a dense convolution of maps in the terms of hardware profiles."""
    weight = graph.constants[node.input[1]].shape
    role = Role.PLAIN
    if gates.find(graph, [node.name]):
        role = Role.GATED
    elif any(onnx_graph.swish_of(reader, readers) is not None for reader in readers[node.output[0]]):
        role = Role.SWISH
    height, width = (*shapes[node.input[0]][2:], 1)[:2]
    return Form(
        role=role,
        kernel=max(weight[2:]),
        stride=max(onnx_graph.integers(node, "strides", (1,))),
        inputs=weight[1],
        outputs=weight[0],
        height=height,
        width=width,
    )


def _between(
    graph: OnnxGraph, chosen: Collection[onnx.NodeProto], *, kept: Collection[str]
) -> list[onnx.NodeProto]:
    """Return the depthwise convolutions that integers go into and come out of without a conversion.

    Behind a convolution whose ReLU is part of its grid the codes are there, and another ReLU behind the
    depthwise convolution makes them again. In float it would have to convert both.
    """
    readers = graph.consumers()
    integers = {
        clamp[0].output[0]
        for node in chosen
        if (clamp := onnx_graph.clamp_of(node, readers, graph)) is not None
    }
    return [
        node
        for node in graph.nodes
        if node.op_type == "Conv"
        and node.input[0] in integers
        and node.input[1] in graph.constants
        and onnx_graph.attribute(node, "group", 1) == len(graph.constants[node.input[1]])
        and onnx_graph.clamp_of(node, readers, graph) is not None
        and node.name not in kept
    ]


def costly(
    model: onnx.ModelProto, plan: Placement, errors: Mapping[str, float], *, effort: Effort
) -> frozenset[str]:
    """Choose the convolutions that compute in float because INT8 would cost them too much, the worst first.

    Four of V2-B0's 40, none of B0's 26 lie below 25 dB; without them V2-B0's logits gain 2 dB for 0.02 of its
    float time.

    Args:
        model: The float32 model.
        plan: What would run in INT8.
        errors: Error over output energy by convolution, from `equalize`.
        effort: What accuracy is worth: one that spares convolutions at all.
    """
    limit_db, most = SPARED[effort]
    graph = OnnxGraph(model)
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
    node: onnx.NodeProto, graph: OnnxGraph, shapes: Mapping[str, tuple[int, ...]]
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


# A small network may have no such convolution; an artifact called INT8 computes at least this share of the
# dense convolutions' work in INT8.
_LEAST_SHARE = 0.6  # tuned: ablations onnx.placement.LEAST_SHARE


# What Clip and Relu make is exact too: on a MobileNetV2 the mean of the extremes costs 1.5 dB of the logits.
_LINEAR = ("Conv", "Add", "GlobalAveragePool", "Clip", "Relu")
