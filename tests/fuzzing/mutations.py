"""Changes of valid files: of bytes, and of the structure of JSON, text, ZIP archives and protocol buffers.

Bytes alone rarely get past a checksum or a parser; structures changed and put together again do.
"""

from __future__ import annotations

import io
import json
import lzma
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Files = dict[str, bytes]  # path below the input's folder -> content

_INTEGERS = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1)
_NUMBERS: tuple[Any, ...] = (*_INTEGERS, 0.5, -0.5, 1e308, 1e-320, float("inf"), float("nan"), int("9" * 400))
_TEXTS = (
    "", " ", "..", "../../x", "/", "/etc/passwd", "\0", "\x1b[31m", "\ud800", "é" * 300, "x" * 5000, "null",
    "[red]", "a\nb", "\u202e", "%s", "{}", "inf", "nan", "1e999", "-0", "true", "0x10", "C:\\x",
)  # fmt: skip
_ODD: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, *_NUMBERS, *_TEXTS)
_DEEP = 3000
_PIECES = 4096  # longest run of bytes that is moved


def mutated(files: Files, others: list[Files], generator: random.Random) -> Files:
    """Return the files with one to four changes.

    Args:
        files: An input.
        others: All inputs, to take pieces from.
        generator: Decides.
    """
    result = dict(files)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        name = generator.choice(sorted(result))
        donor = generator.choice(others).get(name, b"")
        result[name] = _changed(name, result[name], donor, generator)
    return result


def _changed(name: str, content: bytes, donor: bytes, generator: random.Random) -> bytes:
    changes = _STRUCTURES.get(name.rpartition(".")[2])
    if changes is not None and generator.random() < 0.75:
        try:
            return changes(content, generator)
        except (ValueError, KeyError, IndexError, RecursionError, EOFError, OSError):
            pass  # no longer of that structure
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            struct.error,
            NotImplementedError,
            RuntimeError,
        ):
            pass
    return changed_bytes(content, donor, generator)


# ------------------------------------------------------------------------------------------------- bytes


def changed_bytes(content: bytes, donor: bytes, generator: random.Random) -> bytes:
    """Change bytes without regard to their meaning."""
    data = bytearray(content)
    at = generator.randrange(len(data) + 1)
    length = generator.randrange(1, min(_PIECES, max(2, len(data))))
    kind = generator.randrange(9)
    if kind == 0 or not data:
        data[at:at] = generator.randbytes(generator.randrange(1, 9))
    elif kind in (1, 2):
        data[min(at, len(data) - 1)] ^= 1 << generator.randrange(8)
    elif kind in (3, 4):
        form = generator.choice(("<i", ">i", "<q", ">q", "<h", ">h"))
        size = struct.calcsize(form)
        place = at - at % size
        number = generator.choice(_INTEGERS) & (2 ** (8 * size) - 1)
        data[place : place + size] = number.to_bytes(size, "little" if form[0] == "<" else "big")
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        data[at:at] = data[at : at + length]
    elif kind == 7 and donor:
        start = generator.randrange(len(donor))
        data[at : at + length] = donor[start : start + length]
    else:
        del data[at:]
    return bytes(data)


# -------------------------------------------------------------------------------------------------- text


def changed_text(content: bytes, generator: random.Random) -> bytes:
    """Change lines, numbers and words."""
    text = content.decode("utf-8", "surrogateescape")
    kind = generator.randrange(6)
    lines = text.splitlines(keepends=True) or [""]
    at = generator.randrange(len(lines))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, generator.choice(lines))
    elif kind == 2:
        lines[at] = " " * generator.randrange(1, 9) + lines[at]
    elif kind == 3:
        lines[at] = lines[at].rstrip("\n") + _text(generator) + "\n"
    else:
        pattern = r"[-+]?\d[\d.]*" if kind == 4 else r"[A-Za-z_][\w.-]*"
        found = list(re.finditer(pattern, text))
        if found:
            one = generator.choice(found)
            odd = str(generator.choice(_NUMBERS)) if kind == 4 else _text(generator)
            lines = [text[: one.start()], odd, text[one.end() :]]
    return "".join(lines).encode(
        "utf-8", "surrogatepass" if "\ud800" in "".join(lines) else "surrogateescape"
    )


def _text(generator: random.Random) -> str:
    signs = (
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "&a",
        "*a",
        "!!x",
        "#",
        "'",
        '"',
        "|",
        "<",
        "---",
        "\t",
        "${X}",
        "?",
    )
    return generator.choice((*_TEXTS, *signs))


# -------------------------------------------------------------------------------------------------- JSON


def changed_json(content: bytes, generator: random.Random) -> bytes:
    """Replace, remove, repeat or nest a value."""
    document = json.loads(content)
    places = list(_places(document))
    if not places or generator.random() < 0.02:
        return json.dumps(generator.choice(_ODD)).encode("utf-8", "surrogatepass")
    holder, key = generator.choice(places)
    kind = generator.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = generator.choice(places)
        holder[key] = other.get(place) if isinstance(other, dict) else other[min(place, len(other) - 1)]
    elif kind == 2 and isinstance(holder, dict):
        holder[generator.choice(_TEXTS)] = holder.pop(key)
    elif kind == 3 and generator.random() < 0.2:
        mark = "a nested value"
        holder[key] = mark
        deep = "[" * _DEEP + "]" * _DEEP
        return json.dumps(document).replace(f'"{mark}"', deep).encode()
    else:
        holder[key] = generator.choice(_ODD)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(node: Any) -> Any:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(children):
        yield node, key
        yield from _places(value)


# --------------------------------------------------------------------------------------------- containers


def changed_zip(content: bytes, generator: random.Random) -> bytes:
    """Change a member, or what is said of it, and pack the archive again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = generator.randrange(len(members))
    name, data = members[at]
    kind = generator.randrange(8)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.append((name, data))
    elif kind == 2:
        members[at] = (generator.choice(("../x", "/x", "a/" * 200, "", "config.json")), data)
    else:
        members[at] = (name, _changed(name, data, b"", generator))
    made = io.BytesIO()
    method = generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), data, method)
    return made.getvalue()


def changed_protobuf(content: bytes, generator: random.Random) -> bytes:
    """Change a field somewhere in a message, the lengths around it put right.

    Raises:
        ValueError: It is no message.
    """
    fields = _fields(content)
    at = generator.randrange(len(fields))
    number, wire, value = fields[at]
    if wire == 2 and len(value) > 1 and generator.random() < 0.85:
        try:
            fields[at] = (number, wire, changed_protobuf(value, generator))
        except ValueError:
            fields[at] = (number, wire, changed_bytes(value, b"", generator))
        return _joined(fields)
    kind = generator.randrange(5)
    if kind == 0:
        del fields[at]
    elif kind == 1:
        fields.insert(at, generator.choice(fields))
    elif kind == 2:
        fields[at] = (generator.randrange(1, 40), wire, value)
    elif wire == 0:
        fields[at] = (number, wire, _varint(generator.choice(_INTEGERS) & (2**64 - 1)))
    elif wire == 2:
        fields[at] = (number, wire, generator.choice(_TEXTS).encode("utf-8", "surrogatepass"))
    else:
        fields[at] = (number, wire, generator.randbytes(len(value)))
    return _joined(fields)


def _fields(content: bytes) -> list[tuple[int, int, bytes]]:
    fields, at = [], 0
    while at < len(content):
        tag, at = _read(content, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == 0:
            _, at = _read(content, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            length, start = _read(content, at)
            at = start + length
        else:
            raise ValueError("a wire type that is not used")
        if at > len(content) or not number:
            raise ValueError("no message")
        fields.append((number, wire, content[start:at]))
    if not fields:
        raise ValueError("an empty message")
    return fields


def _joined(fields: list[tuple[int, int, bytes]]) -> bytes:
    parts = []
    for number, wire, value in fields:
        parts += [_varint(number << 3 | wire), *([_varint(len(value))] if wire == 2 else []), value]
    return b"".join(parts)


def _read(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")


def _varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


_STRUCTURES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "json": changed_json,
    "csv": changed_text,
    "txt": changed_text,
    "yaml": changed_text,
    "xml": changed_text,
    "keras": changed_zip,
    "onnx": changed_protobuf,
    "pb": changed_protobuf,
}


# -------------------------------------------------------------------------------------------------- folders


def write(files: Files, folder: Path) -> None:
    """Write an input into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(folder: Path) -> Files:
    """Read what `write` wrote."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
