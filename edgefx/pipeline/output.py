"""The output folder: everything is written under a temporary name and renamed, so nothing is half-written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
    """Make sure that `path` can be written, and remove every temporary file afterwards.

    Raises:
        OutputError: The folder cannot be created or written.
        DiskFullError: No space is left on its device.
    """
    # The nearest folder that exists already: an output folder made here is removed again if it stays empty.
    existed = path.exists()
    staging = path / temporary.name(atomic.PREFIX)
    try:  # from here on an interruption leaves nothing behind
        try:
            path.mkdir(parents=True, exist_ok=True)
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
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
