"""Read files that others made: regular files only, and no more of them than expected.

A named pipe, a socket or a device among the inputs would block a read for ever or never end. Errors are
`OSError`, as of any other file that cannot be read, so that a caller needs no second handler.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

# Never wait for a pipe's writer, should the file become a pipe between the look at it and its opening.
_FLAGS = getattr(os, "O_NONBLOCK", 0)
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: It cannot be opened, or is something else than a regular file.
    """
    try:
        return open(path, "rb", opener=_opened)
    except ValueError as error:  # a NUL, or half of a character: what a document may hold, and no name can
        raise OSError(errno.EINVAL, "not a name that a file can have", str(path)) from error


def read_bytes(path: Path, *, limit_bytes: int | None = None) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        limit_bytes: The largest content that is read into memory; any by default.

    Raises:
        OSError: As `open_regular` says, or the file is larger than the limit.
    """
    with open_regular(path) as file:
        if limit_bytes is None:
            return file.read()
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {limit_bytes / 1e6:.0f} MB", str(path))
    return content


def _opened(path: str, flags: int) -> int:
    _check(os.stat(path), path)  # noqa: PTH116 - before opening: that alone may move a tape
    descriptor = os.open(path, flags | _FLAGS)
    try:
        _check(os.fstat(descriptor), path)  # it may have been replaced in between
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, path: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
    raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read", path)
