"""Find the same picture in two image sets though its files differ: another format, quality or size.

A difference hash (N. Krawetz, "Kind of Like That", 2013) proposes pairs, and the pixels confirm them. The
hash says of each of 8 x 8 places whether the picture gets brighter to the right, which survives compression
and scaling; but pictures with little in them, such as digits on black, share many of its bits, so that the
hash alone would take different digits for copies.

The limits were chosen by measurement (``python -m tests.benchmarks twins``), on 869 flowers, 550 photographs
of ImageNet's kind and the 460 embedded digits. None of these images is taken for a copy of another one. Of
copies of photographs all are found as JPEG of quality 95 to 30, WebP of quality 60, and at half the size as
JPEG of quality 75; of digits, as JPEG of quality 75 or WebP of quality 60, but 14 % as JPEG of quality 50. Of
copies in grey, made brighter by 10 levels, or cropped by 2 % on each side, few photographs are found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from edgefx.types import Pixels

MAX_BITS = 10  # of 64, that a copy's hash may differ in
MAX_LEVELS = 6.0  # of 255, that a copy's pixels may differ by on average, as thumbnails

_GRID = 8
_THUMB = 32
_ROWS = 64  # images compared at a time
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)


def find(first: Pixels, second: Pixels) -> list[tuple[int, int]]:
    """Return (index in `first`, index in `second`) for each picture of `second` that is in `first` too.

    Args:
        first: uint8 [N, H, W, 3].
        second: uint8 [M, H, W, 3], made this size in the same way.
    """
    hashes, thumbs = hash_of(first), _thumbnails(first)
    levels = thumbs.mean(axis=(1, 2, 3))
    found = []
    for start in range(0, len(second), _ROWS):
        block = second[start : start + _ROWS]
        others = _thumbnails(block)
        near = distances(hash_of(block), hashes) <= MAX_BITS
        # Averages are never further apart than the pixels are on average.
        near &= np.abs(others.mean(axis=(1, 2, 3))[:, None] - levels[None, :]) <= MAX_LEVELS
        for row in np.flatnonzero(near.any(axis=1)):
            columns = np.flatnonzero(near[row])
            apart = np.abs(thumbs[columns] - others[row]).mean(axis=(1, 2, 3))
            if apart.min() <= MAX_LEVELS:
                found.append((int(columns[apart.argmin()]), start + int(row)))
    return found


def alike(pixels: Pixels) -> float:
    """Return the share of the images that `find` would take for a copy of another one of the same set."""
    if len(pixels) < 2:
        return 0.0
    return len(_inner(pixels)) / len(pixels)


def _inner(pixels: Pixels) -> set[int]:
    hashes, thumbs = hash_of(pixels), _thumbnails(pixels)
    found = set()
    for row in range(len(pixels)):
        columns = np.flatnonzero(distances(hashes[row : row + 1], hashes)[0] <= MAX_BITS)
        columns = columns[columns != row]
        if len(columns) and np.abs(thumbs[columns] - thumbs[row]).mean(axis=(1, 2, 3)).min() <= MAX_LEVELS:
            found.add(row)
    return found


def hash_of(pixels: Pixels) -> NDArray[np.uint64]:
    """Return the difference hash of each image, uint64 [N]."""
    result = np.empty(len(pixels), np.uint64)
    for number, image in enumerate(pixels):
        grey = Image.fromarray(image).convert("L").resize((_GRID + 1, _GRID), Image.Resampling.BOX)
        values = np.asarray(grey)
        bits = np.packbits(values[:, 1:] > values[:, :-1])
        result[number] = bits.view(np.uint64)[0]
    return result


def distances(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the number of bits that differ, uint8 [N, M]."""
    differing = (first[:, None] ^ second[None, :]).view(np.uint8).reshape(len(first), len(second), 8)
    counts: NDArray[np.uint8] = _BITS[differing].sum(axis=2, dtype=np.uint8)
    return counts


def _thumbnails(pixels: Pixels) -> NDArray[np.int16]:
    """Return int16 [N, 32, 32, 3]."""
    result = np.empty((len(pixels), _THUMB, _THUMB, 3), np.int16)
    for number, image in enumerate(pixels):
        small = Image.fromarray(image).resize((_THUMB, _THUMB), Image.Resampling.BOX)
        result[number] = np.asarray(small)
    return result
