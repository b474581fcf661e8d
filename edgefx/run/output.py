"""The output folder: everything is written under a temporary name and renamed, so nothing is half-written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgefx import temporary
from edgefx.errors import DiskFullError, OutputError

_PREFIX = ".edgefx-"


class OutputFolder:
    """A folder that artifacts are published into.

    Attributes:
        path: The folder itself.
        staging: A hidden folder inside it (same file system, so that renaming is atomic).
    """

    def __init__(self, path: Path, staging: Path) -> None:
        self.path = path
        self.staging = staging

    def holds(self, files: Mapping[str, str]) -> bool:
        """Whether the folder has files of these names and SHA-256 already."""
        from edgefx.cache.files import hash_file

        try:
            return all(hash_file(self.path / name) == sha256 for name, sha256 in files.items())
        except OSError:
            return False

    def publish(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Move finished files from `staging` to the folder, the main file (first) last.

        A reader that sees the main file therefore sees its companions too.
        """
        for file in reversed(files):
            file.replace(self.path / file.name)
        return tuple(self.path / file.name for file in files)


@contextmanager
def opened(path: Path) -> Iterator[OutputFolder]:
    """Make sure that `path` can be written, and remove every temporary file afterwards.

    Raises:
        OutputError: The folder cannot be created or written.
        DiskFullError: No space is left on its device.
    """
    # The nearest folder that exists already: an output folder made here is removed again if it stays empty.
    existed = path.exists()
    staging = path / temporary.name(_PREFIX)
    try:  # from here on an interruption leaves nothing behind
        try:
            path.mkdir(parents=True, exist_ok=True)
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise _explained(error, path) from error
        temporary.sweep(path, _PREFIX)  # of runs that were killed
        with disk_errors(path):
            yield OutputFolder(path, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that a file system has no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" into an error that says where and what to do."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise _explained(error, path) from error
        raise


def _explained(error: OSError, path: Path) -> OutputError | DiskFullError:
    if is_disk_full(error):
        return DiskFullError(
            f"{path}: no space left on the device",
            hint="free some space, or choose another output folder (-o) or temporary folder (TMPDIR)",
        )
    reason = error.strerror or type(error).__name__
    return OutputError(f"{path}: cannot be written: {reason}", hint="choose another output folder with -o")
