"""Which channels a layer that reads them can best do without, and what weights make that good.

A channel is removed whose loss is least once all others have made it good, and then the next. That is
Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon" (1992), for all
weights of a channel at once (Kurtic, Frantar and Alistarh, "ZipLM: inference-aware structured pruning of
language models", 2023). What stays is fitted by least squares to what the layer put out, as in He, Zhang and
Sun, "Channel pruning for accelerating very deep neural networks" (2017), and Luo, Wu and Lin, "ThiNet"
(2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DAMPING = 0.01  # share of the mean variance that is added to all, as in `quantize.gptq`
_TOGETHER = 32  # channels between two updates of the whole inverse; of no effect but on speed


@dataclass(frozen=True, eq=False)
class Elimination:
    """Channels in the order in which they are removed.

    Attributes:
        order: Their places, the one that goes first first, [most].
        losses: Mean square of what the layer then puts out too much or too little, all outputs together, by
            the number of channels removed, [most + 1].
    """

    order: NDArray[np.int64]
    losses: FloatArray

    def kept(self, channels: int, removed: int) -> NDArray[np.int64]:
        """Return the places of the channels, of so many, that stay when some are removed; rising."""
        return np.setdiff1d(np.arange(channels), self.order[:removed])


def damped(covariance: FloatArray, damping: float = DAMPING) -> FloatArray:
    """Return a covariance [C, C] that can be inverted: a channel that never changes is of no use."""
    size = len(covariance)
    mean = float(np.trace(covariance)) / size
    return np.asarray(covariance + np.eye(size) * (damping * mean if mean > 0 else 1.0))


def eliminate(weights: FloatArray, covariance: FloatArray, most: int) -> Elimination:
    """Remove channels one after the other, with the least loss each.

    Args:
        weights: What the layer multiplies its channels with, [C, out].
        covariance: Of the channels about their means, which a bias makes good, [C, C].
        most: How many to remove at most.
    """
    size = len(weights)
    inverse = np.linalg.inv(damped(covariance))
    rest, diagonal = weights.astype(np.float64), inverse.diagonal().copy()
    there = np.ones(size, bool)
    order: list[int] = []
    losses = [0.0]
    while len(order) < most:
        count = min(_TOGETHER, most - len(order))
        columns = np.zeros((size, count))
        for number in range(count):
            with np.errstate(divide="ignore", invalid="ignore"):
                prices = np.where(there, np.square(rest).sum(axis=1) / diagonal, np.inf)
            channel = int(prices.argmin())
            column = inverse[:, channel] - columns[:, :number] @ columns[channel, :number]
            pivot = column[channel]
            rest -= np.outer(column / pivot, rest[channel])
            columns[:, number] = column / np.sqrt(pivot)
            diagonal -= np.square(columns[:, number])
            there[channel] = False
            order.append(channel)
            losses.append(losses[-1] + float(prices[channel]))
        inverse -= columns @ columns.T
    return Elimination(np.array(order, np.int64), np.array(losses))


def fitted(
    covariance: FloatArray, products: FloatArray, near: FloatArray, *, damping: float = DAMPING
) -> FloatArray:
    """Return the weights [C, out] that give some outputs best, by least squares.

    Args:
        covariance: Of the channels about their means, [C, C].
        products: Of channels and outputs about their means, [C, out].
        near: What the weights stay near to where the images tell little, [C, out].
        damping: How much they do.
    """
    whole = damped(covariance, damping)
    return np.asarray(np.linalg.solve(whole, products + (whole - covariance) @ near))
