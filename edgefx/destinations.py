"""Where a report goes, and in which format: ``report.md``, ``junit=ci/junit.xml`` or ``github``."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from edgefx.errors import UnknownNameError
from edgefx.vocabulary import REPORT_FORMATS

_NAMED = re.compile(r"(?P<format>[a-z][a-z-]*)=(?P<path>.+)", re.DOTALL)
_WITHOUT_PATH = "github"  # it goes where GitHub says


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A file that a report is written to.

    Attributes:
        format: A key of `REPORT_FORMATS`.
        path: The file; None where the format knows it.
    """

    format: str
    path: Path | None


def parse(text: str) -> Destination | None:
    """Read a path whose suffix names the format, or ``FORMAT=PATH``.

    Returns:
        None where nothing names a format.

    Raises:
        UnknownNameError: FORMAT is nearly one of the known ones.
    """
    if text == _WITHOUT_PATH:
        return Destination(format=text, path=None)
    named = _NAMED.fullmatch(text)
    if named is not None:
        if named["format"] in REPORT_FORMATS:
            return Destination(format=named["format"], path=_expanded(named["path"]))
        if difflib.get_close_matches(named["format"], REPORT_FORMATS, n=1, cutoff=0.75):
            raise UnknownNameError("report format", named["format"], REPORT_FORMATS)
    suffix = Path(text).suffix.lower()
    name = next((name for name, row in REPORT_FORMATS.items() if suffix and row.suffix == suffix), None)
    return None if name is None else Destination(format=name, path=_expanded(text))


def known() -> str:
    """Name the suffixes, and the formats that have none of their own."""
    suffixes = [row.suffix for row in REPORT_FORMATS.values() if row.suffix]
    named = [f"{name}=FILE" for name, row in REPORT_FORMATS.items() if not row.suffix]
    return ", ".join((*suffixes, *named))


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # an unknown user: a name like any other
        return Path(text)
