"""Decoding: every format and mode, resizing, and the check of the range of values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefx.data import images
from edgefx.data.digits import calibration_folder, evaluation_folder
from edgefx.data.folders import scan
from edgefx.errors import DataError
from edgefx.types import Resize
from tests.unit.decoded import NOISE, RNG, decode, one, plain

SHARED = Path(__file__).parents[2].parent / "shared" / "images"
RED, GREEN = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)

# ------------------------------------------------------------------------------------------ formats and modes


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.jpg", "RGB", {"quality": 90}),
        ("a.JPEG", "L", {}),
        ("a.png", "RGB", {}),
        ("a.png", "L", {}),
        ("a.png", "1", {}),
        ("a.png", "P", {}),
        ("a.bmp", "RGB", {}),
        ("a.bmp", "P", {}),
        ("a.webp", "RGB", {"lossless": True}),
        ("a.gif", "P", {}),
        ("a.jpg", "CMYK", {}),
        ("a.png", "RGBA", {}),
        ("a.png", "LA", {}),
        ("a.webp", "RGBA", {"lossless": True}),
    ],
)
def test_stretch_is_bit_identical_to_the_plain_way(
    tmp_path: Path, name: str, mode: str, options: dict[str, Any]
) -> None:
    path = tmp_path / name
    Image.fromarray(NOISE).convert(mode).save(path, **options)
    pixels = one(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, plain(path, 16, 20))


def test_alpha_is_dropped_and_the_colour_kept(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 100, 50, 0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(one(tmp_path / "a.png")[3, 3], [200, 100, 50])


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert np.ptp(one(tmp_path / "a.png")) > 100


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = one(tmp_path / "a.png", size=(16, 16))
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_inverted_cmyk_of_adobe_files_comes_out_upright(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)  # red
    red, green, blue = one(tmp_path / "a.jpg")[4, 4]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("form", ["webp", "gif", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    path = tmp_path / f"a.{form}"
    options: dict[str, Any] = {"lossless": True} if form == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(one(path)[4, 4], [255, 0, 0])


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(one(tmp_path / "a.jpg", size=(23, 31)), NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    """Each stored orientation shows the same upright picture."""
    upright = Image.fromarray(NOISE)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(one(tmp_path / "a.png", size=(23, 31)), NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_pixels(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.webp", exif=b"Exif\0\0II*\0garbage!", lossless=True)
    np.testing.assert_array_equal(one(tmp_path / "a.webp", size=(23, 31)), NOISE)


# -------------------------------------------------------------------------------------------------- resizing


def halves(path: Path, width: int, height: int) -> Path:
    """Write an image whose outer quarters are red and whose middle is green, along the longer side."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = 255
    if width > height:
        pixels[:, width // 4 : -width // 4] = (0, 255, 0)
    else:
        pixels[height // 4 : -height // 4] = (0, 255, 0)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64)])
def test_crop_scales_the_shorter_side_and_cuts_the_centre(tmp_path: Path, width: int, height: int) -> None:
    path = halves(tmp_path / "a.png", width, height)
    pixels = one(path, size=(16, 16), resize=Resize.CROP)
    scaled = plain(path, height // 2, width // 2)
    top, left = (height // 2 - 16) // 2, (width // 2 - 16) // 2
    np.testing.assert_array_equal(pixels, scaled[top : top + 16, left : left + 16])
    np.testing.assert_array_equal(pixels[2:-2, 2:-2], np.broadcast_to(GREEN, (12, 12, 3)))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64)])
def test_pad_keeps_everything_on_black(tmp_path: Path, width: int, height: int) -> None:
    pixels = one(halves(tmp_path / "a.png", width, height), size=(16, 16), resize=Resize.PAD)
    if height > width:
        pixels = pixels.transpose(1, 0, 2)
    assert not pixels[:4].any()
    assert not pixels[12:].any()
    np.testing.assert_array_equal(pixels[4:12, 1], np.broadcast_to(RED, (8, 3)))
    np.testing.assert_array_equal(pixels[4:12, 8], np.broadcast_to(GREEN, (8, 3)))


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1)])
def test_extreme_shapes(tmp_path: Path, resize: Resize, shape: tuple[int, int]) -> None:
    Image.new("RGB", shape, (9, 90, 200)).save(tmp_path / "a.png")
    assert one(tmp_path / "a.png", resize=resize).max() == 200


# ----------------------------------------------------------------------------------------------- range check


def test_real_images_pass_the_range_check() -> None:
    images.check_range(decode(evaluation_folder(), size=(8, 8)).pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_divided_by_255_are_refused(dtype: type) -> None:
    pixels = RNG.random((5, 4, 4, 3))
    pixels[0, 0, 0] = 0, 0, 1
    with pytest.raises(DataError) as caught:
        images.check_range(pixels.astype(dtype), where="/data/calib")
    assert caught.value.message.startswith("/data/calib: values span [0, 1], the model expects raw values")
    assert "[0, 255]" in caught.value.message
    assert "divided by 255" in caught.value.hint


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1.0, 1.0, r"span \[-1, 1\], the model expects raw values in \[0, 255\]"),
        (0.0, 16.0, r"span \[0, 16\]"),
        (0.0, 300.0, r"span \[0, 300\]"),
        (0.0, np.inf, "NaN or infinite"),
        (np.nan, 255.0, "NaN or infinite"),
        (0.0, 0.0, r"span \[0, 0\]"),
    ],
)
def test_wrong_ranges(low: float, high: float, message: str) -> None:
    pixels = np.zeros((40, 2, 2, 3), np.float32)
    pixels[0], pixels[39, 0, 0, 0] = low, high
    with pytest.raises(DataError, match=message):
        images.check_range(pixels)


def test_the_range_is_the_models_own() -> None:
    pixels = np.linspace(-1, 1, 48, dtype=np.float32).reshape(4, 2, 2, 3)
    images.check_range(pixels, (-1.0, 1.0))
    images.check_range((pixels + 1) * 127.5)
    with pytest.raises(DataError, match=r"span \[0, 255\], the model expects raw values in \[0, 1\]"):
        images.check_range(np.array([0, 255], np.uint8), (0.0, 1.0))


def test_a_late_value_out_of_range_is_found() -> None:
    pixels = np.zeros((8, 1024, 1024, 3), np.float32)  # 12 MB an image: read in several parts
    pixels[0], pixels[7, 5, 5, 1] = 200, 999
    with pytest.raises(DataError, match=r"span \[0, 999\]"):
        images.check_range(pixels)


# ----------------------------------------------------------------------------------------------- real images


def test_embedded_digits() -> None:
    calibration, evaluation = scan(calibration_folder()), scan(evaluation_folder())
    assert calibration.class_names == evaluation.class_names == tuple("0123456789")
    assert [sum(item.label == digit for item in calibration.items) for digit in range(10)] == [10] * 10
    assert len(evaluation.items) == 360


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the real images are not beside the checkout")
def test_real_photographs_are_bit_identical_to_the_plain_way() -> None:
    root = SHARED / "imagenet" / "calib"
    result = decode(root, size=(224, 224))
    for index in range(0, len(result), 17):
        np.testing.assert_array_equal(result.pixels[index], plain(result.paths[index], 224, 224))
