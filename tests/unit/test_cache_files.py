"""Hashes of input files: never stale, and remembered where that is safe."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from edgefx.storage import hashes as files
from edgefx.storage.hashes import FileHashes

OLD_S = time.time() - 3600


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    seen: list[Path] = []
    original = files.hash_file

    def spy(path: Path) -> str:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(files, "hash_file", spy)
    monkeypatch.setattr(files, "_RACY_NS", 0)
    return seen


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_unchanged_files_are_not_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    for _ in range(3):
        hashes = FileHashes(tmp_path / "cache")
        assert hashes.sha256(path) == hashes.sha256(path) == sha256(b"one")
        hashes.close()
    assert reads == [path]


def test_a_file_of_the_same_size_and_time_is_noticed(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    os.utime(path, (OLD_S, OLD_S))
    hashes = FileHashes(tmp_path / "cache")
    assert hashes.sha256(path) == sha256(b"one")
    hashes.close()
    time.sleep(0.02)  # a tick of the file system's clock
    path.write_bytes(b"two")
    os.utime(path, (OLD_S, OLD_S))
    hashes = FileHashes(tmp_path / "cache")
    assert hashes.sha256(path) == sha256(b"two")
    assert len(reads) == 2


def test_fresh_files_are_not_remembered_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    hashes = FileHashes(tmp_path / "cache")
    hashes.sha256(path)
    assert hashes._new == []


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_damaged_memory_is_harmless(tmp_path: Path, reads: list[Path], content: bytes) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / files._NAME).write_bytes(content)
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    hashes = FileHashes(tmp_path / "cache")
    assert hashes.sha256(path) == sha256(b"one")
    hashes.close()
    assert reads == [path]


def test_a_folder_that_cannot_be_made_is_harmless(tmp_path: Path, reads: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    hashes = FileHashes(tmp_path / "file" / "cache")
    assert hashes.sha256(path) == sha256(b"one")
    hashes.close()
    assert reads


def test_many_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    hashes = FileHashes(None)
    assert hashes.all([tmp_path / "a", tmp_path / "b"]) == [sha256(b"a"), "unreadable"]
    with pytest.raises(FileNotFoundError):
        hashes.sha256(tmp_path / "b")


def test_a_folder_counts_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "m" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "m" / "variables" / "data").write_bytes(b"weights")
    hashes = FileHashes(None)
    first = hashes.content(tmp_path / "m")
    (tmp_path / "m" / "variables" / "data").rename(tmp_path / "m" / "variables" / "other")
    assert hashes.content(tmp_path / "m") != first
    (tmp_path / "m" / "variables" / "other").rename(tmp_path / "m" / "variables" / "data")
    assert hashes.content(tmp_path / "m") == first
