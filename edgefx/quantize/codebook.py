"""Few distinct weights: codebooks by k-means, and which weights may be zero.

Clustering: Han et al., "Deep compression: compressing deep neural networks with pruning, trained quantization
and Huffman coding" (2016), on INT8 codes instead of float values, each weighed by what an error of it does.
Pruning by the size of weights times the size of what they are multiplied with: Sun et al., "A simple and
effective pruning approach for large language models" (2024). On layers of EfficientNetV2-B0, `quantize.gptq`
behind it, this leaves as small an error as going by the loss that remains when all others make it good
(Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon", 1992), and a
smaller one for two of four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgefx.quantize.gptq import LARGEST, FloatArray

_CODES = np.arange(-LARGEST, LARGEST + 1, dtype=np.float64)
_ROUNDS = 60  # of k-means at most; it has settled long before
_SETTLED = 1e-3  # largest movement of a value, in codes, after which it has
_SMOOTHED = 8.0  # codes; standard deviation of the bell that the first values' density is smoothed with


def histogram(codes: FloatArray, importance: FloatArray) -> FloatArray:
    """Return how much each code matters, row by row.

    Args:
        codes: Weights in units of their row's step, [rows, K].
        importance: Of an error of each, [rows, K] or [K].

    Returns:
        The importance of what is nearest to each code from -127 to 127, [rows, 255].
    """
    rows, bins = len(codes), len(_CODES)
    places = np.clip(np.round(codes), -LARGEST, LARGEST).astype(np.int64) + LARGEST
    places += bins * np.arange(rows)[:, None]
    weights = np.broadcast_to(importance, codes.shape)
    found = np.bincount(places.ravel(), weights.ravel(), bins * rows)
    return np.asarray(found.reshape(rows, bins), np.float64)


def codebooks(histograms: FloatArray, values: int, *, with_zero: bool = False) -> FloatArray:
    """Choose the codes with the least weighed squared error, by k-means (Lloyd, 1982).

    The first values lie as densely as the cube root of the weights' density, which is where many values end
    (Panter and Dite, "Quantization distortion in pulse-count modulation", 1951).

    Args:
        histograms: From `histogram`, [rows, 255]; each row is one codebook.
        values: How many codes each may have.
        with_zero: Whether zero is one of them.

    Returns:
        Codes, rising, [rows, values]; some may be the same.
    """
    mass = _sums(histograms)
    moment = _sums(histograms * _CODES)
    found = _first(histograms, values)
    for _ in range(_ROUNDS):
        ends = np.zeros((len(found), values + 1), np.int64)
        ends[:, -1] = len(_CODES)
        ends[:, 1:-1] = np.clip(np.floor((found[:, 1:] + found[:, :-1]) / 2) + LARGEST + 1, 0, len(_CODES))
        weight = np.diff(np.take_along_axis(mass, ends, 1))
        total = np.diff(np.take_along_axis(moment, ends, 1))
        moved = np.divide(total, weight, out=found.copy(), where=weight > 0)
        if with_zero:
            np.put_along_axis(moved, np.abs(moved).argmin(axis=1)[:, None], 0.0, 1)
        moved.sort(axis=1)
        step, found = np.abs(moved - found).max(), moved
        if step < _SETTLED:
            break
    return np.asarray(np.clip(np.round(found), -LARGEST, LARGEST))


def distortion(histograms: FloatArray, codebooks: FloatArray) -> float:
    """Return the weighed squared error of rounding to codebooks [rows, values], over all rows."""
    apart = np.abs(_CODES[None, :, None] - codebooks[:, None, :]).min(axis=2)
    return float((histograms * np.square(apart)).sum())


def _sums(values: FloatArray) -> FloatArray:
    """Return the sums of what stands before each place, [rows, 256]."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _first(histograms: FloatArray, values: int) -> FloatArray:
    reach = np.arange(-3 * _SMOOTHED, 3 * _SMOOTHED + 1)
    bell = np.exp(-0.5 * np.square(reach / _SMOOTHED))
    # A row without any weight has its values evenly.
    smooth = np.stack([np.convolve(row, bell, "same") for row in histograms]) + np.finfo(np.float64).tiny
    density = np.cumsum(np.cbrt(smooth), axis=1)
    wanted = (np.arange(values) + 0.5) / values
    return np.stack([np.interp(wanted, row / row[-1], _CODES) for row in density])


def losses(weights: FloatArray, moments: FloatArray) -> FloatArray:
    """Return the mean square of what each weight alone puts out, [rows, K].

    Args:
        weights: [rows, K].
        moments: Of what they are multiplied with, [K, K].
    """
    return np.asarray(np.square(weights) * np.diag(moments))


def largest_two_of_four(scores: FloatArray) -> NDArray[np.bool_]:
    """Return which weights stay where of any four neighbours two become zero, [rows, K]; 4 divides K."""
    groups = scores.reshape(len(scores), -1, 4)
    places = groups.argsort(axis=2, kind="stable").argsort(axis=2, kind="stable")
    return np.asarray((places >= 2).reshape(scores.shape))
