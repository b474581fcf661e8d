"""What an artifact of other origin may declare: sizes that a classifier can have, before memory is taken.

What else is wrong with such a file, readers and runtimes stumble over in ways that nobody can list: `DAMAGE`.

A file of a hundred bytes can declare an image of 60,000 x 60,000 pixels; whoever opens it would reserve
hundreds of gigabytes.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path

from edgefx.errors import ArtifactError
from edgefx.types import TensorInfo

# EfficientNet-B7 has maps of 17 million values at its 600 x 600 pixels, and of 50 million at 1024 x 1024. A
# runtime keeps several of a size at once: of these, less than 2 GB.
MAX_VALUES = 60_000_000
MAX_SIDE = 4096  # pixels of an input image

# What reading or running a file raises that contradicts itself, `EdgefxError` apart. Only around what does
# nothing but read or run a file that may be of other origin.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


_NO_MEMORY = re.compile("allocate memory|bad_alloc|out of memory", re.IGNORECASE)


def damaged(path: Path, error: Exception) -> ArtifactError:
    """Return what to raise for one of `DAMAGE`; the log gets the traceback."""
    logging.getLogger("edgefx").debug("%s cannot be read or run", path, exc_info=error)
    text = (str(error).strip().splitlines() or [""])[0][:300]
    if _NO_MEMORY.search(text):
        return ArtifactError(
            f"{path}: the runtime could not get the memory it asked for: {text}",
            hint="it is out of memory: end other programs, or check the sizes of the file's tensors with: "
            "edgefx inspect",
        )
    return ArtifactError(
        f"{path}: damaged, or no image classifier: {type(error).__name__}{': ' if text else ''}{text}",
        hint="convert it again",
    )


def check_tensor(path: Path, name: str, shape: Iterable[int]) -> None:
    """Refuse a tensor that is larger than any of a classifier; unknown dimensions (0, negative) count as 1.

    Raises:
        ArtifactError: Names the tensor and its shape.
    """
    sizes = [int(size) for size in shape]
    if math.prod(max(1, size) for size in sizes) > MAX_VALUES:
        raise ArtifactError(
            f"{path}: declares a tensor '{name}' of shape {sizes}, which has more than {MAX_VALUES} values",
            hint="the file is damaged, or no image classifier",
        )


def check_ends(path: Path, inputs: Iterable[TensorInfo], outputs: Iterable[TensorInfo]) -> None:
    """Refuse inputs and outputs that no image classifier has.

    Raises:
        ArtifactError: Names the tensor and its shape.
    """
    inputs = tuple(inputs)
    for info in (*inputs, *outputs):
        check_tensor(path, info.name, info.shape)
    for info in inputs:
        if len(info.shape) == 4 and max(info.shape) > MAX_SIDE:
            raise ArtifactError(
                f"{path}: declares an input '{info.name}' of shape {list(info.shape)}, images have at most "
                f"{MAX_SIDE} pixels a side",
                hint="export it for the size of its images",
            )
