"""Round weights so that the errors cancel in what they compute.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023):
columns of the weights are rounded one after the other, and the columns still to come are corrected for the
error made, by the second moments of what the weights are multiplied with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LARGEST = 127
# tuned: ablations quantize.gptq.DAMPING
_DAMPING = 0.01  # share of the mean second moment that is added to all; GPTQ's
_BLOCK = 128  # columns between corrections of all the rest; of no effect but on speed
_TOGETHER = 10  # images between two matrix products


def rounded(weights: FloatArray, steps: FloatArray, moments: FloatArray) -> NDArray[np.int8]:
    """Round weights to multiples of their row's step, with the least error of ``weights @ x`` in mind.

    Args:
        weights: [rows, K].
        steps: [rows].
        moments: Mean of x xT [K, K]; about the mean of x where a bias makes good what shifts the mean.

    Returns:
        Codes from -127 to 127, [rows, K].
    """
    size = len(moments)
    mean = float(np.trace(moments)) / size
    damped = moments + np.eye(size) * (_DAMPING * mean if mean > 0 else 1.0)
    # The columns that matter most go first, while all others can still make good what they lose.
    order = np.argsort(-np.diag(damped), kind="stable")
    upper = _inverse_root(damped[np.ix_(order, order)])
    later = np.ascontiguousarray(upper.T)  # what column j takes over of the error of column i: later[j, i]
    rest = np.ascontiguousarray(weights[:, order].T, np.float64)  # a column of the weights in one piece
    codes = np.empty(rest.shape, np.int8)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        errors = np.empty((end - start, len(weights)))
        for column in range(start, end):
            value = rest[column] - later[column, start:column] @ errors[: column - start]
            code = np.clip(np.round(value / steps), -_LARGEST, _LARGEST)
            codes[column] = code
            errors[column - start] = (value - code * steps) / upper[column, column]
        rest[end:] -= later[end:, start:end] @ errors
    result = np.empty(weights.shape, np.int8)
    result[:, order] = codes.T
    return result


def _inverse_root(matrix: FloatArray) -> FloatArray:
    """Return the upper triangular U with ``UT U = inv(matrix)``, for a positive definite matrix.

    Of the Cholesky factor of the matrix with rows and columns reversed: a third of the operations of a
    Cholesky factor of the inverse.
    """
    factor = np.asarray(np.linalg.cholesky(matrix[::-1, ::-1]), np.float64)
    return np.ascontiguousarray(_inverted(factor)[::-1, ::-1])


def _inverted(lower: FloatArray) -> FloatArray:
    """Return the inverse of a lower triangular matrix, by halves: NumPy has none of its own."""
    half = len(lower) // 2
    if len(lower) <= _BLOCK:
        return np.asarray(np.linalg.inv(lower))
    first, last = _inverted(lower[:half, :half]), _inverted(lower[half:, half:])
    inverse = np.zeros_like(lower)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = -last @ (lower[half:, :half] @ first)
    return inverse


class Moments:
    """Mean and second moments about it of vectors that arrive in parts.

    Args:
        size: Length of a vector.
    """

    def __init__(self, size: int) -> None:
        self._count = 0
        self._sum = np.zeros(size)
        self._products = np.zeros((size, size))

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors [n, size]."""
        self._count += len(vectors)
        self._sum += vectors.sum(axis=0, dtype=np.float64)
        self._products += vectors.T @ vectors

    def central(self) -> FloatArray:
        """Return the covariance [size, size]."""
        mean = self._sum / self._count
        covariance: FloatArray = self._products / self._count - np.outer(mean, mean)
        return covariance


class MomentsByName:
    """The moments of many kinds of vectors, which arrive image by image.

    Those of a few images are multiplied together: that takes half of the time.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Moments] = {}
        self._waiting: list[Mapping[str, NDArray[np.float32]]] = []

    def add(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Add one image's vectors [n, size]; the names are the same for all images."""
        self._waiting.append(vectors)
        if len(self._waiting) == _TOGETHER:
            self._multiply()

    def central(self, name: str) -> FloatArray:
        """Return the covariance [size, size] of the vectors of one kind."""
        self._multiply()
        return self._sums[name].central()

    def _multiply(self) -> None:
        for name in self._waiting[0] if self._waiting else ():
            together = np.concatenate([vectors[name] for vectors in self._waiting])
            self._sums.setdefault(name, Moments(together.shape[1])).add(together)
        self._waiting.clear()
