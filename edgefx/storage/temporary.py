"""Temporary files and folders that a killed process leaves behind, and how the next one gets rid of them.

A name says who made it: ``<prefix><machine>-<process id>-<random>``, for files with a suffix. It is stale
when its process has ended. Where that cannot be known (another machine or container, a process id that was
given to another process since), it is stale after a week.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_STALE_S = 7 * 24 * 3600.0
_WORKSPACE = "edgefx-"
_NAME = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{12}(\.\w+)?")


def make(parent: Path, prefix: str) -> Path:
    """Create a temporary folder inside `parent`, which only this user may read.

    Raises:
        OSError: `parent` cannot be written.
    """
    path = parent / name(prefix)
    path.mkdir(mode=0o700)
    return path


def name(prefix: str, suffix: str = "") -> str:
    """Return a name that no other process uses, and by which `sweep` knows its maker."""
    return f"{prefix}{_machine()}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"


@contextmanager
def folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a temporary folder, remove stale ones of the same prefix, and remove it in the end."""
    path = parent / name(prefix)
    try:  # from here on an interruption leaves nothing behind
        path.mkdir(mode=0o700)
        sweep(parent, prefix)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def workspace() -> Iterator[Path]:
    """Create the folder that all temporary files go to while the block runs, those of libraries too.

    TensorFlow writes the sources that it generates to the temporary folder. Inside this one they are removed
    in the end, or, after a kill, by the next run.

    Raises:
        OSError: The temporary folder cannot be written.
    """
    with folder(Path(tempfile.gettempdir()), _WORKSPACE) as path:
        before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(path)
        try:
            yield path
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable


def sweep(parent: Path, prefix: str) -> None:
    """Remove what is stale in `parent`; what running processes have made stays."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix) or not _is_stale(entry, prefix):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _is_stale(entry: os.DirEntry[str], prefix: str) -> bool:
    match = _NAME.fullmatch(entry.name.removeprefix(prefix))
    if match is None:  # not made here
        return False
    try:
        changed_s = entry.stat(follow_symlinks=False).st_mtime
    except OSError:  # another process was faster
        return False
    is_old = time.time() - changed_s > _STALE_S
    if match[1] == _machine():
        return not _is_running(int(match[2])) or (is_old and _is_younger(int(match[2]), changed_s))
    return is_old


@cache
def _machine() -> str:
    """Name what process ids are unique in: this machine since it was started, and this container of it."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def _is_younger(process: int, time_s: float) -> bool:
    """Whether a process started after `time_s`: it has got the process id of one that ended."""
    import psutil

    try:
        return bool(psutil.Process(process).create_time() > time_s)
    except psutil.Error:  # it has ended meanwhile, or is another user's
        return False
