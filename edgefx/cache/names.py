"""File names that come from a file: they must not lead out of the folder they are joined with."""

from __future__ import annotations

import os

_LONGEST = 255  # bytes; what file systems take
_FORBIDDEN = frozenset("/\\:\0")  # separators and drive letters of any system


def is_plain(name: object) -> bool:
    """Whether `name` names a file directly inside a folder, on every system."""
    if not isinstance(name, str) or name in ("", ".", "..") or not _FORBIDDEN.isdisjoint(name):
        return False
    try:
        return len(os.fsencode(name)) <= _LONGEST
    except UnicodeEncodeError:  # a lone surrogate, which no file system can write
        return False
