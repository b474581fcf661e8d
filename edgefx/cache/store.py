"""A content-addressed store of stage outputs: a folder per entry, named by its key.

    <folder>/v1/ab/abcdef.../manifest.json    what it is: key, time, payload, the sha256 of each file
                            /<file>...        files too large for the payload
    <folder>/v1/temporary/                    entries being written or removed

An entry is written under a temporary name and appears by one rename, so that none is ever half there: not
for a second process, nor after a kill at any instant. Nothing is locked: two processes that compute the same
entry both succeed, and the first one's is kept. Nothing is flushed to disk either: whatever is read is
compared with its sha256 first, so that what a power failure tore is found, removed and computed again, as is
any other damage.

A cache that cannot be written (read-only, full) costs a warning and time, never a run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgefx.cache.entry import Entry, Json, Key, StoredFile, manifest, parsed
from edgefx.storage import temporary
from edgefx.storage.disk import is_disk_full
from edgefx.storage.hashes import hash_file
from edgefx.storage.regular import read_bytes

_LAYOUT = "v1"
_TEMPORARY = "temporary"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 256 * 10**6  # the largest hold the predictions of a large image set: some megabytes
# What reading damaged JSON raises.
_NOT_A_MANIFEST = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_TRIM_AFTER = 0.1  # of the limit written since the last look at the whole size
# https://bford.info/cachedir/ : backup tools leave such a folder out.
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of edgefx; it may be removed.\n"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One entry on disk, for `edgefx cache info` and for making room."""

    folder: Path
    stage: str
    size_bytes: int
    used_s: float  # when it was last read or written, seconds since the epoch


class Store:
    """Entries on disk.

    Args:
        folder: The cache folder, made when something is first written; None keeps nothing.
        limit_bytes: What the entries together may take; the least recently used ones go first.
        warn: Told once of each trouble; a run goes on without the cache.
    """

    def __init__(self, folder: Path | None, *, limit_bytes: int, warn: Callable[[str], None]) -> None:
        self._base = folder
        self._folder = folder / _LAYOUT if folder is not None else None
        self._limit = limit_bytes
        self._warn = warn
        self._writable = folder is not None and limit_bytes > 0
        self._unseen = 0  # bytes written since the store was last trimmed
        self._told: set[str] = set()

    @property
    def enabled(self) -> bool:
        """Whether entries are looked up at all."""
        return self._folder is not None

    # ---------------------------------------- entries

    def get(self, wanted: Key) -> Entry | None:
        """Look an entry up; None when there is none, or when it was damaged and had to be removed."""
        if self._folder is None:
            return None
        folder = self._entry_folder(wanted.digest)
        try:
            text = read_bytes(folder / _MANIFEST, limit_bytes=_MANIFEST_BYTES)
        except FileNotFoundError:
            return None
        except PermissionError as error:  # another user's: so is every other entry
            self._complain(f"{self._base} cannot be read: {error.strerror}")
            return None
        except OSError as error:
            self._complain(f"{folder} cannot be read: {error.strerror}")
            return None
        try:
            entry = parsed(text, wanted, folder)
        except _NOT_A_MANIFEST as error:
            self._discard(folder, f"its manifest is damaged ({error})")
            return None
        with contextlib.suppress(OSError):  # read-only, or removed by another process just now
            os.utime(folder / _MANIFEST)
        return entry

    def put(
        self, wanted: Key, payload: Json, files: Mapping[str, Path | bytes] | None = None
    ) -> Entry | None:
        """Store a result; None when it could not be stored.

        Args:
            wanted: Its key.
            payload: What describes it, as JSON.
            files: File name in the entry -> its content, or the file to copy.
        """
        if not self._writable or self._folder is None:
            return None
        try:
            entry = self._write(wanted, payload, files or {})
        except OSError as error:
            self._writable = False
            reason = error.strerror or str(error)
            if is_disk_full(error):
                reason += ": make room with edgefx cache clean"
            self._complain(f"{self._base} cannot be written: {reason}; results are not kept from here on")
            return None
        if self._unseen > _TRIM_AFTER * self._limit:
            self.trim()
        return entry

    def copy(self, entry: Entry, to: Path, *, needed: Collection[str] = ()) -> bool:
        """Copy an entry's files into the folder `to`, comparing each with its sha256.

        Args:
            entry: From `get`.
            to: The folder.
            needed: Files without which the entry is of no use.

        Returns:
            False when a file is missing or damaged; the entry is gone then, and nothing is left in `to`.

        Raises:
            OSError: `to` cannot be written.
        """
        for name in sorted(set(needed) - {file.name for file in entry.files}):
            self._discard(entry.folder, f"{name} is missing")
            return False
        to.mkdir(parents=True, exist_ok=True)
        done: list[Path] = []
        for file in entry.files:
            target = to / file.name
            done.append(target)
            if problem := _copy_problem(entry.folder / file.name, target, file.sha256):
                for path in done:
                    path.unlink(missing_ok=True)
                self._discard(entry.folder, f"{file.name} {problem}")
                return False
        return True

    def read(self, entry: Entry, name: str) -> bytes | None:
        """Return the content of one of an entry's files; None when it is damaged, and the entry gone."""
        file = next((file for file in entry.files if file.name == name), None)
        if file is None:
            self._discard(entry.folder, f"{name} is missing")
            return None
        try:
            content = read_bytes(entry.folder / name, limit_bytes=file.size_bytes)
        except OSError as error:
            self._discard(entry.folder, f"{name} cannot be read ({error.strerror})")
            return None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            self._discard(entry.folder, f"{name} is damaged")
            return None
        return content

    def discard(self, entry: Entry, reason: str) -> None:
        """Remove an entry that turned out to be unusable, with a warning."""
        self._discard(entry.folder, reason)

    # ---------------------------------------- housekeeping

    def usages(self) -> list[Usage]:
        """List all entries, the least recently used first."""
        found = [usage for folder in self._folders() if (usage := _usage(folder)) is not None]
        return sorted(found, key=lambda usage: usage.used_s)

    def trim(self) -> int:
        """Remove the least recently used entries until the rest is within the limit; return bytes freed.

        Temporary folders of processes that were killed go as well.
        """
        if self._folder is None:
            return 0
        temporary.sweep(self._folder / _TEMPORARY, "")
        self._unseen = 0
        usages = self.usages()
        total = sum(usage.size_bytes for usage in usages)
        freed = 0
        for usage in usages:
            if total - freed <= self._limit:
                break
            freed += usage.size_bytes if self._remove(usage.folder) else 0
        return freed

    def clean(self, *, unused_for_s: float = 0.0) -> tuple[int, int]:
        """Remove the entries that were not used for that long; return their number and their bytes.

        Raises:
            OSError: The folder cannot be written.
        """
        if self._folder is None or not self._folder.is_dir():
            return 0, 0
        temporary.sweep(self._folder / _TEMPORARY, "")
        before = time.time() - unused_for_s
        removed = size = 0
        for usage in self.usages():
            if usage.used_s <= before:
                self._move_away(usage.folder)
                removed, size = removed + 1, size + usage.size_bytes
        return removed, size

    def close(self) -> None:
        """Make room if this run has written something."""
        if self._unseen:
            self.trim()

    # ---------------------------------------- files

    def _entry_folder(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / digest[:2] / digest

    def _folders(self) -> Iterator[Path]:
        if self._folder is None or not self._folder.is_dir():
            return
        for shelf in sorted(self._folder.iterdir()):
            if len(shelf.name) == 2 and shelf.is_dir():
                yield from (path for path in shelf.iterdir() if path.is_dir())

    def _write(self, wanted: Key, payload: Json, files: Mapping[str, Path | bytes]) -> Entry | None:
        assert self._folder is not None
        assert self._base is not None
        size = sum(_size(content) for content in files.values())
        if size > self._limit:
            self._complain(f"an entry of {size / 1e6:.0f} MB is larger than the cache may grow")
            return None
        shelf = self._folder / _TEMPORARY
        shelf.mkdir(parents=True, exist_ok=True)
        if not (tag := self._base / "CACHEDIR.TAG").exists():
            tag.write_text(_TAG)
        made = temporary.make(shelf, "")
        try:
            stored = tuple(
                StoredFile(name=name, size_bytes=_size(content), sha256=_copy(content, made / name))
                for name, content in files.items()
            )
            created = datetime.now(tz=UTC).isoformat(timespec="seconds")
            text = manifest(wanted, created, payload, stored)
            (made / _MANIFEST).write_text(text, encoding="utf-8")
            final = self._entry_folder(wanted.digest)
            final.parent.mkdir(exist_ok=True)
            try:
                made.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not final.is_dir():
                    raise  # else another process has computed the same in the meantime
        finally:
            shutil.rmtree(made, ignore_errors=True)
        self._unseen += size + len(text)
        return Entry(key=wanted, created=created, payload=payload, files=stored, folder=final)

    def _discard(self, folder: Path, reason: str) -> None:
        self._complain(f"entry {folder.name[:12]} is removed and computed again: {reason}")
        self._remove(folder)

    def _remove(self, folder: Path) -> bool:
        """Remove an entry at once for all readers; a cache that cannot be written keeps it."""
        try:
            self._move_away(folder)
        except OSError:
            return False
        return True

    def _move_away(self, folder: Path) -> None:
        assert self._folder is not None
        shelf = self._folder / _TEMPORARY
        shelf.mkdir(exist_ok=True)
        bin_ = temporary.make(shelf, "")
        try:
            folder.rename(bin_ / folder.name)
        except FileNotFoundError:  # another process was faster
            pass
        finally:
            shutil.rmtree(bin_, ignore_errors=True)

    def _complain(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._warn(f"cache: {message}")


def _usage(folder: Path) -> Usage | None:
    """Measure an entry; None when another process removes it meanwhile."""
    try:
        stage = str(json.loads(read_bytes(folder / _MANIFEST, limit_bytes=_MANIFEST_BYTES))["stage"])
    except (OSError, *_NOT_A_MANIFEST):
        stage = "damaged"
    try:
        sizes = [path.stat().st_size for path in folder.iterdir()]
        manifest = folder / _MANIFEST
        used_s = (manifest if manifest.exists() else folder).stat().st_mtime
    except OSError:
        return None
    return Usage(folder=folder, stage=stage, size_bytes=sum(sizes), used_s=used_s)


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _copy(source: Path | bytes, target: Path) -> str:
    """Write a file and return the SHA-256 of what was written."""
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copyfile(source, target)  # in the kernel where it can
    return hash_file(target)


def _copy_problem(source: Path, target: Path, sha256: str) -> str:
    """Copy a file that must have a certain hash; return what is wrong with it, or "".

    Raises:
        OSError: `target` cannot be written.
    """
    if not source.is_file():
        return "is missing"
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        # `copyfile` names the source even where it was the target that had no room, or could not grow.
        if _is_intact(source, sha256):
            raise OSError(error.errno, error.strerror, str(target)) from error
        return f"cannot be read ({error.strerror})"
    return "" if hash_file(target) == sha256 else "is damaged"


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return hash_file(path) == sha256
    except OSError:
        return False
