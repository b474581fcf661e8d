"""How much a compressed file may inflate to.

A few kilobytes can inflate to gigabytes: deflate reaches 1,032:1, and HDF5 stores nothing at all for a data
set that was never written. Weights hardly compress: Keras stores them as they are, and deflate saves 8 % of
trained float32 weights. The bound of 20 times the file's size is far from every real model.
"""

from __future__ import annotations

from edgefx.errors import ModelError

MIB = 1 << 20
_MAX_RATIO = 20  # inflated bytes per byte of the file
_FLOOR = 64 * MIB  # inflated bytes that are always allowed
_MAX_TOTAL = 8 * 1024 * MIB  # inflated bytes that are never exceeded: V2-L with its optimizer has 1.5 GB


def limit(size: int) -> int:
    """Return how many bytes a file of `size` bytes may inflate to."""
    return min(_MAX_TOTAL, max(_FLOOR, _MAX_RATIO * size))


def too_large(what: str, allowed: int) -> ModelError:
    """Return the error that `what` inflates to more than `allowed` bytes."""
    return ModelError(
        f"{what} inflates to more than {allowed // MIB} MiB, far more than a model of its size",
        hint="if you know where it comes from, save it again with Keras, which does not compress, "
        "or add --allow-unsafe",
    )
