"""The output folder: everything is written under a temporary name and renamed, so nothing is half-written."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgefx.errors import OutputError
from edgefx.storage import atomic, temporary
from edgefx.storage.disk import explained, is_disk_full


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
        from edgefx.storage.hashes import hash_file

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
    """Make sure that `path` can be written, by this run alone, and remove every temporary file afterwards.

    Raises:
        OutputError: The folder cannot be created or written, or another run is writing into it.
        DiskFullError: No space is left on its device.
    """
    # The nearest folder that exists already: an output folder made here is removed again if it stays empty.
    existed = path.exists()
    staging = path / temporary.name(atomic.PREFIX)
    with ExitStack() as stack:  # from here on an interruption leaves nothing behind
        stack.callback(_tidy, path, staging, existed=existed)
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_alone(path))
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise explained(error, path) from error
        temporary.sweep(path, atomic.PREFIX)  # of runs that were killed
        try:
            yield OutputFolder(path, staging)
        except OSError as error:  # whatever nobody else has explained
            if is_disk_full(error):
                raise explained(error, path) from error
            raise


def _tidy(path: Path, staging: Path, *, existed: bool) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    if not existed and path.is_dir() and not any(path.iterdir()):
        path.rmdir()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs out of the folder: a report must describe the artifacts beside it.

    The lock is the system's, which lifts it when the process ends in whatever way. Where there is none
    (Windows, some network file systems) runs are not kept apart.

    Raises:
        OutputError: Another run is in it.
        OSError: The folder cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{path}: another run of edgefx is writing into it",
                hint="wait for it, or choose another output folder with -o",
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
        yield
    finally:
        os.close(descriptor)
