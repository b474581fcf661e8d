"""Activation ranges from calibration tensors, for any runtime.

A range is what an 8-bit asymmetric grid must span. Exact extremes ruin EfficientNets twice over. A single
odd image widens a tensor's grid for all others: the mean over the images of each image's extremes is far
better. And the tensors in front of a swish span about +-75 while swish is nearly zero below -8, so most of
the 256 levels are wasted. `RangeMethod.ACTIVATION_MSE` therefore weighs an error where it counts: behind the
function that reads the tensor, and channel by channel with the weights that read it, since channels of little
size may matter most. The search is in `edgefx.quantize.histogram`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.quantize.histogram import Consumer, Histogram, Range, after_swish, least_divergence, least_error

__all__ = ["Consumer", "Range", "RangeCollector", "RangeMethod", "after_swish"]

_SAMPLES_PER_UPDATE = 1 << 16  # values per tensor and image that enter a histogram; extremes use all values
# Rounding errors cancel in the next layer's sum; clipped values all err to the same side and add up. Of 1, 4,
# 16, 64, 256 this lost least on EfficientNet-B0 and V2-B0 together.
_ONE_SIDED = 16.0  # tuned: ablations quantize.ranges.ONE_SIDED


# Never clipped on purpose.
_EXACT = (Consumer.LINEAR, Consumer.POOLED, Consumer.SCORES, Consumer.ANSWER)
# V2-B0, half of the calibration images measured with the ranges of the other half: what these tensors alone
# leave of the logits' signal to noise is 25 dB without room, 31 with 1.25, 33 with 1.5, 31 with 2.
_POOLED_ROOM = 1.5  # tuned: ablations quantize.ranges.POOLED_ROOM
# Of an answer's range, around its middle. Two quantities and five logits on a small EfficientNet, on 96
# images that set no ranges: the answers' signal to noise was 21.0 and 14.4 dB without room, 21.1 and 16.2
# with 1.5, 21.2 and 16.1 with 2. With ranges from images that the last layer was fitted to, which others
# exceed by far, 5.9 and 5.0 dB became 8.8 and 6.7 with 1.5.
_ANSWER_ROOM = 1.5
# The same for errors that are weighted by what the next layer makes of them, of 1, 4 and 16. On 400 images
# that set no ranges the logits of EfficientNet-B0 gained 0.4 dB against 4 for all and 1.4 dB against 16.
# tuned: ablations quantize.ranges.CLIPPING
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


class Glimpse(NamedTuple):
    """What of one image's tensor counts.

    Attributes:
        low: Its smallest value.
        high: Its largest value.
        values: Some of its values, where a histogram is made.
        weights: How much each of them counts; None where all count alike.
    """

    low: float
    high: float
    values: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None


class RangeCollector:
    """Collects activation statistics image by image; memory does not grow with the number of images.

    It is a `edgefx.quantize.questions.Question`.

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
            name: Histogram()
            for name, consumer in consumers.items()
            if any(_needs_histogram(method, consumer) for method in self._methods)
        }
        self._updates = 0

    @property
    def names(self) -> Collection[str]:
        """The tensors to collect."""
        return self._consumers.keys()

    def update(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Add the tensors of one image (any shapes); names that are not collected are an error.

        Raises:
            ConversionError: A tensor holds NaN or infinity.
            KeyError: A tensor that was not announced to the constructor.
        """
        self.add(self.keep(self._updates, tensors))

    def told(self) -> Iterable[int]:
        """Number the images; see `edgefx.quantize.questions.Question`, as for the following."""
        return itertools.count(self._updates)

    def keep(self, told: int, values: Mapping[str, NDArray[np.float32]]) -> Mapping[str, Glimpse]:
        """Return what of the tensors of image number `told` counts; raises what `update` does."""
        found = {}
        for name, tensor in values.items():
            if name not in self._consumers:
                raise KeyError(name)
            low, high = float(tensor.min()), float(tensor.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConversionError(
                    f"tensor '{name}' is not finite for calibration image {told + 1}",
                    hint="the float model itself overflows; check its weights and preprocessing",
                )
            values_seen, weights = None, None
            if name in self._histograms:
                values_seen, weights = _sample(tensor, self._weights.get(name), told)
            found[name] = Glimpse(low, high, values_seen, weights)
        return found

    def add(self, kept: Mapping[str, Glimpse]) -> None:
        """Add what was kept of the next image."""
        for name, (low, high, values, weights) in kept.items():
            seen = _Extremes(low, high, low, high)
            if name in self._extremes:
                seen = self._extremes[name].merged(seen)
            self._extremes[name] = seen
            if values is not None:
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

    def _range(  # noqa: PLR0911 - one return per method
        self, name: str, method: RangeMethod, percentile: float
    ) -> Range:
        seen, consumer = self._extremes[name], self._consumers[name]
        match method:
            case RangeMethod.MIN_MAX:
                return seen.exact
            case RangeMethod.MEAN_MIN_MAX:
                return seen.mean
            case RangeMethod.PERCENTILE:
                return self._histograms[name].central(percentile / 100, seen.exact)
            case RangeMethod.ENTROPY:
                return least_divergence(self._histograms[name], seen.exact)
            case RangeMethod.MSE:
                return least_error(self._histograms[name], seen.exact, Consumer.GENERIC)
            case RangeMethod.ACTIVATION_MSE if consumer is Consumer.ANSWER:
                middle, half = (seen.low + seen.high) / 2, (seen.high - seen.low) / 2
                return Range(middle - half * _ANSWER_ROOM, middle + half * _ANSWER_ROOM)
            case RangeMethod.ACTIVATION_MSE if consumer in _EXACT:
                room = _POOLED_ROOM if consumer is Consumer.POOLED else 1.0
                return Range(seen.low * room, seen.high * room)
            case RangeMethod.ACTIVATION_MSE:
                return least_error(
                    self._histograms[name],
                    seen.exact,
                    consumer,
                    clipping_weight=_CLIPPING.get(consumer, _CLIPPING[Consumer.SWISH]),
                    requantized=True,
                )
            case RangeMethod.SWISH_MSE if consumer is Consumer.SWISH:
                return least_error(
                    self._histograms[name],
                    seen.exact,
                    consumer,
                    high=max(seen.mean.high, 0.0),
                    clipping_weight=_ONE_SIDED,
                )
            case RangeMethod.SWISH_MSE:
                return seen.exact if consumer in _EXACT else seen.mean


def _needs_histogram(method: RangeMethod, consumer: Consumer) -> bool:
    if method is RangeMethod.SWISH_MSE:
        return consumer is Consumer.SWISH
    if method is RangeMethod.ACTIVATION_MSE:
        return consumer not in _EXACT
    return method in (RangeMethod.PERCENTILE, RangeMethod.ENTROPY, RangeMethod.MSE)


def _sample(
    tensor: NDArray[np.float32], weights: NDArray[np.float32] | None, turn: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return about `_SAMPLES_PER_UPDATE` values spread over all positions and channels, and their weights."""
    stride = max(1, tensor.size // _SAMPLES_PER_UPDATE)
    while math.gcd(stride, tensor.size) != 1:  # one that divides the channels would see only some of them
        stride += 1
    first = turn % stride
    values = tensor.reshape(-1)[first::stride].copy()
    if weights is None:
        return values, None
    if weights.ndim > 1:
        return values, np.broadcast_to(weights, tensor.shape).reshape(-1)[first::stride]
    # Along the last axis, steps that have no divisor with it see all of it before anything comes again.
    seen = (first + stride * np.arange(len(weights))) % len(weights)
    return values, np.resize(weights[seen], values.shape)
