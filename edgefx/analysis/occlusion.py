"""Which parts of an image an answer rests on: what covering them does to the probability of its class.

Occlusion needs nothing but answers, so that an INT8 artifact is asked in the same way as the float model.
Source: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014,
section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgefx.scores import confidences

if TYPE_CHECKING:
    from edgefx.types import OutputKind, Pixels, Scores

CELLS = 8  # along each side; what is covered is two of them wide and high, and moves by one
_CHUNK = 16  # images that are answered at a time
Drops: TypeAlias = tuple[tuple[float, ...], ...]


def occluded(image: Pixels) -> Pixels:
    """Return an image, then its copies with a part covered by its mean colour.

    Args:
        image: uint8 [H, W, 3], each side at least `CELLS` pixels.

    Returns:
        uint8 [1 + (CELLS - 1) ** 2, H, W, 3], the covered part moving line by line.
    """
    rows, columns = (np.linspace(0, size, CELLS + 1).round().astype(int) for size in image.shape[:2])
    grey = image.mean((0, 1)).round().astype(np.uint8)
    copies: Pixels = np.repeat(image[None], 1 + (CELLS - 1) ** 2, axis=0)
    places = ((row, column) for row in range(CELLS - 1) for column in range(CELLS - 1))
    for copy, (row, column) in zip(copies[1:], places, strict=True):
        copy[rows[row] : rows[row + 2], columns[column] : columns[column + 2]] = grey
    return copies


def explain(
    image: Pixels, label: int, answer: Callable[[Pixels], Scores], output: OutputKind
) -> tuple[float, Drops]:
    """Measure what covering each part of an image does.

    Args:
        image: uint8 [H, W, 3].
        label: The class whose probability is looked at.
        answer: From uint8 [N, H, W, 3] to scores float32 [N, classes].
        output: What the scores are.

    Returns:
        The probability with nothing covered, and by how much it falls with each part covered (negative where
        it rises), in rows from the top.
    """
    copies = occluded(image)
    parts = range(0, len(copies), _CHUNK)
    scores = np.concatenate([answer(copies[start : start + _CHUNK]) for start in parts])
    whole, *covered = confidences(scores, output, np.full(len(scores), label))
    side = CELLS - 1
    return whole, tuple(
        tuple(round(whole - one, 4) for one in covered[side * row : side * (row + 1)]) for row in range(side)
    )
