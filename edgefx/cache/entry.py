"""A cache entry: its key, its manifest, and how both are written down. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from edgefx.cache.names import is_plain

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, kw_only=True)
class Key:
    """What determines a stage's output.

    Attributes:
        stage: The stage.
        parts: Everything that determines the output, as JSON has it.
        digest: SHA-256 over the canonical JSON of both.
    """

    stage: str
    parts: Mapping[str, Json] = field(repr=False)
    digest: str


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of an entry."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the store has for a key.

    Attributes:
        key: The key.
        created: When it was computed, ISO 8601, UTC.
        payload: The result as JSON.
        files: Larger parts of the result, read by `Store.copy`.
        folder: Where they are.
    """

    key: Key
    created: str
    payload: Json
    files: tuple[StoredFile, ...]
    folder: Path

    @property
    def short_key(self) -> str:
        """The beginning of the key, enough to name the entry in a report."""
        return self.key.digest[:12]


def key(stage: str, *, version: int, **parts: Json) -> Key:
    """Make a key.

    Args:
        stage: The stage.
        version: Version of what the stage stores; raised when that changes.
        parts: Everything else that determines the output.
    """
    text = canonical({"stage": stage, "version": version, **parts})
    document = json.loads(text)  # tuples have become lists, as they come back from disk
    del document["stage"]
    return Key(stage=stage, parts=document, digest=hashlib.sha256(text.encode()).hexdigest())


def canonical(document: Json) -> str:
    """Write JSON so that equal documents give equal text.

    Raises:
        ValueError: A number that is not finite.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def manifest(wanted: Key, created: str, payload: Json, files: tuple[StoredFile, ...]) -> str:
    """Write what `parsed` reads, with a checksum."""
    body: dict[str, Json] = {
        "stage": wanted.stage,
        "key": dict(wanted.parts),
        "created": created,
        "payload": payload,
        "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in files],
    }
    checksum = hashlib.sha256(canonical(body).encode()).hexdigest()
    return canonical({**body, "checksum": checksum})


def parsed(text: bytes, wanted: Key, folder: Path) -> Entry:
    """Read a manifest, which may have been written by anyone.

    Raises:
        ValueError: It is not what was written, or names a file outside the entry's folder.
        KeyError: It is not what was written: a key is missing.
        TypeError: It is not what was written: a value is of another type.
        AttributeError: It is not what was written: a value is of another type.
        RecursionError: It is nested too deeply.
    """
    document = json.loads(text)
    checksum = document.pop("checksum")
    if hashlib.sha256(canonical(document).encode()).hexdigest() != checksum:
        raise ValueError("its checksum differs")
    if document["stage"] != wanted.stage or document["key"] != dict(wanted.parts):
        raise ValueError("it belongs to another key")
    files = tuple(StoredFile(**file) for file in document["files"])
    for file in files:
        if not is_plain(file.name):
            raise ValueError(f"{file.name!r} is not a plain file name")
        if not isinstance(file.size_bytes, int) or file.size_bytes < 0:
            raise ValueError(f"{file.name} has no size")
    return Entry(
        key=wanted,
        created=document["created"],
        payload=document["payload"],
        files=files,
        folder=folder,
    )
