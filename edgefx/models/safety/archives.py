"""What a zip file inflates to, bounded before anything of it is believed.

A zip's declared sizes are the sender's: members are inflated here in small pieces and counted. One that is an
HDF5 file is judged by `edgefx.models.safety.hdf5`.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from pathlib import Path

from edgefx.errors import ModelError
from edgefx.models.safety import hdf5
from edgefx.models.safety.bounds import MIB, limit, too_large
from edgefx.storage import temporary

MAX_TEXT = 64 * MIB  # bytes of a configuration; that of EfficientNetV2-L has 2 MB
_CHUNK = 1 << 16
_MAX_MEMBERS = 10_000
_MAX_HDF5 = 16  # members that are HDF5 files; Keras writes one

# What zipfile and zlib raise on damaged, encrypted or unsupported members.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
)


def read_member(archive: zipfile.ZipFile, name: str, *, source: Path) -> bytes:
    """Read a member that holds text, no more of it than `MAX_TEXT`.

    Raises:
        ModelError: It is larger.
    """
    with archive.open(name) as member:
        content = member.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise too_large(f"{source}: {name} in it", MAX_TEXT)
    return content


def check_zip(archive: zipfile.ZipFile, *, source: Path, size: int | None) -> None:
    """Inflate all members in pieces, which also checks their checksums, and count.

    Args:
        archive: An open zip file.
        source: Its name, for messages.
        size: The file's size in bytes; None sets no bound.

    Raises:
        ModelError: They inflate to more than `limit`, there are too many, or one is an HDF5 file that
            `hdf5.judge` refuses.
        OSError, ValueError, ...: A member is damaged: one of `ZIP_ERRORS`.
    """
    members = archive.infolist()
    weights = [info for info in members if info.filename.endswith(".h5")]
    if len(members) > _MAX_MEMBERS or len(weights) > _MAX_HDF5:
        raise ModelError(
            f"{source}: a zip file with {len(members)} members, {len(weights)} of them HDF5 files, which no "
            "Keras model has",
            hint="save the model again",
        )
    left = allowed = limit(size) if size is not None else None
    with temporary.folder(Path(tempfile.gettempdir()), "edgefx-") as folder:
        for info in members:
            # HDF5 is read in jumps, which a member of an archive cannot do.
            inflated = folder / "member.h5" if info in weights else Path(os.devnull)
            with archive.open(info) as member, inflated.open("wb") as target:
                while chunk := member.read(_CHUNK):
                    if left is not None and allowed is not None:
                        left -= len(chunk)
                        if left < 0:
                            raise too_large(f"{source}: what is in it", allowed)
                    target.write(chunk)
            if info in weights and size is not None:
                _judge(inflated, source=source, name=info.filename, size=size)


def _judge(path: Path, *, source: Path, name: str, size: int) -> None:
    try:
        hdf5.judge(path, source=source, size=size)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
