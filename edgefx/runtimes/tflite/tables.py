"""Flatbuffers by hand: writing a few tables, and finding fields, with the standard library alone.

The format: https://flatbuffers.dev/internals. A table is written before what it refers to, so that all
offsets point forward, as they must.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Number:
    """A number in a table, with its format as `struct` names it; of at most 4 bytes."""

    format: str
    value: int


@dataclass(frozen=True)
class Bytes:
    """A vector of bytes, aligned to 16 as TFLite wants its buffers."""

    content: bytes


@dataclass(frozen=True)
class Old:
    """Something in the file that follows what is written, at this place of that file."""

    place: int


Table: TypeAlias = "dict[int, Value]"  # field number -> value
Value: TypeAlias = "Number | Bytes | Old | str | tuple[float, ...] | list[Value] | Table"


def flatbuffer(identifier: bytes, root: Table, *, alignment: int = 4) -> bytes:
    """Return a flatbuffer.

    Args:
        identifier: The format's four characters.
        root: The root table; a list is a vector of tables, a tuple one of floats.
        alignment: What the length is a multiple of, and with it the place of a file that follows.
    """
    writer = _Writer(identifier)
    writer.refer(0, root)
    writer.align(alignment)
    for slot, place in writer.old:
        struct.pack_into("<I", writer.content, slot, len(writer.content) + place - slot)
    return bytes(writer.content)


class _Writer:
    def __init__(self, identifier: bytes) -> None:
        self.content = bytearray(4) + identifier
        self.old: list[tuple[int, int]] = []  # where an offset belongs, and what it refers to

    def align(self, alignment: int, *, ahead: int = 0) -> None:
        """Append zeros until what follows `ahead` more bytes is aligned."""
        self.content += bytes(-(len(self.content) + ahead) % alignment)

    def refer(self, slot: int, value: Value) -> None:
        """Write a value, and its offset into `slot`."""
        if isinstance(value, Old):
            self.old.append((slot, value.place))
            return
        place = self._write(value)
        struct.pack_into("<I", self.content, slot, place - slot)

    def _write(self, value: Value) -> int:
        """Append a value; returns its place."""
        if isinstance(value, dict):
            return self._table(value)
        self.align(16 if isinstance(value, Bytes) else 4, ahead=4)
        place = len(self.content)
        if isinstance(value, str):
            text = value.encode()
            self.content += struct.pack("<I", len(text)) + text + b"\0"
        elif isinstance(value, Bytes):
            self.content += struct.pack("<I", len(value.content)) + value.content
        elif isinstance(value, tuple):
            self.content += struct.pack(f"<I{len(value)}f", len(value), *value)
        else:
            assert isinstance(value, list)
            self.content += struct.pack("<I", len(value)) + bytes(4 * len(value))
            for number, element in enumerate(value):
                self.refer(place + 4 * (number + 1), element)
        return place

    def _table(self, fields: Table) -> int:
        """Append a table behind its vtable; every field takes 4 bytes, in the order of their numbers."""
        count = max(fields) + 1 if fields else 0
        numbers = sorted(fields)
        offsets = {number: 4 * (position + 1) for position, number in enumerate(numbers)}
        self.align(4, ahead=4 + 2 * count)
        vtable = len(self.content)
        size = 4 * (len(fields) + 1)
        self.content += struct.pack(
            f"<HH{count}H", 4 + 2 * count, size, *(offsets.get(number, 0) for number in range(count))
        )
        table = len(self.content)
        self.content += struct.pack("<i", table - vtable) + bytes(size - 4)
        for number in numbers:
            value, slot = fields[number], table + offsets[number]
            if isinstance(value, Number):
                struct.pack_into(f"<{value.format}", self.content, slot, value.value)
            else:
                self.refer(slot, value)
        return table


# ------------------------------------------------------------------------------------------------- reading


def fields(content: mmap.mmap | bytes, table: int) -> dict[int, int]:
    """Return where the fields of a table are, by number; absent ones are left out.

    Raises:
        struct.error: An offset points out of the file.
    """
    vtable = table - _unpacked(content, "i", table)
    size = _unpacked(content, "H", vtable)
    places = (_unpacked(content, "H", vtable + 4 + 2 * number) for number in range((size - 4) // 2))
    return {number: table + place for number, place in enumerate(places) if place}


def number(content: mmap.mmap | bytes, kind: str, place: int | None) -> int:
    """Return a number, by its format as `struct` names it; 0 where the field is absent.

    Raises:
        struct.error: The place is out of the file.
    """
    return 0 if place is None else _unpacked(content, kind, place)


def follow(content: mmap.mmap | bytes, place: int) -> int:
    """Return what the offset at a place refers to.

    Raises:
        struct.error: The place is out of the file.
    """
    return place + _unpacked(content, "I", place)


def vector(content: mmap.mmap | bytes, place: int) -> bytes:
    """Return the vector of bytes, or the string, that the offset at a place refers to.

    Raises:
        struct.error: It lies beyond the end of the file.
    """
    begin = follow(content, place)
    length = _unpacked(content, "I", begin)
    if begin + 4 + length > len(content):
        raise struct.error("a vector lies beyond the end of the file")
    return content[begin + 4 : begin + 4 + length]


def elements(content: mmap.mmap | bytes, place: int) -> list[int]:
    """Return where the tables are that the vector at an offset's place refers to.

    Raises:
        struct.error: It lies beyond the end of the file.
    """
    begin = follow(content, place)
    length = _unpacked(content, "I", begin)
    if begin + 4 + 4 * length > len(content):
        raise struct.error("a vector lies beyond the end of the file")
    return [follow(content, begin + 4 * (number + 1)) for number in range(length)]


def _unpacked(content: mmap.mmap | bytes, kind: str, place: int) -> int:
    if place < 0:  # `struct` would count from the end
        raise struct.error("an offset points before the beginning of the file")
    value: int = struct.unpack_from(f"<{kind}", content, place)[0]
    return value
