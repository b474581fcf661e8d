"""Streaming figures of a layer's values: signal to quantization noise, saturation, levels used.

Images are added one by one; memory does not grow with their number.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgefx.quantization import QuantParams

FloatArray = NDArray[np.float32]

_MOST_LEVELS = 1 << 16  # more are not counted


class Noise:
    """Signal to noise ratio of observed values against true ones."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, true: FloatArray, observed: FloatArray) -> None:
        """Add values of one image; both have the same number of elements in the same order."""
        reference = true.reshape(-1)
        self._signal += float(np.vdot(reference, reference))
        difference = observed.reshape(-1) - reference
        self._noise += float(np.vdot(difference, difference))

    @property
    def db(self) -> float | None:
        """10 log10(signal / noise); infinite without noise, None when the signal is zero everywhere."""
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else None


def snr_db(true: FloatArray, observed: FloatArray) -> float | None:
    """Return the signal to noise ratio of one pair of arrays in dB; see `Noise.db`."""
    noise = Noise()
    noise.add(true, observed)
    return noise.db


class GridUse:
    """How values lie on a grid.

    Attributes:
        grid: For all channels, or one per channel (the last axis).
    """

    def __init__(self, grid: QuantParams) -> None:
        self.grid = grid
        self._step = np.maximum((grid.high - grid.low) / (grid.levels - 1), np.finfo(np.float32).tiny)
        self._used = np.zeros((len(grid.low), grid.levels), bool) if grid.levels <= _MOST_LEVELS else None
        self._outside = self._count = 0
        self._seen = (math.inf, -math.inf)

    def add(self, true: FloatArray) -> None:
        """Add the float values of one image, [..., channels]."""
        grid, half = self.grid, self._step / 2
        self._outside += int(np.count_nonzero((true < grid.low - half) | (true > grid.high + half)))
        self._count += true.size
        self._seen = (min(self._seen[0], float(true.min())), max(self._seen[1], float(true.max())))
        if self._used is not None:
            codes = np.rint((np.clip(true, grid.low, grid.high) - grid.low) / self._step).astype(np.int64)
            np.clip(codes, 0, grid.levels - 1, out=codes)
            channels = len(grid.low)
            rows = np.zeros(1, np.int64) if channels == 1 else np.arange(channels)
            self._used[np.broadcast_to(rows, codes.shape), codes] = True

    @property
    def seen(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self._seen

    @property
    def saturated(self) -> float:
        """Share of the values outside the grid by more than half a step."""
        return self._outside / self._count if self._count else 0.0

    @property
    def levels_used(self) -> float | None:
        """Share of the levels that occur, the mean over channels; None for grids too fine to count."""
        return None if self._used is None else float(self._used.mean())
