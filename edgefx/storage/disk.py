"""What a full disk means, and where."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefx.errors import DiskFullError, OutputError

_FULL_BYTES = 10**6  # a disk with less is full: what failed to be written is larger
_HINT = "free some space, or choose another output folder (-o) or temporary folder (TMPDIR)"


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that a file system has no space left, explained by `disk_full` already or not."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DiskFullError)


def disk_full(
    where: Path | str | None, *, what: str = "no space left on the device", hint: str = _HINT
) -> DiskFullError:
    """Return the error that says which folder or file has no space, and what to do.

    Args:
        where: The folder or file; None where the system does not say.
        what: What there was no space for.
        hint: What to do.
    """
    return DiskFullError(what if where is None else f"{where}: {what}", hint=hint)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" inside the folder `path` into an error that says where and what to do.

    An error elsewhere (the temporary folder and the output are two disks) is left to who knows that folder.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error) and _concerns(error, path):
            raise explained(error, path) from error
        raise


def explained(error: OSError, path: Path) -> OutputError | DiskFullError:
    """Return the error that says why `path` could not be written, and what to do."""
    if is_disk_full(error):
        if isinstance(error.filename, str) and not _is_inside(error.filename, path):
            path = Path(error.filename)
        return disk_full(path)
    reason = error.strerror or type(error).__name__
    return OutputError(f"{path}: cannot be written: {reason}", hint="choose another output folder with -o")


def _concerns(error: OSError, path: Path) -> bool:
    """Whether `path` has no space left: the file says so where it is known, else what is free there."""
    if isinstance(error.filename, str):
        return _is_inside(error.filename, path)
    try:
        return shutil.disk_usage(path).free < _FULL_BYTES
    except OSError:
        return True


def _is_inside(file: str, path: Path) -> bool:
    return Path(file).absolute().is_relative_to(path.absolute())
