"""Move biases by what rounding shifts the mean of each channel.

Rounded weights and clipped or rounded activations do not only add noise: they move the mean of what a
convolution makes, channel by channel, and each layer adds to what it gets. Depthwise convolutions, of nine
weights a channel, are the worst. The shift is known exactly for one layer at a time, from the float
activations: ``W E[x] - Wq E[Q(x)]`` (Nagel et al., "Data-free quantization through weight equalization and
bias correction", 2019, section 4.2).

Done in networks of ReLUs, where most of the noise is such a shift: a MobileNetV2 fine-tuned on flowers gains
4 dB at the logits without GPTQ and 2 dB with it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Values
from edgefx.quantize.ranges import Range
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.rounding import windows
from edgefx.runtimes.onnx.writer import activation_parameters, weight_parameters
from edgefx.types import ImageSet

if TYPE_CHECKING:
    import onnx

    from edgefx.runtimes.onnx.placement import Placement

FloatArray = NDArray[np.float64]


def correct(
    model: onnx.ModelProto,
    plan: Placement,
    ranges: Mapping[str, Range],
    codes: Mapping[str, NDArray[np.int8]],
    *,
    calibration: ImageSet,
    progress: Progress,
) -> onnx.ModelProto:
    """Return the float model with biases that make up for the shifts of the quantization to come.

    Args:
        model: The float32 model that is going to be quantized.
        plan: Says what runs in INT8.
        ranges: Of the plan's tensors.
        codes: Weights where they are not just rounded, by node.
        calibration: Images of the model's size.
        progress: Told of each image.
    """
    from edgefx.runtimes.onnx import calibrate

    graph = OnnxGraph(model)
    readers = graph.consumers()
    if not any(
        node.name in plan.convolutions and onnx_graph.clamp_of(node, readers, graph) for node in graph.nodes
    ):
        return model
    nodes = [node for node in graph.nodes if _is_rounded(node, graph, plan)]
    seen = _Means(nodes, ranges, plan.convolutions)
    calibrate.ask(model, [seen], calibration, progress, label="correcting onnx-int8 biases")
    for node in nodes:
        exact, rounded = (total / len(calibration) for total in seen.sums[node.name])
        weight = graph.constants[node.input[1]].astype(np.float64)
        nearest, scale = weight_parameters(graph.constants[node.input[1]], 0)
        stored = codes.get(node.name, nearest) * scale.astype(np.float64).reshape(-1, 1, 1, 1)
        _move(graph, node, _product(weight, exact) - _product(stored, rounded))
    return graph.model()


class _Means:
    """The mean of what each weight is multiplied with, exact and rounded; see `questions.Question`.

    Attributes:
        sums: Both by node, summed over the images, each [C, kh, kw].
    """

    def __init__(
        self, nodes: Sequence[onnx.NodeProto], ranges: Mapping[str, Range], integer: Container[str]
    ) -> None:
        self.names = tuple(dict.fromkeys(node.input[0] for node in nodes))
        self.sums: dict[str, list[FloatArray]] = {}
        self._nodes = nodes
        self._grids = [ranges.get(node.input[0]) if node.name in integer else None for node in nodes]

    def told(self) -> Iterator[None]:
        return repeat(None)

    def keep(self, _: None, values: Values) -> list[tuple[FloatArray, FloatArray]]:
        kept = []
        for node, grid in zip(self._nodes, self._grids, strict=True):
            value = values[node.input[0]]
            exact = _mean_columns(value, node)
            kept.append((exact, exact if grid is None else _mean_columns(_rounded(value, grid), node)))
        return kept

    def add(self, kept: list[tuple[FloatArray, FloatArray]]) -> None:
        for node, both in zip(self._nodes, kept, strict=True):
            before = self.sums.setdefault(node.name, [np.zeros_like(part) for part in both])
            self.sums[node.name] = [total + part for total, part in zip(before, both, strict=True)]


def _is_rounded(node: onnx.NodeProto, graph: OnnxGraph, plan: Placement) -> bool:
    """Whether a node is a convolution of maps whose weights are stored as INT8, with a bias of its own."""
    return (
        node.op_type == "Conv"
        and (node.name in plan.convolutions or bool(onnx_graph.weights(node, graph)))
        and graph.constants[node.input[1]].ndim == 4
        and node.name not in plan.kept
        and node.name not in plan.dynamic
        and onnx_graph.attribute(node, "group", 1) in (1, len(graph.constants[node.input[1]]))
    )


def _rounded(value: NDArray[np.float32], limits: Range) -> NDArray[np.float32]:
    scale, zero_point = activation_parameters(limits)
    codes = np.clip(np.round(value / scale) + zero_point, 0, 255)
    return ((codes - zero_point) * scale).astype(np.float32)


def _mean_columns(value: NDArray[np.float32], node: onnx.NodeProto) -> FloatArray:
    """Return the mean over all positions of what each weight is multiplied with, [C, kh, kw]."""
    mean: FloatArray = windows(value, node).mean(axis=(1, 2), dtype=np.float64)
    return mean


def _product(weight: FloatArray, columns: FloatArray) -> FloatArray:
    """Return the mean of each output channel: weights [out, in / groups, kh, kw] times columns."""
    if weight.shape[1] == 1 and len(weight) == len(columns):
        return np.asarray((weight[:, 0] * columns).sum(axis=(1, 2)))
    return np.asarray(weight.reshape(len(weight), -1) @ columns.reshape(-1))


def _move(graph: OnnxGraph, node: onnx.NodeProto, shift: FloatArray) -> None:
    """Add to a convolution's bias."""
    if len(node.input) < 3:
        node.input.append(graph.derive(node.input[1], shift.astype(np.float32)))
        return
    moved = graph.constants[node.input[2]] + shift
    node.input[2] = graph.derive(node.input[2], moved.astype(np.float32))
