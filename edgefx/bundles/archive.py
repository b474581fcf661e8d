"""Zip archives of one form: members stored one behind the other, with a fixed date and fixed rights.

Nothing is left to choose: the same members give the same bytes, whatever the system or the version of a
library. And since every byte outside of the members follows from their names, sizes and checksums, a reader
can demand each of them: a bundle that differs in one bit was not written by edgefx.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

from edgefx.errors import BundleError, UsageError
from edgefx.harmless import line
from edgefx.storage.atomic import replacing
from edgefx.storage.regular import open_regular

Content = bytes | Path  # what a member is made of

_CHUNK = 1 << 20
_MOST_MEMBERS = 1000
_MOST_BYTES = 2**32 - 1  # what a zip archive without extensions can hold
_NAME = re.compile(r"(?!.*(?:^|/)\.)[A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*")  # no part begins with a dot
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")
_LONGEST_NAME = 255
_DATE = 0x21  # 1 January 1980, the first that a zip archive can state
_MODE = stat.S_IFREG | 0o644
_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_CENTRAL_FORMAT = "<4s6H3I5H2I"
_END_FORMAT = "<4s4H2IH"
_CENTRAL_BYTES, _END_BYTES = struct.calcsize(_CENTRAL_FORMAT), struct.calcsize(_END_FORMAT)
_ENCRYPTED = 1


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of an archive.

    Attributes:
        name: Its path, with slashes.
        size_bytes: Its size.
        crc32: Its CRC-32.
        sha256: Its SHA-256.
        offset: Where its content begins in the archive.
    """

    name: str
    size_bytes: int
    crc32: int
    sha256: str
    offset: int


@dataclass(frozen=True)
class _Entry:
    """What the archive says of a member."""

    name: str
    size_bytes: int
    crc32: int
    header: int  # where its header begins

    @property
    def offset(self) -> int:
        return self.header + 30 + len(self.name)

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes


def safe_name(name: str) -> str:
    """Return a file's name as a bundle has it: a part of a path on every system, in ASCII."""
    return _UNSAFE.sub("_", PurePath(name).name).lstrip(".")[-200:].lstrip(".") or "model"


def measured(content: Content) -> tuple[int, int, str]:
    """Return the size, the CRC-32 and the SHA-256 of what a member is made of.

    Raises:
        OSError: It cannot be read.
    """
    size, crc, digest = 0, 0, hashlib.sha256()
    for chunk in _chunks(content):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        digest.update(chunk)
    return size, crc, digest.hexdigest()


def write(path: Path, members: Mapping[str, Content]) -> None:
    """Write an archive of these members, in this order, completely or not at all.

    Raises:
        UsageError: It would be larger than 4 GB, or a file changed while it was read.
        OSError: A file cannot be read, or the archive cannot be written.
    """
    entries: list[_Entry] = []
    with replacing(path) as made, made.open("xb") as stream:
        for name, content in members.items():
            assert _NAME.fullmatch(name), name
            size, crc, sha256 = measured(content)
            entry = _Entry(name, size, crc, stream.tell())
            if entry.end > _MOST_BYTES:
                raise UsageError(f"{path} would be larger than 4 GB", hint="choose fewer targets with -t")
            stream.write(_local(entry))
            digest = hashlib.sha256()
            for chunk in _chunks(content):
                stream.write(chunk)
                digest.update(chunk)
            if digest.hexdigest() != sha256:
                raise UsageError(f"{content!s} changed while it was read", hint="try again")
            entries.append(entry)
        stream.write(_directory(entries))


def read(stream: IO[bytes], path: Path) -> dict[str, Member]:
    """Read an archive to its last byte.

    Args:
        stream: The archive, opened for reading.
        path: Its path, for messages.

    Returns:
        Its members by name, in their order.

    Raises:
        BundleError: It is damaged, or has another form than `write` gives it.
        OSError: It cannot be read.
    """
    entries = _entries(stream, path)
    found: dict[str, Member] = {}
    stream.seek(0)
    for entry in entries:
        if stream.read(entry.offset - entry.header) != _local(entry):
            raise _refused(path, f"the header of {entry.name} does not fit the archive's directory")
        crc, digest = 0, hashlib.sha256()
        for chunk in _parts(stream, entry.size_bytes):
            crc = zlib.crc32(chunk, crc)
            digest.update(chunk)
        if crc != entry.crc32:
            raise _refused(path, f"{entry.name} is damaged: its checksum is not that of its content")
        found[entry.name] = Member(
            name=entry.name,
            size_bytes=entry.size_bytes,
            crc32=crc,
            sha256=digest.hexdigest(),
            offset=entry.offset,
        )
    if stream.read() != _directory(entries):
        raise _refused(path, "its directory is damaged")
    return found


def content(stream: IO[bytes], member: Member, *, limit_bytes: int, path: Path) -> bytes:
    """Return the content of a member.

    Raises:
        BundleError: It is larger than the limit.
    """
    if member.size_bytes > limit_bytes:
        raise _refused(path, f"{member.name} is larger than {limit_bytes / 1e6:.0f} MB")
    stream.seek(member.offset)
    return stream.read(member.size_bytes)


def _refused(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path}: {reason}", hint="do not use it; get the bundle again from where it was made")


# ---------------------------------------- reading


def _entries(stream: IO[bytes], path: Path) -> list[_Entry]:
    """Read the archive's directory.

    Raises:
        BundleError: It is no directory of members stored one behind the other.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _END_BYTES))
    end = stream.read(_END_BYTES)
    if len(end) < _END_BYTES or end[:4] != _END:
        raise _refused(path, "no bundle of edgefx, or not all of it: no zip archive ends here")
    _, disk, first_disk, here, count, length, begin, comment = struct.unpack(_END_FORMAT, end)
    if disk or first_disk or comment or here != count or count > _MOST_MEMBERS:
        raise _refused(path, "its directory is damaged, or of a form that edgefx does not write")
    if begin + length + _END_BYTES != size or length > count * (_CENTRAL_BYTES + _LONGEST_NAME):
        raise _refused(path, "its size is not what its directory says")
    stream.seek(begin)
    directory = stream.read(length)
    entries: list[_Entry] = []
    place = 0
    while place < length:
        entry, place = _entry(directory, place, path)
        if entry.name in {other.name for other in entries}:
            raise _refused(path, f"{entry.name} is in it twice")
        if entry.header != (entries[-1].end if entries else 0):
            raise _refused(path, f"{entry.name} does not lie behind the member before it")
        entries.append(entry)
    if len(entries) != count or (entries[-1].end if entries else 0) != begin:
        raise _refused(path, "it holds other members than its directory says")
    return entries


def _entry(directory: bytes, place: int, path: Path) -> tuple[_Entry, int]:
    """Read one entry of the directory; returns it and where the next one begins."""
    fixed = directory[place : place + _CENTRAL_BYTES]
    if len(fixed) < _CENTRAL_BYTES or fixed[:4] != _CENTRAL:
        raise _refused(path, "its directory is damaged")
    fields = struct.unpack(_CENTRAL_FORMAT, fixed)
    flags, method, crc, stored, size, name_length = (fields[at] for at in (3, 4, 7, 8, 9, 10))
    end = place + _CENTRAL_BYTES + name_length
    name = directory[place + _CENTRAL_BYTES : end].decode("ascii", errors="replace")
    shown = line(name)
    if flags & _ENCRYPTED:
        raise _refused(path, f"{shown} is encrypted")
    if method or stored != size:
        raise _refused(path, f"{shown} is compressed; a bundle's members are stored as they are")
    if stat.S_ISLNK(fields[15] >> 16):
        raise _refused(path, f"{shown} is a link")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise _refused(path, f"a member is called '{shown}', which is no path inside of a bundle")
    entry = _Entry(name, size, crc, fields[16])
    if directory[place:end] != _central(entry):
        raise _refused(path, f"the directory's entry of {name} is damaged, or not as edgefx writes it")
    return entry, end


def _parts(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = stream.read(min(size, _CHUNK))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def _chunks(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with open_regular(content) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


# ---------------------------------------- the form


def _local(entry: _Entry) -> bytes:
    """Return the header in front of a member."""
    sizes = entry.crc32, entry.size_bytes, entry.size_bytes, len(entry.name), 0
    return struct.pack("<4s5H3I2H", _LOCAL, 20, 0, 0, 0, _DATE, *sizes) + entry.name.encode()


def _central(entry: _Entry) -> bytes:
    """Return a member's entry in the directory; "made on Unix" is how its rights are stated."""
    return (
        struct.pack(
            _CENTRAL_FORMAT,
            *(_CENTRAL, 3 << 8 | 20, 20, 0, 0, 0, _DATE, entry.crc32, entry.size_bytes, entry.size_bytes),
            *(len(entry.name), 0, 0, 0, 0, _MODE << 16, entry.header),
        )
        + entry.name.encode()
    )


def _directory(entries: Sequence[_Entry]) -> bytes:
    """Return all that follows the last member."""
    content = b"".join(map(_central, entries))
    begin, count = entries[-1].end if entries else 0, len(entries)
    return content + struct.pack(_END_FORMAT, _END, 0, 0, count, count, len(content), begin, 0)
