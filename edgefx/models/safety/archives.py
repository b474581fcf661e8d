"""What a zip or HDF5 file inflates to, bounded before anything of it is believed.

A few kilobytes can inflate to gigabytes (deflate reaches 1,032:1, and HDF5 stores nothing at all for a
dataset that was never written). A zip's declared sizes are the sender's: members are inflated here in small
pieces and counted. HDF5 allocates what a dataset declares, so that its declared size is the one to bound.

Weights hardly compress: Keras stores them as they are, and deflate saves 8 % of trained float32 weights.
The bound of 20 times the file's size is far from every real model.
"""

from __future__ import annotations

import math
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1 << 20
MAX_TEXT = 64 * _MIB  # bytes of a configuration; that of EfficientNetV2-L has 2 MB
_MAX_RATIO = 20  # inflated bytes per byte of the file
_FLOOR = 64 * _MIB  # inflated bytes that are always allowed
_MAX_TOTAL = 8 * 1024 * _MIB  # inflated bytes that are never exceeded: V2-L with its optimizer has 1.5 GB
_CHUNK = 1 << 16
_MAX_MEMBERS = 10_000
_MAX_OBJECTS = 200_000  # groups and datasets of an HDF5 file; V2-L with its optimizer has 9,000

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
# What h5py raises on damaged files: the HDF5 library's errors come as almost any of Python's.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)


def limit(size: int) -> int:
    """Return how many bytes a file of `size` bytes may inflate to."""
    return min(_MAX_TOTAL, max(_FLOOR, _MAX_RATIO * size))


def read_member(archive: zipfile.ZipFile, name: str, *, source: Path) -> bytes:
    """Read a member that holds text, no more of it than `MAX_TEXT`.

    Raises:
        ModelError: It is larger.
    """
    with archive.open(name) as member:
        content = member.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise _too_large(f"{source}: {name} in it", MAX_TEXT)
    return content


def check_zip(archive: zipfile.ZipFile, *, source: Path, size: int | None) -> None:
    """Inflate all members in pieces, which also checks their checksums, and count.

    Args:
        archive: An open zip file.
        source: Its name, for messages.
        size: The file's size in bytes; None sets no bound.

    Raises:
        ModelError: They inflate to more than `limit`, there are too many, or one is an HDF5 file that
            `check_hdf5` refuses.
        OSError, ValueError, ...: A member is damaged: one of `ZIP_ERRORS`.
    """
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise ModelError(
            f"{source}: a zip file with {len(members)} members, which no Keras model has",
            hint="save the model again",
        )
    left = allowed = limit(size) if size is not None else None
    for info in members:
        # HDF5 is read in jumps, which a member of an archive cannot do.
        with archive.open(info) as member, tempfile.TemporaryFile() as inflated:
            is_hdf5 = info.filename.endswith(".h5")
            while chunk := member.read(_CHUNK):
                if left is not None and allowed is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise _too_large(f"{source}: what is in it", allowed)
                if is_hdf5:
                    inflated.write(chunk)
            if is_hdf5 and size is not None:
                _check_member(inflated, source=source, name=info.filename, size=size)


def _check_member(inflated: Any, *, source: Path, name: str, size: int) -> None:
    import h5py

    inflated.seek(0)
    try:
        with h5py.File(inflated, "r") as file:
            check_hdf5(file, source=source, size=size)
    except HDF5_ERRORS as error:
        raise ValueError(f"{name}: {error}") from error


def check_hdf5(file: Any, *, source: Path, size: int | None) -> None:
    """Check that the datasets are in the file itself, and no larger than `limit`.

    Args:
        file: An open ``h5py.File``.
        source: Its name, for messages.
        size: The file's size in bytes; None checks nothing.

    Raises:
        ModelError: A link or a dataset leads to another file, or the datasets are larger than the bound.
        KeyError, OSError, ...: The file is damaged: one of `HDF5_ERRORS`.
    """
    import h5py

    if size is None:
        return
    left = allowed = limit(size)
    for name, item in _objects(file, source):
        if not isinstance(item, h5py.Dataset):
            continue
        if item.external or item.is_virtual:
            raise ModelError(
                f"{source}: dataset {name} keeps its values in another file, which edgefx does not read",
                hint="save the model again, in one file",
            )
        left -= math.prod(item.shape or ()) * item.dtype.itemsize
        if left < 0:
            raise _too_large(f"{source}: the datasets in it", allowed)


def _objects(file: Any, source: Path) -> Iterator[tuple[str, Any]]:
    """Yield every object with its path, each once, without following a link out of the file."""
    import h5py

    seen: set[tuple[int, int]] = set()
    todo = [("", file)]
    while todo:
        path, item = todo.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MAX_OBJECTS:
            raise ModelError(
                f"{source}: holds more than {_MAX_OBJECTS} groups and datasets, which no model does",
                hint="save the model again",
            )
        yield path, item
        if not isinstance(item, h5py.Group):
            continue
        for name in item:
            link = item.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ModelError(
                    f"{source}: {path}/{name} is a link to another file, which edgefx does not read",
                    hint="save the model again, in one file",
                )
            if isinstance(link, h5py.HardLink):
                todo.append((f"{path}/{name}", item[name]))


def _too_large(what: str, allowed: int) -> ModelError:
    return ModelError(
        f"{what} inflates to more than {allowed // _MIB} MiB, far more than a model of its size",
        hint="if you know where it comes from, save it again with Keras, which does not compress, "
        "or add --allow-unsafe",
    )
