"""File names that come from a file: they must not lead out of the folder they are joined with."""

from __future__ import annotations

_LONGEST = 255  # bytes; what file systems take
_FORBIDDEN = frozenset("/\\:\0")  # separators and drive letters of any system


def is_plain(name: object) -> bool:
    """Whether `name` names a file directly inside a folder, on every system."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and _FORBIDDEN.isdisjoint(name)
        and len(name.encode(errors="surrogatepass")) <= _LONGEST
    )
