"""A distribution of times in a few numbers. Standard library only.

Source: the exponential histogram of OpenTelemetry's metrics data model ("ExponentialHistogram",
https://opentelemetry.io/docs/specs/otel/metrics/data-model/), which halves its resolution until the values
fit, as I. Epicoco and others do for sketches of quantiles ("UDDSketch: accurate tracking of quantiles in data
streams", IEEE Access 8, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_BINS = 64
_FINEST = 10  # scale: bins 0.07 % wide, which no clock of a benchmark tells apart
_COARSEST = -10
_LOWEST_MS = 1e-6  # a nanosecond; a time of 0 has no place on a logarithmic axis


@dataclass(frozen=True, kw_only=True)
class LatencyHistogram:
    """How many inferences took how long, in at most 64 bins of equal ratio.

    Attributes:
        scale: Bins are finer the higher it is: each ends at 2 ** (2 ** -scale) times where it begins.
        offset: Bin i is of times above base ** (offset + i) ms, up to base ** (offset + i + 1) ms, where base
            is that ratio.
        counts: Inferences in each bin; the first and the last are not empty.
    """

    scale: int
    offset: int
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what no measurement can be: stored ones come from files.

        Raises:
            ValueError: It is empty or too long, its edges are no times, or a count is below 0.
        """
        if not 0 < len(self.counts) <= MOST_BINS or min(self.counts) < 0 or not sum(self.counts):
            raise ValueError(f"a histogram of {len(self.counts)} bins with {sum(self.counts)} inferences")
        ends = self.offset, self.offset + len(self.counts)
        if not _COARSEST <= self.scale <= _FINEST or max(map(abs, ends)) > 64 * 2.0**self.scale:
            raise ValueError(f"a histogram from bin {self.offset} on at scale {self.scale}")

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> LatencyHistogram:
        """Count times, in the finest bins that 64 of are enough.

        Args:
            times_ms: At least one, in ms.
        """
        logs = [math.log2(max(time, _LOWEST_MS)) for time in times_ms]
        for scale in range(_FINEST, _COARSEST - 1, -1):
            places = [math.ceil(value * 2.0**scale) - 1 for value in logs]
            first, last = min(places), max(places)
            if last - first < MOST_BINS:
                break
        counts = [0] * (last - first + 1)
        for place in places:
            counts[place - first] += 1
        return cls(scale=scale, offset=first, counts=tuple(counts))

    @property
    def inferences(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def edge(self, place: int) -> float:
        """Return where bin `place` begins, in ms; the number of bins gives where the last ends."""
        return float(2.0 ** ((self.offset + place) * 2.0**-self.scale))

    def quantile(self, share: float) -> float:
        """Return about the time in ms that `share` of the inferences took at most.

        Inside a bin it is interpolated on the logarithmic axis, so that it is wrong by less than the bin.
        """
        wanted, seen = share * self.inferences, 0
        for place, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                inside = max(0.0, wanted - seen) / count
                return float(self.edge(place) * (self.edge(place + 1) / self.edge(place)) ** inside)
            seen += count
        return self.edge(len(self.counts))

    def coarser(self, most: int) -> LatencyHistogram:
        """Return it in at most `most` bins (two or more): neighbours are put together in pairs."""
        if len(self.counts) <= most or self.scale <= _COARSEST:
            return self
        first = self.offset // 2
        counts = [0] * ((self.offset + len(self.counts) - 1) // 2 - first + 1)
        for place, count in enumerate(self.counts):
            counts[(self.offset + place) // 2 - first] += count
        return LatencyHistogram(scale=self.scale - 1, offset=first, counts=tuple(counts)).coarser(most)

    def __iter__(self) -> Iterator[tuple[float, float, int]]:
        """Iterate over the bins: where each begins and ends, in ms, and how many inferences are in it."""
        for place, count in enumerate(self.counts):
            yield self.edge(place), self.edge(place + 1), count
