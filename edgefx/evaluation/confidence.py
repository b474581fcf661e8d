"""How far a classifier's confidence may be trusted: calibration error and Brier score, block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BINS = 15  # as in the paper that made the measure common, so that figures can be compared


class Confidence:
    """Counts what is needed of the images that it is given.

    Sources: M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities using
    Bayesian binning", AAAI 2015; C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
    neural networks", ICML 2017 (15 bins of equal width); G. W. Brier, "Verification of forecasts expressed in
    terms of probability", Monthly Weather Review 78 (1950) 1-3.
    """

    def __init__(self) -> None:
        self._images = 0
        self._gaps: NDArray[np.float64] = np.zeros(_BINS)  # by bin: confidence less right answers, summed
        self._squares = 0.0

    def add(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        """Count some images.

        Args:
            probabilities: float64 [N, classes].
            labels: int64 [N], class indices.
        """
        best = probabilities.argmax(1)
        confidence = np.take_along_axis(probabilities, best[:, None], 1)[:, 0]
        # A bin holds its upper end, as in the paper: (0, 1/15], (1/15, 2/15], ...
        bins = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
        self._gaps += np.bincount(bins, weights=confidence - (best == labels), minlength=_BINS)
        own = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
        self._squares += float(((probabilities**2).sum(1) - 2 * own + 1).sum())
        self._images += len(labels)

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, over bins; 0 to 1."""
        return float(np.abs(self._gaps).sum()) / self._images

    @property
    def brier(self) -> float:
        """The Brier score: the mean squared distance of the probabilities from the label's; 0 to 2."""
        return self._squares / self._images
