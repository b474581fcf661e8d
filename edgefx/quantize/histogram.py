"""Histograms of activations, and the search for the range of least error in them.

The error is not simulated but computed from the histogram with the usual high-resolution model: values
outside are clipped to the nearest end, values inside carry a rounding noise of step^2 / 12, which the
function f behind the tensor multiplies by f'(x)^2 (the model behind the clipping of Banner et al., "Post
training 4-bit quantization of convolutional networks", 2019). With prefix sums one candidate costs a few
additions, so the whole search of a tensor takes milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_BINS = 8192  # histogram resolution; far finer than the 256 levels being placed
_CANDIDATES = 256  # ends tried per side and round of the search
_LEVELS = 255  # steps between the 256 codes


class Consumer(StrEnum):
    """What a tensor is or feeds, as far as it matters for the choice of its range."""

    GENERIC = "generic"  # nothing special; in EfficientNets the products of activations and gates
    SWISH = "swish"  # the tensor x feeds x * sigmoid(x) and nothing else
    GELU = "gelu"  # the tensor feeds x * Phi(x), Phi being the normal distribution, and nothing else
    SIGMOID = "sigmoid"  # the tensor feeds a sigmoid and nothing else (squeeze-and-excite gates)
    # Bottleneck convolutions, residual sums, pooled means: no heavy tails, and what is cut off here is lost
    # for all layers behind.
    LINEAR = "linear"
    # Means over a whole map: one value per channel and image, so the extremes of some hundred images are not
    # yet those of the next ones. A little room is worth more than the resolution it costs.
    POOLED = "pooled"
    # The answer itself, without a function behind it that bounds it. What other images have beyond the
    # extremes of those that set the ranges is lost, so it gets room as well.
    ANSWER = "answer"
    SCORES = "scores"  # the tensor holds the logits: their order is the answer, so they are never clipped


@dataclass(frozen=True)
class Range:
    """Closed interval of real values that a tensor's integer codes span."""

    low: float
    high: float


def after_swish(before: Range) -> Range:
    """Return the values that swish takes on a range; a tensor behind a clipped one cannot leave it."""
    turning = min(max(before.low, _SWISH_ARGMIN), before.high)
    values = _swish(np.array([before.low, turning, before.high]))
    return Range(float(values.min()), float(values.max()))


class Histogram:
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


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def _swish(x: FloatArray) -> FloatArray:
    return x * _sigmoid(x)


_SWISH_ARGMIN = -1.2784645427610738  # where swish has its minimum
_SWISH_MINIMUM = -0.2784645427610738
_MINIMA = {Consumer.SWISH: _SWISH_MINIMUM, Consumer.GELU: -0.1699712074799037}


def _function(consumer: Consumer, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return f(x) and f'(x) of what stands behind a tensor."""
    if consumer is Consumer.GENERIC:
        return x, np.ones_like(x)
    if consumer is Consumer.GELU:
        gate = np.array([math.erfc(-value * math.sqrt(0.5)) / 2 for value in x.flat]).reshape(x.shape)
        return x * gate, gate + x * np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
    gate = _sigmoid(x)
    if consumer is Consumer.SIGMOID:
        return gate, gate * (1 - gate)
    return x * gate, gate * (1 + x * (1 - gate))


def least_error(
    histogram: Histogram,
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
        requantized: What the function puts out gets a grid of its own that spans what becomes of the range.
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


def least_divergence(histogram: Histogram, extremes: Range) -> Range:
    """Cut both tails so that the rounded distribution diverges least from the true one.

    Migacz, "8-bit inference with TensorRT", 2017: the values outside are counted in the outermost bin of what
    is kept, the rest is merged into 256 levels and spread out again over the bins that held something, and
    the Kullback-Leibler divergence of the two is compared. One end is searched at a time, the other exact.
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
    """KL divergence of keeping the first `end` bins from the counts with the rest in the last of them."""
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
        self._requantized = _MINIMA.get(consumer) if requantized else None

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
