"""SHA-256 of input files, remembered by what `stat` says, so that unchanged files are not read again.

A file counts as unchanged while its path, size, inode, modification and change times are the same; the last
cannot be set by a program. As in Git, a file that was written in the last two seconds is not remembered: it
could change again within the resolution of its time stamp.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from edgefx.storage.regular import open_regular

_RACY_NS = 2 * 10**9
_FORGET_DAYS = 90
_CHUNK = 1 << 20
_NAME = "hashes-v1.sqlite"


class FileHashes:
    """Hashes files, with a memory on disk that is no more than a shortcut: any trouble with it is harmless.

    Args:
        folder: Where the memory is kept; None remembers for this process only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / _NAME if folder is not None else None
        self._known: dict[str, tuple[str, str]] = {}  # path -> (what stat says, sha256)
        self._new: list[tuple[str, str, str, int]] = []
        self._database: sqlite3.Connection | None = None
        self._today = int(time.time() // 86400)

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes.

        Raises:
            OSError: It cannot be read.
        """
        name = os.path.abspath(path)  # noqa: PTH100 - `Path.absolute` keeps "..", and this runs 1000 times
        before = os.stat(name)  # noqa: PTH116 - likewise
        if not stat.S_ISREG(before.st_mode):  # opening a FIFO or reading a device may never end
            raise OSError(errno.EINVAL, "not a regular file", name)
        stamp = _stamp(before)
        known = self._known.get(name) or self._remembered(name)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = hash_file(path)
        status = os.stat(name)  # noqa: PTH116
        if _stamp(status) == stamp:
            self._known[name] = stamp, digest
            if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _RACY_NS:
                self._new.append((_stored(name), stamp, digest, self._today))
        return digest

    def all(self, paths: Iterable[Path]) -> list[str]:
        """Return the hashes of many files, "unreadable" for one that cannot be read."""
        found = []
        for path in paths:
            try:
                found.append(self.sha256(path))
            except OSError:
                found.append("unreadable")
        return found

    def content(self, path: Path) -> str:
        """Return the hash of a file, or of a folder's files with their relative names and sizes.

        Raises:
            OSError: Something cannot be read.
        """
        if not path.is_dir():
            return self.sha256(path)
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(
                f"{file.relative_to(path).as_posix()}\0{self.sha256(file)}\n".encode(errors="surrogateescape")
            )
        return total.hexdigest()

    def close(self) -> None:
        """Write down what was learnt."""
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._new and (database := self._opened()) is not None:
                with database:
                    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", self._new)
                    database.execute("DELETE FROM files WHERE day < ?", (self._today - _FORGET_DAYS,))
        if self._database is not None:
            self._database.close()
            self._database = None
        self._new.clear()

    def remove(self) -> None:
        """Remove the memory from the disk.

        Raises:
            OSError: The folder cannot be written.
        """
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _remembered(self, name: str) -> tuple[str, str] | None:
        # In a folder that may not be entered, `Path.exists` raises.
        if self._path is None or (self._database is None and not os.path.exists(self._path)):  # noqa: PTH110
            return None
        try:
            database = self._opened()
            if database is None:
                return None
            row = database.execute(
                "SELECT stamp, sha256, day FROM files WHERE path = ?", (_stored(name),)
            ).fetchone()
        except sqlite3.Error:
            self._forget_all()
            return None
        if row is None:
            return None
        stamp, digest, day = row
        if day < self._today:
            self._new.append((_stored(name), stamp, digest, self._today))  # still of use
        self._known[name] = stamp, digest
        return stamp, digest

    def _opened(self) -> sqlite3.Connection | None:
        if self._database is None and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, timeout=2.0)
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS files"
                " (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT, day INTEGER) WITHOUT ROWID"
            )
        return self._database

    def _forget_all(self) -> None:
        """The file is damaged, locked for long, or on a file system without locks: go on without it."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._path = None


def _stored(name: str) -> str:
    """Return a path as the memory has it: one that is not UTF-8 is no text that SQLite takes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"bytes:{os.fsencode(name).hex()}"
    return name


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}:{status.st_dev}"
