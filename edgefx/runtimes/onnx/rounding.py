"""Round the weights of INT8 convolutions so that the errors cancel in what the convolution makes.

See `edgefx.quantize.gptq`. The second moments are not taken about the mean: no bias makes good here what
shifts it.

Measured on images that did not calibrate, logits' SQNR and mean KL: V2-B0 21.5 dB / 0.0068 -> 23.5 / 0.0027
and 21.5 / 0.0050 -> 23.4 / 0.0032 (either half of the calibration images), B0 25.9 / 0.0006 -> 26.9 / 0.0003.
Rounding the weights so that are only stored as INT8: B0 30.7 -> 31.9 dB, V2-B0 26.6 -> 26.7. Narrower steps
that clip the largest weights (least squared error per channel) won nothing beside it. Fitting the weights to
the quantized input by least squares first made the error on other images up to 6 dB larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.gptq import FloatArray, rounded
from edgefx.quantize.questions import Values
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.writer import weight_parameters
from edgefx.types import ImageSet

if TYPE_CHECKING:
    import onnx

    from edgefx.runtimes.onnx.placement import Placement

    Positions = NDArray[np.int64]

_POSITIONS = 50  # per image; neighbours say much the same; tuned: ablations onnx.rounding.POSITIONS
_TOGETHER = 10  # images between two matrix products: one for each image takes twice as long


def optimize(
    model: onnx.ModelProto, plan: Placement, calibration: ImageSet, *, seed: int, progress: Progress
) -> dict[str, NDArray[np.int8]]:
    """Return the codes of the dense convolutions' weights, shaped like these, by node name.

    The steps are those of `weight_parameters`. Memory: one matrix [K, K] per convolution, K = its input
    channels times its kernel's area; it does not grow with the images.

    Args:
        model: The float32 model that is going to be quantized.
        plan: Says which convolutions.
        calibration: Images of the model's size.
        seed: Of the positions that are looked at.
        progress: Told of each image and each convolution.
    """
    from edgefx.runtimes.onnx import calibrate

    graph = OnnxGraph(model)
    wanted = plan.convolutions | plan.stored
    nodes = [
        node
        for node in graph.nodes
        if node.name in wanted
        and graph.constants[node.input[1]].ndim == 4  # others are just rounded
        and onnx_graph.attribute(node, "group", 1) == 1
    ]
    correlated = _Correlated(graph, nodes, seed=seed)
    if nodes:
        calibrate.ask(model, [correlated], calibration, progress, label="correlating onnx-int8")
    codes = {}
    with progress.task("rounding onnx-int8 weights", len(nodes)) as task:
        for node in nodes:
            weight = graph.constants[node.input[1]]
            flat = weight.reshape(len(weight), -1)
            _, steps = weight_parameters(flat, 0)
            codes[node.name] = rounded(
                flat.astype(np.float64), steps.astype(np.float64), correlated.moments(node.name)
            ).reshape(weight.shape)
            task.advance()
    return codes


class _Correlated:
    """The sum of x xT over columns x that convolutions multiply weights with; see `questions.Question`."""

    def __init__(self, graph: OnnxGraph, nodes: Iterable[onnx.NodeProto], *, seed: int) -> None:
        shapes = graph.shapes()
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            readers.setdefault(node.input[0], []).append(node)
        self.names = tuple(readers)
        self._nodes = [node for reading in readers.values() for node in reading]
        self._sizes = [math.prod(shapes[node.output[0]][2:]) for node in self._nodes]
        self._generator = np.random.default_rng(seed)
        self._waiting: list[list[NDArray[np.float32]]] = []
        self._sums: dict[str, FloatArray] = {}

    def told(self) -> Iterator[list[Positions]]:
        while True:
            yield [self._generator.permutation(size)[:_POSITIONS] for size in self._sizes]

    def keep(self, told: list[Positions], values: Values) -> list[NDArray[np.float32]]:
        return [
            columns(values[node.input[0]], node, positions)
            for node, positions in zip(self._nodes, told, strict=True)
        ]

    def add(self, kept: list[NDArray[np.float32]]) -> None:
        self._waiting.append(kept)
        if len(self._waiting) == _TOGETHER:
            self._multiply()

    def moments(self, name: str) -> FloatArray:
        self._multiply()
        return self._sums[name]

    def _multiply(self) -> None:
        for node, parts in zip(self._nodes, zip(*self._waiting, strict=True), strict=False):
            x = np.concatenate(parts, axis=1)
            self._sums[node.name] = self._sums.get(node.name, 0) + (x @ x.T).astype(np.float64)
        self._waiting.clear()


def columns(value: NDArray[np.float32], node: onnx.NodeProto, positions: Positions) -> NDArray[np.float32]:
    """Return the columns that a convolution multiplies its weights [out, K] with at some positions, [K, n].

    Args:
        value: What it reads, [1, C, H, W].
        node: The convolution, ungrouped.
        positions: In what it makes, row by row.
    """
    seen = windows(value, node)
    width = seen.shape[2]
    picked = seen[:, positions // width, positions % width]  # [C, n, kh, kw]
    return np.ascontiguousarray(picked.transpose(0, 2, 3, 1)).reshape(-1, len(positions))


def windows(value: NDArray[np.float32], node: onnx.NodeProto) -> NDArray[np.float32]:
    """Return what a convolution's kernel sees at each position, a view: [C, height, width, kh, kw].

    Args:
        value: What it reads, [1, C, H, W].
        node: The convolution.
    """
    kernel = onnx_graph.integers(node, "kernel_shape", (1, 1))
    strides = onnx_graph.integers(node, "strides", (1, 1))
    dilations = onnx_graph.integers(node, "dilations", (1, 1))
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
    top, left, bottom, right = _pads(node, value.shape[2:], reach, strides)
    padded = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    return seen[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def _pads(
    node: onnx.NodeProto, size: tuple[int, ...], reach: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int, int, int]:
    automatic = onnx_graph.attribute(node, "auto_pad", b"NOTSET")
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
        top, left, bottom, right = onnx_graph.integers(node, "pads", (0, 0, 0, 0))
        return top, left, bottom, right
    missing = [
        max((-(-length // stride) - 1) * stride + extent - length, 0)
        for length, extent, stride in zip(size, reach, strides, strict=True)
    ]
    less, more = [amount // 2 for amount in missing], [amount - amount // 2 for amount in missing]
    first, second = (less, more) if automatic == b"SAME_UPPER" else (more, less)
    return first[0], first[1], second[0], second[1]
