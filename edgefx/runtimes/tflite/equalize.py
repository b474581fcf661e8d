"""Channels of an activation on scales of their own, in a format that has one scale per tensor.

In EfficientNets the channels behind a swish differ by a factor of up to several hundred, and what is only
rounded in the large ones is all that the small ones hold. Scaling the channels of ``x`` in front of a swish
is not exact, swish being no multiple of itself; scaling them around its gate is::

    y = x * sigmoid(x)   becomes   y' = x' * sigmoid(k x'),   x' = x / k,   y' = y / k

with 1/k in the weights that make x and k in those that read y: depthwise and pointwise convolutions, also
through pooling and through the product with a squeeze-and-excitation gate, which keep the channels apart. The
price is one product per value of x. So this is done where it gains most: the noise that each swish alone
brings into the logits is measured, and the noisiest per value are chosen until the price reaches `_PRICE`.

This is cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias
correction", 2019, section 4.1) made exact for swish. As there, batch normalization says how far channels
reach that the calibration images hardly excite.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Values
from edgefx.quantize.ranges import Range, after_swish
from edgefx.runtimes.tflite import calibrate, flatbuffer, segments, simulate
from edgefx.types import Spread

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgefx.types import Pixels

    Channels = NDArray[np.float64]  # one value per channel

# tuned: ablations tflite.equalize.PRICE
_PRICE = 0.06  # values multiplied once more, as a share of the values that all operations put out
_WORTH = 0.01  # of the whole noise; a swish with less is left alone; tuned: ablations tflite.equalize.WORTH
_IMAGES = 16  # that the noise is measured on; tuned: ablations tflite.equalize.IMAGES
_GRID = 255  # k is a multiple of 1/255 of the largest: the codes of a constant in [0, 1]
# tuned: ablations tflite.equalize.HALF
_HALF = 0.75  # 1 makes all channels equally fine; less keeps room for channels that turn out larger
_SLACK = 1.2  # how much further than seen a channel may reach; tuned: ablations tflite.equalize.SLACK
# tuned: ablations tflite.equalize.REACH
_REACH = 90  # percentile of the channels' reach in standard deviations, taken for those that reached less
# tuned: ablations tflite.equalize.FLAT
_FLAT = 5.0  # below minus this swish is nearly zero, so that a channel need not reach further down
_GATE = Range(-8.0, 8.0)  # where a sigmoid of 8 bits changes
_WEIGHTED = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}  # the axis of the channels they read
_MAKING = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}  # the axis of the channels they make


@dataclass(frozen=True, eq=False)
class Swish:
    """A swish whose channels could have scales of their own.

    Attributes:
        before: Tensor index of x.
        behind: Tensor index of y.
        maker: The convolution that makes x.
        gate: The LOGISTIC.
        product: The MUL.
        readers: The weighted operations that read y's channels.
        followers: Indices of the tensors that keep y's channels: y itself, pooled, gated.
        values: Values of x.
    """

    before: int
    behind: int
    maker: OperatorT
    gate: OperatorT
    product: OperatorT
    readers: tuple[OperatorT, ...]
    followers: tuple[int, ...]
    values: int


def equalize(
    model: ModelT,
    ranges: Mapping[str, Range],
    images: Pixels,
    spreads: Mapping[str, Spread],
    progress: Progress,
    *,
    kept: frozenset[int] = frozenset(),
) -> dict[str, Range]:
    """Give the channels of the noisiest swishes scales of their own; `model` stays the same function.

    Args:
        model: The float graph, changed in place.
        ranges: Of all its activations, as they would be without this.
        images: Calibration images, uint8 [N, H, W, 3].
        spreads: What batch normalization knows, by canonical layer; may be empty.
        progress: Advanced once per swish that is looked at.
        kept: Tensors before a swish that must keep one scale.

    Returns:
        The ranges of the tensors that were changed or added; all others should be measured again.
    """
    swishes = [swish for swish in find(model) if swish.before not in kept]
    chosen = _choose(model, swishes, ranges, images, progress)
    names = {swish.before: model.subgraphs[0].tensors[swish.before].name.decode() for swish in chosen}
    reach = _Extremes(tuple(names.values()))
    if chosen:
        with progress.task("measuring the reach of channels", len(images)) as task:
            segments.ask(model, [reach], images, task=task)
    known: dict[str, Range] = {}
    for swish in chosen:
        name = names[swish.before]
        layer = name.split("/", 1)[0]
        low, high = reach.found[name]
        known.update(_rescale(model, swish, low, _expected(high, spreads.get(layer))))
    return known


def find(model: ModelT) -> list[Swish]:
    """Return the swishes that a convolution feeds and that only channel-wise operations read."""
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)
    makers = {int(index): op for op in graph.operators for index in op.outputs}
    ends = {int(index) for index in graph.outputs}  # read as they are, whatever is done behind them
    found = []
    for before, behind in calibrate.analyse(model).swish.items():
        maker = makers[before]
        by_name = {flatbuffer.op_name(model, op): op for op in readers[before]}
        followed = _followers(model, behind, readers)
        if (
            followed is None
            or flatbuffer.op_name(model, maker) not in _MAKING
            or not _own_constants(model, maker, [1, 2])
        ):
            continue
        weighted, followers = followed
        if ends & {before, *followers}:
            continue
        found.append(
            Swish(
                before=before,
                behind=behind,
                maker=maker,
                gate=by_name["LOGISTIC"],
                product=by_name["MUL"],
                readers=tuple(weighted),
                followers=tuple(followers),
                values=int(np.prod(flatbuffer.shape_of(graph.tensors[before]))),
            )
        )
    return found


def _followers(
    model: ModelT, index: int, readers: Mapping[int, list[OperatorT]]
) -> tuple[list[OperatorT], list[int]] | None:
    """Return the weighted operations that read a tensor's channels, and the tensors that keep them."""
    graph = model.subgraphs[0]
    channels = flatbuffer.shape_of(graph.tensors[index])[-1]
    weighted: list[OperatorT] = []
    followers = [index]
    if not readers[index]:
        return None
    for op in readers[index]:
        name = flatbuffer.op_name(model, op)
        if name in _WEIGHTED and int(op.inputs[0]) == index and _own_constants(model, op, [1]):
            weighted.append(op)
            continue
        if name == "MEAN" or (name == "MUL" and _is_gated(model, op, index)):
            behind = _followers(model, int(op.outputs[0]), readers)
            if behind is not None and flatbuffer.shape_of(graph.tensors[op.outputs[0]])[-1] == channels:
                weighted += behind[0]
                followers += behind[1]
                continue
        return None
    return weighted, followers


def _is_gated(model: ModelT, op: OperatorT, index: int) -> bool:
    """Whether a MUL scales whole channels of tensor `index` by another activation."""
    tensors = model.subgraphs[0].tensors
    others = [int(i) for i in op.inputs if int(i) != index]
    return len(others) == 1 and flatbuffer.shape_of(tensors[others[0]])[:-1] == (1, 1, 1)


def _own_constants(model: ModelT, op: OperatorT, positions: Sequence[int]) -> bool:
    """Whether inputs of an operation are float constants that nothing else reads."""
    graph = model.subgraphs[0]
    if len(op.inputs) <= max(positions):
        return False
    buffers = [tensor.buffer for tensor in graph.tensors]
    read = [int(index) for other in graph.operators for index in other.inputs]
    for position in positions:
        index = int(op.inputs[position])
        if index < 0 or flatbuffer.constant(model, graph.tensors[index]) is None:
            return False
        if read.count(index) != 1 or buffers.count(graph.tensors[index].buffer) != 1:
            return False
    return True


# ------------------------------------------------------------------------------------------------- choice


def _choose(
    model: ModelT, swishes: Sequence[Swish], ranges: Mapping[str, Range], images: Pixels, progress: Progress
) -> list[Swish]:
    """Return the swishes with the most noise per value, as many as the price allows, in graph order."""
    graph = model.subgraphs[0]
    allowed = _PRICE * sum(
        int(np.prod(flatbuffer.shape_of(graph.tensors[op.outputs[0]]))) for op in graph.operators
    )
    affordable = [swish for swish in swishes if swish.values <= allowed]
    if not affordable:
        return []
    sample = images[np.linspace(0, len(images) - 1, min(_IMAGES, len(images))).round().astype(int)]
    noise = {}
    with progress.task("measuring the noise of each swish", len(affordable)) as task:
        groups = [(swish.before, *swish.followers) for swish in affordable]
        for swish, squares in zip(affordable, simulate.noise(model, ranges, groups, sample), strict=True):
            noise[swish.before] = squares
            task.advance()
    total, left, chosen = sum(noise.values()), allowed, []
    for swish in sorted(affordable, key=lambda swish: -noise[swish.before] / swish.values):
        if noise[swish.before] > _WORTH * total and swish.values <= left:
            chosen.append(swish)
            left -= swish.values
    return [swish for swish in affordable if swish in chosen]


# ------------------------------------------------------------------------------------------------- scales


@dataclass(frozen=True)
class _Extremes:
    """The smallest and the largest value per channel of some tensors; see `questions.Question`."""

    names: tuple[str, ...]
    found: dict[str, tuple[Channels, Channels]] = field(default_factory=dict)

    def told(self) -> Iterable[None]:
        return itertools.repeat(None)

    def keep(self, told: None, values: Values) -> dict[str, tuple[Channels, Channels]]:
        del told
        return {
            name: (
                value.min(axis=(0, 1, 2)).astype(np.float64),
                value.max(axis=(0, 1, 2)).astype(np.float64),
            )
            for name, value in values.items()
        }

    def add(self, kept: dict[str, tuple[Channels, Channels]]) -> None:
        for name, (low, high) in kept.items():
            lowest, highest = self.found.get(name, (low, high))
            self.found[name] = np.minimum(low, lowest), np.maximum(high, highest)


def _expected(high: Channels, spread: Spread | None) -> Channels:
    """Return how far up each channel may reach, given how far it did on the calibration images.

    A channel that answers to few classes may hardly have been seen. It is taken to reach as many of its
    standard deviations as most channels of the layer did.
    """
    seen = _SLACK * np.maximum(high, 0.0)
    if spread is None or spread.mean.shape != high.shape or not spread.deviation.max() > 0:
        return seen
    deviation = np.maximum(spread.deviation, 1e-3 * spread.deviation.max())
    reach = np.percentile((seen - spread.mean) / deviation, _REACH)
    return np.asarray(np.maximum(seen, spread.mean + reach * spread.deviation))


def _rescale(model: ModelT, swish: Swish, low: Channels, high: Channels) -> dict[str, Range]:
    """Move the factors k into the weights around `swish`; return the ranges of x', y' and k x'."""
    graph = model.subgraphs[0]
    down = np.minimum(np.maximum(-low, 0.0), _FLAT)
    size = np.maximum(high, down)
    size = np.maximum(size, size.max() / _GRID)
    factors = np.ceil((size / size.max()) ** _HALF * _GRID) / _GRID
    _scale_constant(model, swish.maker, 1, _MAKING[flatbuffer.op_name(model, swish.maker)], 1 / factors)
    _scale_constant(model, swish.maker, 2, 0, 1 / factors)
    for op in swish.readers:
        _scale_constant(model, op, 1, _WEIGHTED[flatbuffer.op_name(model, op)], factors)
    before, behind = graph.tensors[swish.before], graph.tensors[swish.behind]
    # As wide as the map, so that the runtime multiplies long runs instead of one pixel's channels at a time.
    width = flatbuffer.shape_of(before)[2]
    constant = flatbuffer.add_constant(
        model, before.name + b"/factors", np.broadcast_to(factors, (1, 1, width, len(factors)))
    )
    whole = copy.copy(before)
    whole.name = before.name + b"/whole"
    graph.tensors.append(whole)
    restore = copy.copy(swish.product)
    restore.inputs, restore.outputs = [swish.before, constant], [len(graph.tensors) - 1]
    swish.gate.inputs = restore.outputs
    graph.operators.insert(graph.operators.index(swish.gate), restore)
    outputs = [after_swish(Range(-d, h)) for d, h in zip(down, high, strict=True)]
    return {
        before.name.decode(): Range(float(-(down / factors).max()), float((high / factors).max())),
        behind.name.decode(): Range(
            float(min(span.low / k for span, k in zip(outputs, factors, strict=True))),
            float(max(span.high / k for span, k in zip(outputs, factors, strict=True))),
        ),
        whole.name.decode(): _GATE,
    }


def _scale_constant(model: ModelT, op: OperatorT, position: int, axis: int, factors: Channels) -> None:
    tensor = model.subgraphs[0].tensors[op.inputs[position]]
    values = flatbuffer.constant(model, tensor)
    assert values is not None, "`find` returns only operations with constants of their own"
    shape = [1] * values.ndim
    shape[axis] = -1
    flatbuffer.set_constant(model, tensor, values * factors.reshape(shape))
