"""The same picture in another file is found; another picture is not, however little is in both."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgefx.data import digits, twins
from edgefx.data.pixels import fit, to_rgb
from edgefx.types import Resize

SHARED = Path(__file__).parents[2].parent / "shared" / "images"


def decoded(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(fit(to_rgb(image), height=size, width=size, resize=Resize.STRETCH))


def scene(seed: int) -> Image.Image:
    """Smooth blobs, as a photograph has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, how: str, **options: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, how, **options)
    return Image.open(stream)


SCENES = [scene(seed) for seed in range(40)]
PIXELS = np.stack([decoded(image, 96) for image in SCENES])


@pytest.mark.parametrize("how", ["jpeg", "webp", "half"])
def test_copies_are_found_and_named_right(how: str) -> None:
    def copy(image: Image.Image) -> Image.Image:
        if how == "half":
            return encoded(image.resize((160, 120)), "JPEG", quality=75)
        return encoded(image, how.upper(), quality=50)

    others = np.stack([decoded(scene(100), 96), *(decoded(copy(image), 96) for image in SCENES[10:20])])
    assert twins.find(PIXELS, others) == [(9 + row, row) for row in range(1, 11)]


def test_different_pictures_are_not() -> None:
    others = np.stack([decoded(scene(seed), 96) for seed in range(1000, 1200)])
    assert twins.find(PIXELS, others) == []
    assert twins.alike(PIXELS) == 0.0


def test_digits_are_told_apart_where_their_hashes_are_not() -> None:
    first = sorted(digits.calibration_folder().rglob("*.png"))
    second = sorted(digits.evaluation_folder().rglob("*.png"))
    pixels = [np.stack([decoded(Image.open(path), 32) for path in paths]) for paths in (first, second)]
    near = twins.distances(twins.hash_of(pixels[1]), twins.hash_of(pixels[0])) <= twins.MAX_BITS
    assert near.mean() > 0.1
    assert twins.find(*pixels) == []
    again = np.stack([decoded(encoded(Image.open(path), "JPEG", quality=80), 32) for path in first[:20]])
    assert twins.find(pixels[0], again) == [(row, row) for row in range(20)]


def test_a_fixed_camera_is_recognized() -> None:
    frames = np.repeat(PIXELS[:1], 10, axis=0)
    frames += np.arange(10, dtype=np.uint8)[:, None, None, None] % 3
    assert twins.alike(frames) == 1.0
    assert twins.alike(frames[:1]) == 0.0


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images")
def test_photographs_are_no_copies_of_each_other() -> None:
    paths = sorted(path for path in (SHARED / "flowers").rglob("*.jpg"))[:300]
    pixels = np.stack([decoded(Image.open(path), 96) for path in paths])
    assert twins.find(pixels[:150], pixels[150:]) == []
