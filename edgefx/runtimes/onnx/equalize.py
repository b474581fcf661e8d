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

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Values
from edgefx.runtimes.onnx.gates import Gated, find
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.writer import weight_parameters
from edgefx.system.parallel import ordered
from edgefx.types import ImageSet

if TYPE_CHECKING:
    import onnx

    from edgefx.runtimes.onnx.placement import Placement

FloatArray = NDArray[np.float32]
Positions = NDArray[np.int64]

# tuned: ablations onnx.equalize.POSITIONS
_POSITIONS = 32  # per image, of which the error of a choice is measured
_SMALLEST = 1e-6  # a channel that is dead for all images counts as this share of the largest


def equalize(
    model: onnx.ModelProto, plan: Placement, calibration: ImageSet, *, seed: int, progress: Progress
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Give the channels of gated products factors, where that lowers the error of what the convolution makes.

    Candidates are made from one half of the calibration images and judged on the other half, each with its
    rounding of products and weights.

    Args:
        model: The tidy float32 model.
        plan: Says which convolutions.
        calibration: Images of the model's size.
        seed: Of the positions that are looked at.
        progress: Told of each image.

    Returns:
        The model, and by convolution the share of its output's energy that is error then.
    """
    from edgefx.runtimes.onnx import calibrate

    graph = OnnxGraph(model)
    gated = [
        entry
        for entry in find(graph, plan.dynamic)
        if graph.constants[_named(graph, entry.convolution).input[1]].shape[2:] == (1, 1)
    ]
    if len(calibration) < 2 or not gated:
        return model, {}
    sampled = _Sampled(OnnxGraph(model), [entry.product for entry in gated], seed=seed)
    calibrate.ask(model, [sampled], calibration, progress, label="measuring onnx-int8 gates")
    factors, errors = {}, {}

    def chosen(entry: Gated) -> tuple[FloatArray | None, float]:
        weight = graph.constants[_named(graph, entry.convolution).input[1]][:, :, 0, 0]
        return _choose(weight, sampled.found[entry.product])

    with progress.task("equalizing onnx-int8 gates", len(gated)) as task:
        for entry, (best, error) in zip(gated, ordered(chosen, gated), strict=True):
            errors[entry.convolution] = error
            if best is not None:
                factors[entry.convolution] = best
            task.advance()
    return apply_factors(model, factors), errors


def _named(graph: OnnxGraph, name: str) -> onnx.NodeProto:
    return next(node for node in graph.nodes if node.name == name)


def apply_factors(model: onnx.ModelProto, factors: Mapping[str, FloatArray]) -> onnx.ModelProto:
    """Multiply gates with factors [C] and divide the weights behind them, by convolution."""
    from onnx import helper

    graph = OnnxGraph(model)
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
    """What some images make of a product.

    Attributes:
        columns: Positions of all images, [C, images * positions].
        low: Least value of each channel, [C, images].
        high: Largest value of each channel, [C, images].
    """

    columns: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def join(cls, parts: list[_Sample]) -> _Sample:
        """Put images side by side."""
        return cls(
            *(np.concatenate([getattr(part, field.name) for part in parts], 1) for field in fields(cls))
        )


class _Sampled:
    """Positions of some maps [1, C, H, W], and their channels' extremes; see `questions.Question`."""

    def __init__(self, graph: OnnxGraph, names: Sequence[str], *, seed: int) -> None:
        shapes = graph.shapes()
        self.found: dict[str, list[_Sample]] = {name: [] for name in names}
        self._sizes = [math.prod(shapes[name][2:]) for name in names]
        self._generator = np.random.default_rng(seed)

    @property
    def names(self) -> Collection[str]:
        return self.found.keys()

    def told(self) -> Iterator[list[Positions]]:
        while True:
            yield [self._generator.permutation(size)[:_POSITIONS] for size in self._sizes]

    def keep(self, told: list[Positions], values: Values) -> list[_Sample]:
        kept = []
        for name, positions in zip(self.names, told, strict=True):
            columns = values[name].reshape(values[name].shape[1], -1)
            kept.append(
                _Sample(
                    columns=columns[:, positions],
                    low=columns.min(axis=1, keepdims=True),
                    high=columns.max(axis=1, keepdims=True),
                )
            )
        return kept

    def add(self, kept: list[_Sample]) -> None:
        for name, sample in zip(self.names, kept, strict=True):
            self.found[name].append(sample)


def _choose(weight: FloatArray, samples: list[_Sample]) -> tuple[FloatArray | None, float]:
    """Return the factors of least error, or None where none of them helps, and that error."""
    made_from, judged_on = _Sample.join(samples[::2]), _Sample.join(samples[1::2])
    extremes = np.maximum(made_from.high, -made_from.low).max(axis=1)
    if not extremes.max() > 0:
        return None, 0.0
    extremes = np.maximum(extremes, _SMALLEST * extremes.max())
    best, least = None, _error(weight, np.ones_like(extremes), judged_on)
    for candidate in _candidates(extremes):
        error = _error(weight, candidate, judged_on)
        if error < least:
            best, least = candidate, error
    return best, least


def _candidates(extremes: FloatArray) -> Iterable[FloatArray]:
    # Weights would lose more than products gain from larger exponents. Measured against larger sets of
    # candidates (also from means and second moments, and with the weights' own size): those won nothing more.
    for exponent in (0.25, 0.5):
        yield (extremes**-exponent).astype(np.float32)
    for share in (0.8, 0.9):  # only the largest channels are reduced
        yield np.minimum(1, np.quantile(extremes, share) / extremes).astype(np.float32)


def _error(weight: FloatArray, factors: FloatArray, sample: _Sample) -> float:
    """Return error over output energy of a convolution with dynamic INT8 products and INT8 weights."""
    codes, scale = weight_parameters(weight / factors, 0)
    column = factors[:, None]
    low = np.minimum((sample.low * column).min(axis=0), 0)
    high = np.maximum((sample.high * column).max(axis=0), 0)
    step = np.repeat(np.maximum((high - low) / 255, 1e-12), sample.columns.shape[1] // len(low))
    zero = np.round(-np.repeat(low, len(step) // len(low)) / step)
    quantized = (np.clip(np.round(sample.columns * column / step) + zero, 0, 255) - zero) * step
    wanted = weight @ sample.columns
    error = wanted - (codes * scale[:, None]) @ quantized.astype(np.float32)
    return float(np.square(error).sum() / max(float(np.square(wanted).sum()), 1e-30))
