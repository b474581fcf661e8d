"""Ranges per channel for what INT8 convolutions put in front of a swish.

The kernel (QLinearConv) has one output scale, but one weight scale per channel: dividing these by a scale per
channel makes it deliver the codes of a grid per channel, which DequantizeLinear reads back along an axis.
That is exact and costs 0.01 of the float time, except between two INT8 convolutions: there ONNX Runtime
keeps the swish channels-last, with the channels' scales changing from value to value, and DequantizeLinear
takes six times as long (0.06 of V2-B0's float time for three of them). These tensors keep one range. With the
ranges below, on images that did not calibrate, the logits' SQNR and the mean KL to the float model: V2-B0
23.2 dB / 0.0031 -> 24.8 / 0.0019 and 23.3 / 0.0044 -> 24.2 / 0.0025 (either half of the calibration images),
B0 28.9 / 0.00019 -> 30.5 / 0.00015.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Values
from edgefx.quantize.ranges import Consumer
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.writer import ChannelRanges
from edgefx.system.parallel import ordered
from edgefx.types import ImageSet

if TYPE_CHECKING:
    import onnx

    from edgefx.runtimes.onnx.placement import Placement

FloatArray = NDArray[np.float64]
# Of a map: some of its values, and the least and the largest value of each channel.
_Kept: TypeAlias = tuple[NDArray[np.float32], FloatArray, FloatArray]

_POSITIONS = 32  # per image, of which the low ends are chosen; tuned: ablations onnx.channels.POSITIONS
# A channel's high end lies between its own largest value and the tensor's, geometrically. Its own alone (1.0)
# clips what other images make of it, and 100 images show few of 1000 classes: 13 dB instead of 24 on V2-B0.
# From 0.25 to 0.5 all is well, on both models.
_OWN = 1 / 3  # tuned: ablations onnx.channels.OWN
# tuned: ablations onnx.channels.LEAST
_LEAST = 1e-3  # a channel without a positive value counts as this share of the largest
_NOTHING = -20.0  # swish is 4e-8 there
_ROWS = 16  # channels at a time, whose values the processor's cache holds: half of the time
# One side errs: see `edgefx.quantize.ranges`. 4 was a little better than 16 here.
_ONE_SIDED = 4.0  # tuned: ablations onnx.channels.ONE_SIDED


def ranges(
    model: onnx.ModelProto, plan: Placement, calibration: ImageSet, *, seed: int, progress: Progress
) -> dict[str, ChannelRanges]:
    """Choose ranges for the channels of the plan's tensors that feed a swish and then only float nodes.

    Args:
        model: The float32 model that is going to be quantized.
        plan: Says which tensors.
        calibration: Images of the model's size.
        seed: Of the positions that are looked at.
        progress: Told of each image.
    """
    from edgefx.runtimes.onnx import calibrate

    graph = OnnxGraph(model)
    names = _in_front_of_float(graph, plan)
    if not names:
        return {}
    seen = _Channels(graph, names, seed=seed)
    calibrate.ask(model, [seen], calibration, progress, label="calibrating onnx-int8 channels")

    def chosen(name: str) -> ChannelRanges:
        samples = np.concatenate(seen.samples[name], axis=1)
        return choose(samples, low=seen.lows[name], high=seen.highs[name])

    return dict(zip(names, ordered(chosen, names), strict=True))


class _Channels:
    """Some values of each channel of maps [1, C, H, W], and its extremes; see `questions.Question`."""

    def __init__(self, graph: OnnxGraph, names: Sequence[str], *, seed: int) -> None:
        shapes = graph.shapes()
        self.samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        self.lows: dict[str, FloatArray] = {}
        self.highs: dict[str, FloatArray] = {}
        self._sizes = [math.prod(shapes[name][2:]) for name in names]
        self._generator = np.random.default_rng(seed)

    @property
    def names(self) -> Collection[str]:
        return self.samples.keys()

    def told(self) -> Iterator[list[NDArray[np.int64]]]:
        while True:
            yield [self._generator.permutation(size)[:_POSITIONS] for size in self._sizes]

    def keep(self, told: list[NDArray[np.int64]], values: Values) -> list[_Kept]:
        kept: list[_Kept] = []
        for name, positions in zip(self.names, told, strict=True):
            columns = values[name].reshape(values[name].shape[1], -1)
            low, high = columns.min(axis=1), columns.max(axis=1)
            kept.append((columns[:, positions], low.astype(np.float64), high.astype(np.float64)))
        return kept

    def add(self, kept: list[_Kept]) -> None:
        for name, (sample, low, high) in zip(self.names, kept, strict=True):
            self.samples[name].append(sample)
            self.lows[name] = np.minimum(self.lows.get(name, low), low)
            self.highs[name] = np.maximum(self.highs.get(name, high), high)


def _in_front_of_float(graph: OnnxGraph, plan: Placement) -> list[str]:
    readers = graph.consumers()
    return [
        name
        for name, consumer in plan.tensors.items()
        if consumer is Consumer.SWISH
        and not any(
            reader.name in plan.convolutions
            for mul in readers[name]
            if mul.op_type == "Mul"
            for reader in readers[mul.output[0]]
        )
    ]


def choose(samples: NDArray[np.float32], *, low: FloatArray, high: FloatArray) -> ChannelRanges:
    """Choose the ranges of a tensor's channels, low ends by the squared error behind the swish.

    Args:
        samples: Values of each channel, [C, n].
        low: The least value of each channel, [C].
        high: The largest value of each channel, [C].
    """
    largest = max(float(high.max()), 1e-6)
    ends = np.maximum(high, _LEAST * largest) ** _OWN * largest ** (1 - _OWN)
    floor = np.clip(low, _NOTHING, 0.0)
    lows = [
        _low_ends(samples[start : start + _ROWS], floor[start : start + _ROWS], ends[start : start + _ROWS])
        for start in range(0, len(samples), _ROWS)
    ]
    return ChannelRanges(low=np.concatenate(lows), high=ends)


def _low_ends(samples: NDArray[np.float32], floor: FloatArray, ends: FloatArray) -> FloatArray:
    """Choose the low ends of some channels, of which `ends` are the high ones; none is below `floor`."""
    values = np.sort(np.clip(samples.astype(np.float64), floor[:, None], None), axis=1)
    sigmoid = 1 / (1 + np.exp(-values))
    swish, slope = values * sigmoid, sigmoid * (1 + values * (1 - sigmoid))
    # With the low end at value k of a channel, those before it are clipped to it, the others are rounded.
    count = np.arange(values.shape[1])
    total = np.cumsum(swish, axis=1) - swish
    squares = np.cumsum(swish**2, axis=1) - swish**2
    clipped = squares - 2 * swish * total + count * swish**2
    slopes = np.cumsum((slope**2)[:, ::-1], axis=1)[:, ::-1]
    errors = _ONE_SIDED * clipped + slopes * ((ends[:, None] - values) / 255) ** 2 / 12
    errors[values > 0] = np.inf  # zero has to have a code
    best = np.take_along_axis(values, errors.argmin(axis=1)[:, None], axis=1)[:, 0]
    return np.asarray(np.minimum(best, 0.0))
