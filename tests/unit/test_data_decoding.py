"""Sets of images: damaged files, order, chunks, interruption, memory maps and full disks."""

from __future__ import annotations

import shutil
import struct
import threading
import zlib
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefx.data import images
from edgefx.data.folders import fingerprint, scan
from edgefx.errors import DataError, DiskFullError
from edgefx.types import Resize
from tests.unit.decoded import NOISE, RNG, Recorder, decode, many

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
