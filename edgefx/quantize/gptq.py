"""Round weights so that the errors cancel in what they compute.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023):
columns of the weights are rounded one after the other, and the columns still to come are corrected for the
error made, by the second moments of what the weights are multiplied with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LARGEST = 127  # code of a weight
# tuned: ablations quantize.gptq.DAMPING
_DAMPING = 0.01  # share of the mean second moment that is added to all; GPTQ's
_BLOCK = 128  # columns between corrections of all the rest; of no effect but on speed
_TOGETHER = 10  # images between two matrix products


@dataclass(frozen=True, eq=False)
class ColumnOrder:
    """In which order columns are rounded, and what each takes over of the errors before it.

    Attributes:
        columns: Their places [K]: those that matter most go first, while all others can still make good what
            they lose.
        upper: Upper triangular U with ``UT U`` the inverse of the damped moments, in that order, [K, K].
    """

    columns: NDArray[np.int64]
    upper: FloatArray


def order_of(moments: FloatArray) -> ColumnOrder:
    """Return the order of rounding for moments [K, K]; see `rounded`."""
    size = len(moments)
    mean = float(np.trace(moments)) / size
    damped = moments + np.eye(size) * (_DAMPING * mean if mean > 0 else 1.0)
    columns = np.argsort(-np.diag(damped), kind="stable")
    return ColumnOrder(columns, _inverse_root(damped[np.ix_(columns, columns)]))


def rounded(
    weights: FloatArray,
    steps: FloatArray,
    moments: FloatArray,
    *,
    codebooks: FloatArray | None = None,
    kept: NDArray[np.bool_] | None = None,
    order: ColumnOrder | None = None,
) -> NDArray[np.int8]:
    """Round weights to multiples of their row's step, with the least error of ``weights @ x`` in mind.

    Args:
        weights: [rows, K].
        steps: [rows].
        moments: Mean of x xT [K, K]; about the mean of x where a bias makes good what shifts the mean.
        codebooks: The codes that there may be, rising, [rows or 1, values]; None for all.
        kept: Which weights are not zero, [rows, K]; None for all. What a zero loses, the columns to come make
            good as they do an error of rounding (Frantar and Alistarh, "SparseGPT", 2023).
        order: That of the moments, where it is known already.

    Returns:
        Codes from -127 to 127, [rows, K].
    """
    size = len(moments)
    order = order_of(moments) if order is None else order
    columns, upper = order.columns, order.upper
    later = np.ascontiguousarray(upper.T)  # what column j takes over of the error of column i: later[j, i]
    rest = np.ascontiguousarray(weights[:, columns].T, np.float64)  # a column of the weights in one piece
    nonzero = None if kept is None else np.ascontiguousarray(kept[:, columns].T)
    codes = np.empty(rest.shape, np.int8)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        errors = np.empty((end - start, len(weights)))
        for column in range(start, end):
            value = rest[column] - later[column, start:column] @ errors[: column - start]
            code = _nearest(value / steps, codebooks)
            if nonzero is not None:
                code = np.where(nonzero[column], code, 0.0)
            codes[column] = code
            errors[column - start] = (value - code * steps) / upper[column, column]
        rest[end:] -= later[end:, start:end] @ errors
    result = np.empty(weights.shape, np.int8)
    result[:, columns] = codes.T
    return result


def _nearest(values: FloatArray, codebooks: FloatArray | None) -> FloatArray:
    """Return the code that is nearest to each row's value [rows]."""
    if codebooks is None:
        return np.asarray(np.clip(np.round(values), -LARGEST, LARGEST))
    between = (codebooks[:, 1:] + codebooks[:, :-1]) / 2
    places = (values[:, None] > between).sum(axis=1)
    return np.asarray(codebooks[np.arange(len(values)) if len(codebooks) > 1 else 0, places])


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

    @property
    def mean(self) -> FloatArray:
        """The mean [size]."""
        return np.asarray(self._sum / self._count)

    def central(self) -> FloatArray:
        """Return the covariance [size, size]."""
        mean = self.mean
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

    def mean(self, name: str) -> FloatArray:
        """Return the mean [size] of the vectors of one kind."""
        self._multiply()
        return self._sums[name].mean

    def _multiply(self) -> None:
        for name in self._waiting[0] if self._waiting else ():
            together = np.concatenate([vectors[name] for vectors in self._waiting])
            self._sums.setdefault(name, Moments(together.shape[1])).add(together)
        self._waiting.clear()
