"""Decoding: every format and mode, damaged files, resizing, chunks, memory maps and the range check."""

from __future__ import annotations

import shutil
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgefx.data import images
from edgefx.data.digits import calibration_folder, evaluation_folder
from edgefx.data.folders import fingerprint, scan
from edgefx.errors import DataError, DiskFullError
from edgefx.types import ImageSet, Resize

SHARED = Path(__file__).parents[2].parent / "shared" / "images"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (23, 31, 3), np.uint8)  # odd, not square: resizing and rotation show
RED, GREEN = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)


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


# --------------------------------------------------------------------------------------------- damaged files


def damaged(root: Path) -> Path:
    """Write one good image among every kind of damage."""
    root.mkdir()
    Image.fromarray(NOISE).save(root / "good.png")
    jpeg = root / "z.jpg"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(jpeg)
    whole = jpeg.read_bytes()
    png = (root / "good.png").read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "cut.png").write_bytes(png[: len(png) // 2])
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_text("<html>not found</html>")
    (root / "header.png").write_bytes(png[:20])
    (root / "crc.png").write_bytes(png[:30] + b"\0\0\0\0" + png[34:])
    jpeg.unlink()
    return root


def test_all_bad_files_are_named_with_their_reason(tmp_path: Path) -> None:
    root = damaged(tmp_path / "x")
    with pytest.raises(DataError, match="6 of 7 evaluation images cannot be decoded") as caught:
        decode(root)
    assert "--skip-bad-images" in caught.value.hint
    lines = dict(line.removeprefix(f"{root}/").split(": ", 1) for line in caught.value.details)
    assert set(lines) == {"crc.png", "cut.jpg", "cut.png", "empty.png", "header.png", "text.jpg"}
    assert lines["empty.png"] == "the file is empty"
    assert lines["text.jpg"] == "not a JPEG, PNG, WebP, BMP or GIF image"
    assert "truncated" in lines["cut.jpg"]


def test_bad_files_are_skipped_when_asked(tmp_path: Path) -> None:
    result = decode(damaged(tmp_path / "x"), skip_bad=True)
    assert [path.name for path in result.paths] == ["good.png"]
    assert result.pixels.shape == (1, 16, 20, 3)
    assert min(path.name for path, _ in result.skipped) == "crc.png"
    assert len(result.skipped) == 6
    assert all(reason for _, reason in result.skipped)


def test_labels_stay_with_their_images_when_some_are_skipped(tmp_path: Path) -> None:
    root = many(tmp_path / "x", 30)
    for index in (0, 7, 29):
        (root / str(index % 3) / f"{index:03}.png").write_bytes(b"broken")
    result = decode(root, skip_bad=True)
    assert len(result) == 27
    assert result.labels is not None
    for path, label, pixels in zip(result.paths, result.labels, result.pixels, strict=True):
        assert int(path.stem) == pixels[0, 0, 0]
        assert int(path.stem) % 3 == label


def test_nothing_but_bad_files_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"{index:02}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 12 evaluation images can be decoded") as caught:
        decode(tmp_path, skip_bad=True)
    assert len(caught.value.details) == 11
    assert caught.value.details[-1] == "+ 2 more"


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    with pytest.raises(DataError) as caught:
        decode(tmp_path)
    assert "too large: " in caught.value.details[0]
    assert "3600000000 pixels" in caught.value.details[0]


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    root = many(tmp_path / "x", 3)
    data = scan(root)
    data.items[1].path.unlink()
    with pytest.raises(DataError) as caught:
        images.decode(
            data,
            height=4,
            width=4,
            resize=Resize.STRETCH,
            skip_bad=False,
            progress=Recorder(),
            role="evaluation",
        )
    assert "No such file" in caught.value.details[0]


# ------------------------------------------------------------------------------- order, chunks, interruption


def test_order_labels_hash_and_progress(tmp_path: Path) -> None:
    data = scan(many(tmp_path / "x", 50))
    progress = Recorder()
    result = images.decode(
        data,
        height=4,
        width=5,
        resize=Resize.STRETCH,
        skip_bad=False,
        progress=progress,
        role="calibration",
    )
    assert progress.tasks == [("decode calibration images", 50)]
    assert progress.done == 50
    assert result.paths == tuple(item.path for item in data.items)
    assert result.labels is not None
    assert result.labels.tolist() == [item.label for item in data.items]
    assert [int(pixels[0, 0, 0]) for pixels in result.pixels] == [int(path.stem) for path in result.paths]
    assert result.sha256 == fingerprint(data, height=4, width=5, resize=Resize.STRETCH)


def loading(
    root: Path, *, skip_bad: bool = False, size: int = 4, threads: int | None = None
) -> AbstractContextManager[images.Loader]:
    return images.load(
        scan(root),
        height=size,
        width=size,
        resize=Resize.STRETCH,
        skip_bad=skip_bad,
        progress=Recorder(),
        role="evaluation",
        threads=threads,
    )


def test_chunks_are_the_whole_set_in_order(tmp_path: Path) -> None:
    root = many(tmp_path / "x", 50)
    (root / "0" / "003.png").write_bytes(b"broken")
    with loading(root, skip_bad=True) as loader:
        parts = [(start, chunk.copy()) for start, chunk in loader.chunks(16)]
        again = [start for start, _ in loader.chunks(16)]
        result = loader.finish()
    assert [start for start, _ in parts] == again == [0, 16, 32, 48]
    assert [len(chunk) for _, chunk in parts] == [16, 16, 16, 1]
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in parts]), result.pixels)


def test_decoding_runs_ahead_of_the_consumer(tmp_path: Path) -> None:
    """While the consumer holds the first chunk, other threads decode what follows."""
    with loading(many(tmp_path / "x", 40)) as loader:
        chunks = loader.chunks(4)
        next(chunks)
        for future in list(loader._waiting):
            assert future.result(timeout=5).pixels is not None
        assert len(loader._waiting) == 36


def test_a_bad_file_ends_the_chunks_but_all_bad_files_are_named(tmp_path: Path) -> None:
    root = many(tmp_path / "x", 30)
    for name in ("2/002.png", "2/029.png"):
        (root / name).write_bytes(b"broken")
    seen: list[int] = []

    def consume() -> None:
        with loading(root) as loader:
            seen.extend(len(chunk) for _, chunk in loader.chunks(8))

    with pytest.raises(DataError) as caught:
        consume()
    assert seen == [8, 8]  # the first bad file is number 20 in order
    assert len(caught.value.details) == 2


def test_an_interruption_ends_the_threads(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (300, 300, 3), np.uint8)).save(tmp_path / "00.png")  # some ms each
    for index in range(1, 40):
        shutil.copy(tmp_path / "00.png", tmp_path / f"{index:02}.png")
    before = threading.active_count()
    used: list[images.Loader] = []

    def interrupted() -> None:
        with loading(tmp_path, threads=1) as loader:
            used.append(loader)
            next(loader.chunks(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before
    assert sum(future.cancelled() for future in used[0]._waiting) > 10


def test_an_empty_data_set_is_an_error(tmp_path: Path) -> None:
    data = scan(many(tmp_path / "x", 3))
    empty = type(data)(root=data.root, items=(), class_names=data.class_names, kind=data.kind)
    with pytest.raises(DataError, match="no evaluation images"):
        images.decode(
            empty,
            height=4,
            width=4,
            resize=Resize.STRETCH,
            skip_bad=False,
            progress=Recorder(),
            role="evaluation",
        )


def test_large_sets_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = many(tmp_path / "x", 9)
    in_memory = decode(root)
    monkeypatch.setattr(images, "MAP_ABOVE_BYTES", 1000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mapped = decode(root, scratch=scratch)
    assert isinstance(mapped.pixels, np.memmap)
    assert [path.stat().st_size for path in scratch.iterdir()] == [9 * 16 * 20 * 3]
    np.testing.assert_array_equal(mapped.pixels, in_memory.pixels)
    images.check_range(mapped.pixels)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_said_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    root = many(tmp_path / "x", 9)
    monkeypatch.setattr(images, "MAP_ABOVE_BYTES", 1000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses larger files: EFBIG
    try:
        with pytest.raises(DiskFullError, match="no space for 0 MB of decoded evaluation images"):
            decode(root, scratch=scratch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(scratch.iterdir()) == []


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
