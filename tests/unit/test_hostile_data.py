"""Images, labels and records that were made to break who reads them: each is an error that says why."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefx.data import pixels
from edgefx.data.calibration import split
from edgefx.data.folders import fingerprint, scan
from edgefx.errors import DataError, UsageError
from edgefx.pipeline import plan as planning
from edgefx.provenance import lock, predictions
from edgefx.recipe import compose
from edgefx.recipe.load import parse
from edgefx.storage.hashes import FileHashes
from edgefx.types import Resize


def image(path: Path, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)).save(path)
    return path


def table(root: Path, *rows: str) -> Path:
    for name in ("a.png", "b.png"):
        image(root / name)
    (root / "labels.csv").write_text("\n".join(("file,label", *rows, "")))
    return root


def refused(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        scan(root)
    assert caught.value.hint
    return caught.value


# -------------------------------------------------------------------------------------------------- labels


def test_an_absolute_path_is_refused(tmp_path: Path) -> None:
    error = refused(table(tmp_path, "a.png,0", f"{tmp_path}/b.png,1", "/etc/passwd,1"))
    assert "2 of 3 paths in it are absolute" in error.message
    assert "relative to" in error.hint
    assert error.details[0] == f"row 3: {tmp_path}/b.png"


@pytest.mark.parametrize("label", ["3.0", "1e3", "9" * 30, "9" * 5000, "-1.5", ".5", "+7."])
def test_a_number_that_is_no_index_is_refused(tmp_path: Path, label: str) -> None:
    error = refused(table(tmp_path, "a.png,0", f"b.png,{label}"))
    assert "row 3" in error.message
    assert "no class index" in error.message
    assert len(error.message) < 300


def test_names_with_digits_are_names(tmp_path: Path) -> None:
    assert scan(table(tmp_path, "a.png,v1.0", "b.png,3rd")).class_names == ("3rd", "v1.0")


def test_a_label_of_a_calibration_image_is_checked_too(tmp_path: Path) -> None:
    """With one folder for both purposes, the plan keeps what it was divided from."""
    table(tmp_path, "a.png,0", "b.png,99")
    recipe = parse(
        {
            "version": 1,
            "model": {"source": "digits"},
            "targets": ["tflite-int8"],
            "calibration": {"images": str(tmp_path), "samples": 1},
            "evaluate": {},
            "output": str(tmp_path / "out"),
        },
        where="test",
    )
    planned = planning._with_data(
        planning.Plan(recipe=recipe, targets=planning.resolve(recipe), calibration=None, evaluation=None)
    )
    assert planned.listed is not None
    assert {item.label for item in planned.listed.items} == {0, 99}


def test_an_output_folder_must_not_become_a_class(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/b.png", "y/c.png", "y/d.png"):
        image(tmp_path / name)
    dataset = scan(tmp_path)
    with pytest.raises(UsageError, match="whose sub-folders are classes"):
        planning._check_output(tmp_path / "build", dataset)
    planning._check_output(tmp_path.parent / "build", dataset)
    planning._check_output(tmp_path / "build", replace(dataset, kind="flat"))


# --------------------------------------------------------------------------------------------------- names


def test_names_that_are_not_utf8_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefx.storage.hashes._RACY_NS", -(10**18))  # files just written are remembered too
    root = tmp_path / "photos"
    for number, name in enumerate((b"a/\xff.png", b"a/2.png", b"\xfe\x80/3.png", b"\xfe\x80/4.png")):
        image(Path(os.fsdecode(os.fsencode(root) + b"/" + name)), seed=number)
    dataset = scan(root)
    chosen, rest = split(dataset, samples=2, seed=0)
    assert len(chosen.items) == len(rest.items) == 2
    hashes = FileHashes(tmp_path / "cache")
    found = hashes.all(item.path for item in dataset.items)
    hashes.close()
    again = FileHashes(tmp_path / "cache").all(item.path for item in dataset.items)
    assert found == again
    assert "unreadable" not in found
    assert fingerprint(dataset, height=4, width=4, resize=Resize.STRETCH)


# --------------------------------------------------------------------------------------- no regular files


@pytest.mark.parametrize("name", ["labels.csv", "a.png", "a", "class/a.png"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    for other in ("class/b.png", "second/c.png"):
        if "/" in name:
            image(tmp_path / other)
    if "/" not in name:
        image(tmp_path / "z.png")
    path = tmp_path / name
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        if name == "labels.csv":
            assert "only regular files are read" in refused(tmp_path).message
        elif name == "a":  # without a suffix it is no image to begin with
            assert len(scan(tmp_path).items) == 1
        else:
            assert path in [item.path for item in scan(tmp_path).items]
            decoded = pixels.read(path, 4, 4, Resize.STRETCH)
            assert (decoded.digest, decoded.pixels) == ("unreadable", None)
            assert "only regular files are read" in decoded.reason
            assert FileHashes(None).all([path]) == ["unreadable"]


def test_records_that_are_no_regular_files(tmp_path: Path) -> None:
    for name in (lock.NAME, predictions.NAME, "r.yaml"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="a named pipe"):
        lock.read(tmp_path)
    with pytest.raises(DataError, match="a named pipe"):
        predictions.read(tmp_path / predictions.NAME)
    with pytest.raises(UsageError, match="a named pipe"):
        compose.read(tmp_path / "r.yaml")


@pytest.mark.parametrize("sign", ["[", '{"a":'])
def test_records_nested_too_deeply(tmp_path: Path, sign: str) -> None:
    for name in (lock.NAME, predictions.NAME):
        (tmp_path / name).write_text(sign * 100_000)
    with pytest.raises(UsageError, match="no lock file of edgefx"):
        lock.read(tmp_path)
    with pytest.raises(DataError, match="no predictions of edgefx"):
        predictions.read(tmp_path / predictions.NAME)


# -------------------------------------------------------------------------------------------------- pixels


def png(path: Path, *, width: int, height: int, bits: int = 16, colour: int = 0) -> Path:
    """Write a small PNG file of many pixels, all zero."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels = 3 if colour == 2 else 1
    row = bytes(1 + width * channels * bits // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def test_the_header_bounds_the_pixels(tmp_path: Path) -> None:
    path = png(tmp_path / "large.png", width=13_000, height=13_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = pixels.read(path, 4, 4, Resize.STRETCH)
    assert decoded.pixels is None
    assert decoded.reason == f"too large: 13000 x 13000 pixels, at most {pixels.MAX_PIXELS} are decoded"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB; 7 GB before


def test_a_large_photograph_is_decoded(tmp_path: Path) -> None:
    path = png(tmp_path / "photo.png", width=6000, height=4000, bits=8, colour=2)
    decoded = pixels.read(path, 4, 4, Resize.STRETCH)
    assert decoded.reason == ""
    assert decoded.pixels is not None


def test_sixteen_bits_keep_their_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (7, 5)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    decoded = pixels.read(tmp_path / "a.png", 7, 5, Resize.STRETCH)
    assert decoded.pixels is not None
    np.testing.assert_array_equal(decoded.pixels[..., 0], (values >> 8).astype(np.uint8))


def test_large_images_wait_for_each_other() -> None:
    budget = pixels._Budget(10)
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with budget.take(8):
            order.append("first")
            inside.set()
            leave.wait(5)
            order.append("first leaves")

    def second() -> None:
        with budget.take(1000):  # more than there is: alone
            order.append("second")

    threads = [threading.Thread(target=one) for one in (first, second)]
    threads[0].start()
    assert inside.wait(5)
    threads[1].start()
    with budget.take(2):  # fits beside the first one
        order.append("small")
    leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "small", "first leaves", "second"]


def test_a_file_that_is_too_long_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert pixels.read(path, 4, 4, Resize.STRETCH).reason == "larger than 300 MB"
