"""How well the same picture in another file is found, and how often two pictures are taken for one.

    python -m tests.benchmarks twins
    python -m tests.benchmarks twins --images flowers/ --images photos/

gives what the limits of `edgefx.data.twins` were chosen by, on the embedded digits or on folders of images
that are all different: the images that would be called copies, and the share of real copies that are found,
by what was done to them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgefx.data import digits, folders, twins
from edgefx.data.pixels import fit, to_rgb
from edgefx.types import Resize

if TYPE_CHECKING:
    from edgefx.types import Pixels

_COPIES = 150  # of each folder that are changed


def main(options: list[str]) -> None:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(prog="twins", description=__doc__)
    parser.add_argument("--images", action="append", type=Path, help="a folder of images; repeat it for more")
    parser.add_argument("--size", type=int, default=224, help="height and width they are made")
    args = parser.parse_args(options)
    if args.images:
        for folder in args.images:
            _measure(str(folder), [folder], args.size)
    else:
        _measure("digits", [digits.calibration_folder(), digits.evaluation_folder()], 32)


def _measure(name: str, places: list[Path], size: int) -> None:
    files = [item.path for place in places for item in folders.scan(place).items]
    pixels = np.stack([_pixels(_opened(file), size) for file in files])
    pairs = len(files) * (len(files) - 1) // 2
    alarms = round(twins.alike(pixels) * len(files))
    print(f"  {name}: {len(files)} images, {pairs} pairs; {alarms} images taken for a copy of another")
    chosen = np.random.default_rng(0).choice(len(files), min(_COPIES, len(files)), replace=False)
    found: dict[str, int] = {}
    for number in chosen:
        for change, copy in _changed(_opened(files[number])):
            hit = twins.find(pixels[number : number + 1], _pixels(copy, size)[None])
            found[change] = found.get(change, 0) + bool(hit)
    for change, count in found.items():
        print(f"    {change:24} {count / len(chosen):7.1%} of {len(chosen)} copies found")


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return to_rgb(image)


def _pixels(image: Image.Image, size: int) -> Pixels:
    return np.asarray(fit(to_rgb(image), height=size, width=size, resize=Resize.STRETCH))


def _changed(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield a picture as another file would have it, by what was done to it."""
    width, height = image.size
    half = image.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.LANCZOS)
    for quality in (95, 75, 50, 30):
        yield f"JPEG, quality {quality}", _encoded(image, "JPEG", quality)
    yield "WebP, quality 60", _encoded(image, "WEBP", 60)
    yield "half size, JPEG 75", _encoded(half, "JPEG", 75)
    yield "grey", image.convert("L")
    yield "10 levels brighter", image.point(lambda value: min(255, value + 10))
    yield (
        "cropped by 2 %",
        image.crop((width // 50, height // 50, width - width // 50, height - height // 50)),
    )


def _encoded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))
