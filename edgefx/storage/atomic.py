"""Files that are complete or absent: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefx.storage import temporary
from edgefx.storage.disk import explained

PREFIX = ".edgefx-"  # what the names of temporary files and folders beside a result begin with


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block wrote there becomes `path` when it ends well.

    Ctrl-C and a full disk leave nothing behind.

    Raises:
        OSError: The folder cannot be written.
    """
    made = path.parent / temporary.name(PREFIX, path.suffix)
    try:
        yield made
        made.replace(path)
    finally:
        with suppress(OSError):  # after success there is nothing to remove
            made.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    with replacing(path) as made, made.open("x", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)


def write_artifact(path: Path, content: bytes) -> None:
    """Write a file of an artifact completely or not at all.

    Raises:
        OutputError: The folder cannot be written.
        DiskFullError: No space is left.
    """
    try:
        with replacing(path) as made:
            made.write_bytes(content)
    except OSError as error:
        raise explained(error, path) from error
