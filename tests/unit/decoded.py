"""What the tests of images share: images of known content, decoded as a run decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefx.data import images
from edgefx.data.folders import scan
from edgefx.types import ImageSet, Resize

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (23, 31, 3), np.uint8)  # odd, not square: resizing and rotation show


class Recorder:
    """A progress that counts."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None]] = []
        self.done = 0

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Recorder]:
        self.tasks.append((label, total))
        yield self

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def note(self, message: str) -> None:
        raise AssertionError(message)

    warn = note


def decode(
    root: Path,
    *,
    size: tuple[int, int] = (16, 20),
    resize: Resize = Resize.STRETCH,
    skip_bad: bool = False,
    scratch: Path | None = None,
) -> ImageSet:
    return images.decode(
        scan(root),
        height=size[0],
        width=size[1],
        resize=resize,
        skip_bad=skip_bad,
        progress=Recorder(),
        role="evaluation",
        scratch=scratch,
    )


def one(path: Path, **options: Any) -> NDArray[np.uint8]:
    """Decode the single image of a folder."""
    result = decode(path.parent, **options)
    assert len(result) == 1
    pixels: NDArray[np.uint8] = result.pixels[0]
    return pixels


def plain(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def many(root: Path, count: int) -> Path:
    for index in range(count):
        (root / str(index % 3)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (index, 200, 0)).save(root / str(index % 3) / f"{index:03}.png")
    return root
