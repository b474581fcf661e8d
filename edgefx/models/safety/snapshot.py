"""A private copy of a model file or folder, and the hash of exactly the bytes in it.

Keras and TensorFlow open a path several times, after edgefx has hashed and judged it. A file that is replaced
in between would be loaded under the hash of the one before, and would not be judged at all. Nothing but a
copy closes that gap: a hash before and one after do not notice a file that is changed and changed back.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgefx.errors import ModelError, NoModelError
from edgefx.storage import temporary

_CHUNK = 1 << 20  # bytes read at once
_MAX_FILES = 10_000  # in the folder of a SavedModel; an EfficientNet has five


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy.

    Attributes:
        path: The copy, a file or a folder.
        sha256: Its content, as `edgefx.storage.hashes.FileHashes.content` computes it: the hash of a file's
            bytes; for a folder the hash of its files' names and hashes.
    """

    path: Path
    sha256: str


@contextmanager
def snapshot(path: Path, *, suffix: str = "", sha256: str | None = None) -> Iterator[Snapshot]:
    """Copy `path` to a temporary folder that only this user may read, and remove it in the end.

    Args:
        path: A regular file, or a folder of regular files; symbolic links to such are followed.
        suffix: How the copy's name ends; Keras goes by the suffix.
        sha256: The hash that the content must have, where the caller has hashed it before.

    Yields:
        The copy.

    Raises:
        ModelError: `path` is or holds something that is neither a file nor a folder, cannot be read, or has
            another hash.
    """
    with temporary.folder(Path(tempfile.gettempdir()), "edgefx-") as folder:
        copy = folder / f"model{suffix}"
        digest = _copy_folder(path, copy) if path.is_dir() else _copy_file(path, copy)
        if sha256 is not None and digest != sha256:
            raise ModelError(f"{path}: was changed while the run read it", hint="run again")
        yield Snapshot(path=copy, sha256=digest)


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: opening a FIFO or reading a device may never end.

    Raises:
        ModelError: There is no such file, or it is something else.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise NoModelError(
            f"{path}: is {_kind(mode)}, not a regular file",
            hint="write its content to a file, and give that",
        )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "something special")


def _copy_file(path: Path, copy: Path) -> str:
    """Copy a file; return the SHA-256 of the bytes that were copied."""
    digest = hashlib.sha256()
    with _opened(path) as source, copy.open("xb", buffering=0) as target:
        while chunk := _read(source, path):
            digest.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[target.write(view) :]
    return digest.hexdigest()


def _copy_folder(path: Path, copy: Path) -> str:
    """Copy a folder's files; return the hash of their names and hashes."""
    total = hashlib.sha256()
    copy.mkdir(mode=0o700)
    for file in _files(path):
        name = file.relative_to(path)
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        total.update(f"{name.as_posix()}\0{_copy_file(file, target)}\n".encode())
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    """List what is in a folder and no folder itself, sorted."""
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        for name in folders:
            if Path(folder, name).is_symlink():
                raise ModelError(
                    f"{path}: {Path(folder, name)} is a link to another folder",
                    hint="copy the model with the folders that its links lead to: cp -rL",
                )
        found += (Path(folder, name) for name in names)
        if len(found) > _MAX_FILES:
            raise ModelError(
                f"{path}: holds more than {_MAX_FILES} files, which no model does",
                hint="give the folder of the model alone",
            )
    return sorted(found)


def _opened(path: Path) -> BinaryIO:
    """Open a regular file; what became a FIFO after it was checked does not block."""
    check_regular(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    file = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ModelError(f"{path}: was changed while the run read it", hint="run again")
    return file


def _read(source: BinaryIO, path: Path) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:  # told apart from an error of the disk that the copy goes to
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path}: cannot be read: {error.strerror or error}")
