"""Round weights so that the errors cancel in what they compute.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023):
columns of the weights are rounded one after the other, and the columns still to come are corrected for the
error made, by the second moments of what the weights are multiplied with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LARGEST = 127
# tuned: ablations quantize.gptq.DAMPING
_DAMPING = 0.01  # share of the mean second moment that is added to all; GPTQ's
_BLOCK = 64  # columns between corrections of all the rest


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
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    rest = weights[:, order].astype(np.float64)
    codes = np.empty(weights.shape, np.int8)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        errors = np.empty((len(weights), end - start))
        for column in range(start, end):
            code = np.clip(np.round(rest[:, column] / steps), -_LARGEST, _LARGEST)
            codes[:, order[column]] = code
            error = (rest[:, column] - code * steps) / upper[column, column]
            rest[:, column:end] -= np.outer(error, upper[column, column:end])
            errors[:, column - start] = error
        rest[:, end:] -= errors @ upper[start:end, end:]
    return codes


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
