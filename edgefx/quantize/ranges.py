"""Activation ranges from calibration tensors, for any runtime.

A range is what an 8-bit asymmetric grid must span. Exact extremes ruin EfficientNets twice over. A single
odd image widens a tensor's grid for all others: the mean over the images of each image's extremes is far
better. And the tensors in front of a swish span about +-75 while swish is nearly zero below -8, so most of
the 256 levels are wasted: `RangeMethod.SWISH_MSE` chooses the low end of such a tensor by the squared error
*behind* the swish.

That error is not simulated but computed from a histogram with the usual high-resolution model: values
outside are clipped to the nearest end, values inside carry a rounding noise of step^2 / 12, which the
function f behind the tensor multiplies by f'(x)^2 (the model behind the clipping of Banner et al., "Post
training 4-bit quantization of convolutional networks", 2019). With prefix sums one candidate costs a few
additions, so the whole search of a tensor takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError

FloatArray = NDArray[np.float64]

_BINS = 8192  # histogram resolution; far finer than the 256 levels being placed
_SAMPLES_PER_UPDATE = 1 << 16  # values per tensor and image that enter a histogram; extremes use all values
_CANDIDATES = 256  # ends tried per side and round of the search
_LEVELS = 255  # steps between the 256 codes
# Rounding errors cancel in the next layer's sum; clipped values all err to the same side and add up. Of 1, 4,
# 16, 64, 256 this lost least on EfficientNet-B0 and V2-B0 together.
_ONE_SIDED = 16.0


class Consumer(StrEnum):
    """What a tensor is or feeds, as far as it matters for the choice of its range."""

    GENERIC = "generic"  # nothing special; in EfficientNets the products of activations and gates
    SWISH = "swish"  # the tensor x feeds x * sigmoid(x) and nothing else
    SIGMOID = "sigmoid"  # the tensor feeds a sigmoid and nothing else (squeeze-and-excite gates)
    # Bottleneck convolutions, residual sums, pooled means: no heavy tails, and what is cut off here is lost
    # for all layers behind.
    LINEAR = "linear"
    SCORES = "scores"  # the tensor holds the logits: their order is the answer, so they are never clipped


# The same for errors that are weighted by what the next layer makes of them, of 1, 4 and 16. On 400 images that
# set no ranges the logits of EfficientNet-B0 gained 0.4 dB against 4 for all and 1.4 dB against 16.
_CLIPPING = {Consumer.GENERIC: 1.0, Consumer.SWISH: 4.0, Consumer.SIGMOID: 4.0}


class RangeMethod(StrEnum):
    """How ranges are chosen from what the calibration images produced."""

    MIN_MAX = "min-max"  # exact extremes over all images
    MEAN_MIN_MAX = "mean-min-max"  # mean over the images of each image's extremes
    PERCENTILE = "percentile"  # both tails cut at a percentile, every tensor
    ENTROPY = "entropy"  # least information lost by cutting a tail, every tensor
    MSE = "mse"  # least squared error of the tensor itself, every tensor
    # Least squared error where it counts: behind the function that reads the tensor and, per channel, as much
    # as the next layer's weights make of it. Linear tensors and scores stay exact.
    ACTIVATION_MSE = "activation-mse"
    # By what the tensor is: the low end of pre-swish tensors by the error behind the swish, linear tensors
    # and scores exact, everything else mean extremes.
    SWISH_MSE = "swish-mse"


@dataclass(frozen=True)
class Range:
    """Closed interval of real values that a tensor's integer codes span."""

    low: float
    high: float


@dataclass(frozen=True)
class _Extremes:
    """Extremes of one tensor over `images` images: overall, and summed over the images."""

    low: float
    high: float
    low_sum: float
    high_sum: float
    images: int = 1

    def merged(self, other: _Extremes) -> _Extremes:
        return _Extremes(
            min(self.low, other.low),
            max(self.high, other.high),
            self.low_sum + other.low_sum,
            self.high_sum + other.high_sum,
            self.images + other.images,
        )

    @property
    def exact(self) -> Range:
        return Range(self.low, self.high)

    @property
    def mean(self) -> Range:
        return Range(self.low_sum / self.images, self.high_sum / self.images)


class RangeCollector:
    """Collects activation statistics image by image; memory does not grow with the number of images.

    Args:
        consumers: The tensors to collect, each with what it feeds.
        methods: The methods that `ranges` will be asked for; a histogram is kept only for the tensors that
            one of them needs, all others cost a minimum and a maximum.
        weights: How much an error of a tensor matters, per channel: an array that broadcasts to the tensor;
            all values count alike where none is given. Of the layer behind it, the squared norm of the
            weights that read the channel: what an error of it becomes there.
    """

    def __init__(
        self,
        consumers: Mapping[str, Consumer],
        *,
        methods: Collection[RangeMethod] = (RangeMethod.SWISH_MSE,),
        weights: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self._consumers = dict(consumers)
        self._weights = dict(weights or {})
        self._methods = frozenset(methods)
        self._extremes: dict[str, _Extremes] = {}
        self._histograms = {
            name: _Histogram()
            for name, consumer in consumers.items()
            if any(_needs_histogram(method, consumer) for method in self._methods)
        }
        self._updates = 0

    def update(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Add the tensors of one image (any shapes); names that are not collected are an error.

        Raises:
            ConversionError: A tensor holds NaN or infinity.
            KeyError: A tensor that was not announced to the constructor.
        """
        for name, tensor in tensors.items():
            if name not in self._consumers:
                raise KeyError(name)
            low, high = float(tensor.min()), float(tensor.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConversionError(
                    f"tensor '{name}' is not finite for calibration image {self._updates + 1}",
                    hint="the float model itself overflows; check its weights and preprocessing",
                )
            seen = _Extremes(low, high, low, high)
            if name in self._extremes:
                seen = self._extremes[name].merged(seen)
            self._extremes[name] = seen
            if name in self._histograms:
                values, weights = _sample(tensor, self._weights.get(name), self._updates)
                self._histograms[name].add(values, seen.low, seen.high, weights)
        self._updates += 1

    def ranges(self, method: RangeMethod, *, percentile: float = 99.99) -> dict[str, Range]:
        """Choose a range for each tensor seen so far.

        Args:
            method: One of the methods given to the constructor; those that need no histogram always work.
            percentile: For `RangeMethod.PERCENTILE`: percent of the values that must lie inside; the rest is
                cut in equal parts from both tails.

        Raises:
            ValueError: The method was not announced to the constructor.
        """
        if method not in self._methods and any(
            _needs_histogram(method, consumer) for consumer in self._consumers.values()
        ):
            raise ValueError(f"range method '{method}' was not announced when collecting began")
        return {name: self._range(name, method, percentile) for name in self._extremes}

    def _range(self, name: str, method: RangeMethod, percentile: float) -> Range:
        seen, consumer = self._extremes[name], self._consumers[name]
        match method:
            case RangeMethod.MIN_MAX:
                return seen.exact
            case RangeMethod.MEAN_MIN_MAX:
                return seen.mean
            case RangeMethod.PERCENTILE:
                return self._histograms[name].central(percentile / 100, seen.exact)
            case RangeMethod.ENTROPY:
                return _least_divergence(self._histograms[name], seen.exact)
            case RangeMethod.MSE:
                return _least_error(self._histograms[name], seen.exact, Consumer.GENERIC)
            case RangeMethod.ACTIVATION_MSE if consumer in (Consumer.LINEAR, Consumer.SCORES):
                return seen.exact
            case RangeMethod.ACTIVATION_MSE:
                return _least_error(
                    self._histograms[name],
                    seen.exact,
                    consumer,
                    clipping_weight=_CLIPPING[consumer],
                    requantized=True,
                )
            case RangeMethod.SWISH_MSE if consumer is Consumer.SWISH:
                return _least_error(
                    self._histograms[name],
                    seen.exact,
                    consumer,
                    high=max(seen.mean.high, 0.0),
                    clipping_weight=_ONE_SIDED,
                )
            case RangeMethod.SWISH_MSE:
                return seen.exact if consumer in (Consumer.LINEAR, Consumer.SCORES) else seen.mean


def after_swish(before: Range) -> Range:
    """Return the values that swish takes on a range; a tensor behind a clipped one cannot leave it."""
    turning = min(max(before.low, _SWISH_ARGMIN), before.high)
    values = _swish(np.array([before.low, turning, before.high]))
    return Range(float(values.min()), float(values.max()))


def _needs_histogram(method: RangeMethod, consumer: Consumer) -> bool:
    if method is RangeMethod.SWISH_MSE:
        return consumer is Consumer.SWISH
    if method is RangeMethod.ACTIVATION_MSE:
        return consumer not in (Consumer.LINEAR, Consumer.SCORES)
    return method in (RangeMethod.PERCENTILE, RangeMethod.ENTROPY, RangeMethod.MSE)


def _sample(
    tensor: NDArray[np.float32], weights: NDArray[np.float32] | None, turn: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return about `_SAMPLES_PER_UPDATE` values spread evenly over all positions and channels, and weights."""
    stride = max(1, tensor.size // _SAMPLES_PER_UPDATE)
    while math.gcd(stride, tensor.size) != 1:  # one that divides the channels would see only some of them
        stride += 1
    chosen = slice(turn % stride, None, stride)
    spread = None if weights is None else np.broadcast_to(weights, tensor.shape).reshape(-1)[chosen]
    return tensor.reshape(-1)[chosen], spread


class _Histogram:
    """Counts on a grid of width 2**exponent with an edge at zero; the width doubles as the span grows."""

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._first = 0  # grid index of the first bin
        self._counts: FloatArray = np.zeros(0)

    def add(
        self,
        values: NDArray[np.float32],
        low: float,
        high: float,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Count `values`, each by its weight; [low, high] are the exact extremes of all added so far."""
        exponent = _exponent(low, high)
        if self._exponent is not None:
            exponent = max(exponent, self._exponent)
        first, last = (math.floor(math.ldexp(end, -exponent)) for end in (low, high))
        counts = np.zeros(last - first + 1)
        if self._exponent is not None:
            index = (np.arange(len(self._counts)) + self._first) >> (exponent - self._exponent)
            np.add.at(counts, index - first, self._counts)
        scaled = np.floor(values * np.float32(math.ldexp(1.0, -exponent))).astype(np.int64)
        counts += np.bincount(scaled - first, weights=weights, minlength=len(counts))
        self._exponent, self._first, self._counts = exponent, first, counts

    @property
    def counts(self) -> FloatArray:
        """Values per bin, weighted, [bins]."""
        return self._counts

    @property
    def edges(self) -> FloatArray:
        """Bin edges, [bins + 1]."""
        assert self._exponent is not None, "no values were added"
        return np.ldexp(np.arange(len(self._counts) + 1, dtype=np.float64) + self._first, self._exponent)

    def central(self, share: float, extremes: Range) -> Range:
        """Return the interval that holds the central `share` of the values, within the extremes."""
        below = np.concatenate([[0.0], np.cumsum(self.counts)])
        tail = (1 - share) / 2 * below[-1]
        ends = np.interp([tail, below[-1] - tail], below, self.edges)
        low, high = np.clip(ends, extremes.low, extremes.high)
        return Range(float(low), float(high))


def _exponent(low: float, high: float) -> int:
    """Return the finest power-of-two width with which [low, high] takes at most `_BINS` bins."""
    # Constant tensors have no span: 2^-12 of the magnitude keeps grid indices exact in float32.
    span = max(high - low, max(abs(low), abs(high)) * 2.0**-12, 2.0**-40)
    return math.ceil(math.log2(span / (_BINS - 2)))


# ------------------------------------------------------------------------------------------ least error


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def _swish(x: FloatArray) -> FloatArray:
    return x * _sigmoid(x)


_SWISH_ARGMIN = -1.2784645427610738  # where swish has its minimum
_SWISH_MINIMUM = -0.2784645427610738


def _function(consumer: Consumer, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return f(x) and f'(x) of what stands behind a tensor."""
    if consumer is Consumer.GENERIC:
        return x, np.ones_like(x)
    gate = _sigmoid(x)
    if consumer is Consumer.SIGMOID:
        return gate, gate * (1 - gate)
    return x * gate, gate * (1 + x * (1 - gate))


def _least_error(
    histogram: _Histogram,
    extremes: Range,
    consumer: Consumer,
    *,
    high: float | None = None,
    clipping_weight: float = 1.0,
    requantized: bool = False,
) -> Range:
    """Search the range [low <= 0, high >= 0] with the least squared error behind `consumer`.

    Args:
        histogram: All values of the tensor.
        extremes: The exact extremes; the result lies within them and zero.
        consumer: What stands behind the tensor.
        high: The high end where it is given, so that only the low end is searched.
        clipping_weight: How much more a clipping error counts than a rounding error of the same size.
        requantized: The swish's output gets a grid of its own that spans what swish makes of the range.
    """
    counts, edges = histogram.counts, histogram.edges
    # Zero must be a code of the grid, so it is a candidate even where all values have one sign.
    if edges[0] > 0:
        edges, counts = np.concatenate([[0.0], edges]), np.concatenate([[0.0], counts])
    if edges[-1] < 0:
        edges, counts = np.concatenate([edges, [0.0]]), np.concatenate([counts, [0.0]])
    error = _ErrorModel(counts, edges, consumer, clipping_weight, requantized=requantized)
    zero, last = int(np.searchsorted(edges, 0.0)), len(edges) - 1
    lows, highs = _spread(0, zero), _spread(zero, last)
    if high is not None:
        highs = np.array([min(int(np.searchsorted(edges, high)), last)])
    while True:
        table = error(lows[:, None], highs[None, :])
        i, j = divmod(int(np.argmin(table)), len(highs))
        if _finest(lows) and _finest(highs):
            break
        # Second look between the neighbours of the best pair, down to single bins.
        lows = _spread(lows[max(i - 1, 0)], lows[min(i + 1, len(lows) - 1)])
        highs = _spread(highs[max(j - 1, 0)], highs[min(j + 1, len(highs) - 1)])
    # An outermost bin edge lies a little outside the values: the exact extreme is the better end.
    best_low = max(float(edges[lows[i]]), min(extremes.low, 0.0))
    best_high = min(float(edges[highs[j]]), max(extremes.high, 0.0)) if high is None else high
    return Range(best_low, best_high)


def _least_divergence(histogram: _Histogram, extremes: Range) -> Range:
    """Cut both tails so that the rounded distribution diverges least from the true one.

    Migacz, "8-bit inference with TensorRT", 2017: the values outside are counted in the outermost bin of what is
    kept, the rest is merged into 256 levels and spread out again over the bins that held something, and the
    Kullback-Leibler divergence of the two is compared. One end is searched at a time, the other one exact.
    """
    counts, edges = histogram.counts, histogram.edges
    ends = []
    for side in (1, -1):  # the high end, then the low end mirrored
        values, bounds = counts[::side], edges[::side] * side
        zero = int(np.searchsorted(bounds, 0.0))
        first = max(zero, min(len(values), _LEVELS + 1))
        candidates = _spread(first, len(values)) if first < len(values) else np.array([len(values)])
        best = min(candidates, key=lambda end: (_divergence(values, int(end)), -int(end)))
        ends.append(float(bounds[best]) * side)
    high, low = ends
    return Range(min(max(low, extremes.low), 0.0), max(min(high, extremes.high), 0.0))


def _divergence(counts: FloatArray, end: int) -> float:
    """KL divergence of keeping the first `end` bins from the distribution with the rest in the last of them."""
    kept = counts[:end]
    true = kept.copy()
    true[-1] += counts[end:].sum()
    level = np.minimum(np.arange(end) * (_LEVELS + 1) // end, _LEVELS)
    held = kept > 0
    total = np.bincount(level, weights=kept, minlength=_LEVELS + 1)
    spread_over = np.maximum(np.bincount(level, weights=held, minlength=_LEVELS + 1), 1)
    rounded = np.where(held, (total / spread_over)[level], 0.0)
    if not rounded.sum():
        return math.inf
    p, q = true / true.sum(), rounded / rounded.sum()
    used = p > 0
    # An empty last bin that only the tail fills would diverge without bound.
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))


def _spread(first: int, last: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(first, last, min(_CANDIDATES, last - first + 1)).round().astype(np.int64))


def _finest(candidates: NDArray[np.int64]) -> bool:
    return len(candidates) < 2 or int(np.diff(candidates).max()) == 1


class _ErrorModel:
    """Squared error behind a function for any pair of bin edges as range ends, by prefix sums."""

    def __init__(
        self,
        counts: FloatArray,
        edges: FloatArray,
        consumer: Consumer,
        clipping_weight: float,
        *,
        requantized: bool,
    ) -> None:
        self._clipping_weight = clipping_weight
        value, slope = _function(consumer, (edges[1:] + edges[:-1]) / 2)
        self._edges = edges
        self._at_edge = _function(consumer, edges)[0]
        # Entry k: sum over the bins below an edge of counts * f^k; then the same of counts * f'^2.
        self._moments = [_prefix(counts * value**k) for k in range(3)]
        self._noise = _prefix(counts * slope**2)
        self._total = float(counts.sum())
        self._requantized = _SWISH_MINIMUM if requantized and consumer is Consumer.SWISH else None

    def __call__(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> FloatArray:
        """Return the summed error for edge indices `low` and `high` (broadcast together)."""
        step = (self._edges[high] - self._edges[low]) / _LEVELS
        below = self._clipped(low, [moment[low] for moment in self._moments])
        above = self._clipped(high, [moment[-1] - moment[high] for moment in self._moments])
        rounding = step**2 / 12 * (self._noise[high] - self._noise[low])
        if self._requantized is not None:
            span = self._at_edge[high] - np.minimum(self._at_edge[low], self._requantized)
            rounding = rounding + (span / _LEVELS) ** 2 / 12 * self._total
        # An empty range cannot hold anything; the smallest one that can has one bin.
        return np.where(high > low, self._clipping_weight * (below + above) + rounding, np.inf)

    def _clipped(self, end: NDArray[np.int64], moments: list[FloatArray]) -> FloatArray:
        count, total, squares = moments
        limit = self._at_edge[end]
        return squares - 2 * limit * total + limit**2 * count


def _prefix(values: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(values)])
