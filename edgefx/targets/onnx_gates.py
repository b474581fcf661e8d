"""Prepare the convolutions that read a gated map (squeeze-and-excite) for INT8.

The product of map and gate loses most of all tensors: on V2-B0 its quantization alone brings the logits'
SQNR down to 19.5 dB, all other convolution inputs together to 30. Two reasons, two remedies:

- A channel may be 50 times as large for one image as for most, and another one for the next. Such a tensor
  takes its range from the image at hand (DynamicQuantizeLinear). Mean KL to the float model 0.016 -> 0.006
  and 0.011 -> 0.005 (V2-B0, either half of the calibration images), 0.0009 -> 0.0005 (B0), at the same
  latency.
- Some channels are larger than the others for all images. Dividing them by a factor in the gate, a vector,
  and multiplying their weights with it is exact, and costs one Mul of a vector (Nagel et al., "Data-free
  quantization through weight equalization and bias correction", 2019; Xiao et al., "SmoothQuant", 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.quantize.ranges import Range
from edgefx.targets.onnx_graph import Graph
from edgefx.targets.onnx_writer import activation_parameters, weight_parameters
from edgefx.types import ImageSet, Progress

if TYPE_CHECKING:
    import onnx

    from edgefx.targets.onnx_quantize import Plan

FloatArray = NDArray[np.float32]

_POSITIONS = 32  # per image, of which the error of a choice is measured
_SMALLEST = 1e-6  # a channel that is dead for all images counts as this share of the largest


@dataclass(frozen=True)
class Gated:
    """A convolution that reads the product of a map and a gate.

    Attributes:
        convolution: Its node's name.
        product: The tensor it reads.
        gate: The tensor [1, C, 1, 1] that the map is multiplied with.
    """

    convolution: str
    product: str
    gate: str


def find(graph: Graph, convolutions: Iterable[str]) -> list[Gated]:
    """Return those of the convolutions that alone read a map times its gate, in graph order."""
    shapes, producers, readers = graph.shapes(), graph.producers(), graph.consumers()
    wanted, found = set(convolutions), []
    for node in graph.nodes:
        product = node.input[0] if node.name in wanted else ""
        mul = producers.get(product)
        if mul is None or mul.op_type != "Mul" or len(readers[product]) != 1:
            continue
        shape = shapes.get(product, ())
        vector = (*shape[:2], *(1,) * len(shape[2:]))
        gates = [name for name in mul.input if name in producers and shapes.get(name) == vector]
        if len(gates) == 1 and vector != shape:
            found.append(Gated(convolution=node.name, product=product, gate=gates[0]))
    return found


def split_biases(model: onnx.ModelProto, convolutions: Iterable[str]) -> onnx.ModelProto:
    """Move the biases of convolutions into an Add behind them.

    A bias is stored in units of the input's scale, which is not known before an image is.
    """
    from onnx import helper

    graph, wanted, nodes = Graph(model), set(convolutions), []
    for node in graph.nodes:
        nodes.append(node)
        if node.name not in wanted or len(node.input) < 3 or node.input[2] not in graph.constants:
            continue
        bias, result = node.input.pop(), node.output[0]
        graph.constants[bias] = graph.constants[bias].reshape(1, -1, 1, 1)
        node.output[0] = f"{node.name}/unbiased"
        nodes.append(helper.make_node("Add", [node.output[0], bias], [result], name=f"{node.name}/bias"))
    graph.nodes = nodes
    return graph.model()


def equalize(
    model: onnx.ModelProto, plan: Plan, calibration: ImageSet, *, seed: int, progress: Progress
) -> onnx.ModelProto:
    """Give the channels of gated products factors, where that lowers the error of what the convolution makes.

    Candidates are made from one half of the calibration images and judged on the other half, each with its
    rounding of products and weights.

    Args:
        model: The tidy float32 model.
        plan: Says which convolutions.
        calibration: Images of the model's size.
        seed: Of the positions that are looked at.
        progress: Told of each image.
    """
    from edgefx.targets.onnx_calibrate import activations

    graph = Graph(model)
    gated = find(graph, plan.dynamic)
    if len(calibration) < 2 or not gated:
        return model
    weights = {node.name: graph.constants[node.input[1]] for node in graph.nodes if node.name in plan.dynamic}
    samples: dict[str, list[_Sample]] = {entry.product: [] for entry in gated}
    generator = np.random.default_rng(seed)
    for found in activations(model, list(samples), calibration, progress, label="measuring onnx-int8 gates"):
        for name, value in found.items():
            columns = value.reshape(value.shape[1], -1)
            chosen = generator.permutation(columns.shape[1])[:_POSITIONS]
            samples[name].append(_Sample(columns[:, chosen], columns.min(axis=1), columns.max(axis=1)))
    with progress.task("equalizing onnx-int8 gates", len(gated)) as task:
        factors = {}
        for entry in gated:
            kernel = weights[entry.convolution]
            if kernel.shape[2:] == (1, 1):
                chosen_factors = _choose(kernel[:, :, 0, 0], samples[entry.product])
                if chosen_factors is not None:
                    factors[entry.convolution] = chosen_factors
            task.advance()
    return apply_factors(model, factors)


def apply_factors(model: onnx.ModelProto, factors: Mapping[str, FloatArray]) -> onnx.ModelProto:
    """Multiply gates with factors [C] and divide the weights behind them, by convolution."""
    from onnx import helper

    graph = Graph(model)
    by_name = {node.name: node for node in graph.nodes}
    producers = graph.producers()
    for entry in find(graph, factors):
        factor = factors[entry.convolution].reshape(1, -1, 1, 1)
        convolution, product = by_name[entry.convolution], producers[entry.product]
        weight = graph.constants[convolution.input[1]] / factor
        convolution.input[1] = graph.derive(convolution.input[1], weight.astype(np.float32))
        scaled = f"{entry.gate}/equalized"
        graph.constants[f"{scaled}/factor"] = factor
        product.input[:] = [scaled if name == entry.gate else name for name in product.input]
        node = helper.make_node("Mul", [entry.gate, f"{scaled}/factor"], [scaled], name=scaled)
        graph.nodes.insert(graph.nodes.index(product), node)
    return graph.model()


@dataclass(frozen=True)
class _Sample:
    """What one image makes of a product: some positions [C, n], and each channel's extremes [C]."""

    columns: FloatArray
    low: FloatArray
    high: FloatArray


def _choose(weight: FloatArray, samples: list[_Sample]) -> FloatArray | None:
    """Return the factors of least error, or None where none of them helps."""
    extremes = np.max([np.maximum(sample.high, -sample.low) for sample in samples[::2]], axis=0)
    if not extremes.max() > 0:
        return None
    extremes = np.maximum(extremes, _SMALLEST * extremes.max())
    best, least = None, _error(weight, np.ones_like(extremes), samples[1::2])
    for candidate in _candidates(extremes):
        error = _error(weight, candidate, samples[1::2])
        if error < least:
            best, least = candidate, error
    return best


def _candidates(extremes: FloatArray) -> Iterable[FloatArray]:
    # Weights would lose more than products gain from larger exponents. Measured against larger sets of
    # candidates (also from means and second moments, and with the weights' own size): those won nothing more.
    for exponent in (0.25, 0.5):
        yield (extremes**-exponent).astype(np.float32)
    for share in (0.8, 0.9):  # only the largest channels are reduced
        yield np.minimum(1, np.quantile(extremes, share) / extremes).astype(np.float32)


def _error(weight: FloatArray, factors: FloatArray, samples: list[_Sample]) -> float:
    """Return the mean squared error of a convolution's output with dynamic INT8 products and INT8 weights."""
    equalized = weight / factors
    codes, scale = weight_parameters(equalized, 0)
    rounded = codes * scale[:, None]
    total = 0.0
    for sample in samples:
        ends = Range(float((sample.low * factors).min()), float((sample.high * factors).max()))
        step, zero = activation_parameters(ends)
        columns = sample.columns * factors[:, None]
        quantized = (np.clip(np.round(columns / step) + zero, 0, 255) - zero) * step
        total += float(np.square(equalized @ columns - rounded @ quantized.astype(np.float32)).mean())
    return total
