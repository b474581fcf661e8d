"""Nothing is half-written: the output folder stages, publishes and cleans up."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from edgefx.errors import DiskFullError, OutputError
from edgefx.pipeline.output import opened
from edgefx.storage.disk import disk_errors


def _fail_in(out: Path, error: BaseException) -> None:
    with opened(out) as folder:
        (folder.staging / "half").write_text("x")
        raise error


def test_published_files_replace_older_ones(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with opened(out) as folder:
        for text in ("old", "new"):
            staged = folder.staging / "a.xml"
            staged.write_text(text)
            companion = folder.staging / "a.bin"
            companion.write_text(text)
            assert folder.publish((staged, companion)) == (out / "a.xml", out / "a.bin")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.xml": "new", "a.bin": "new"}


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        _fail_in(out, KeyboardInterrupt())
    assert not out.exists()


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="boom"):
        _fail_in(tmp_path, ValueError("boom"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError) as caught, opened(tmp_path / "out"):
        pass
    assert "-o" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"), opened(tmp_path / "out"):
        pass


def test_a_read_only_file_system() -> None:
    with pytest.raises(OutputError, match="cannot be written"), opened(Path("/proc/edgefx-out")):
        pass


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space left") as caught, disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file"))
    assert str(tmp_path) in caught.value.message


def test_files_that_are_there_already(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    sha256 = hashlib.sha256(b"a").hexdigest()
    with opened(tmp_path) as folder:
        assert folder.holds({"a": sha256})
        assert not folder.holds({"a": sha256, "b": sha256})
        assert not folder.holds({"a": hashlib.sha256(b"b").hexdigest()})


def test_the_disk_that_is_full_is_named(tmp_path: Path) -> None:
    """The temporary folder and the output may be two disks; the error of one must not name the other."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    for inner in (out, scratch):
        with (
            pytest.raises(DiskFullError, match=f"{inner}: no space left"),
            opened(out),
            disk_errors(scratch),
        ):
            raise OSError(errno.ENOSPC, "No space left on device", str(inner / "file"))


def test_a_full_disk_of_an_unnamed_file_is_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=f"{tmp_path}: no space left"), opened(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
