"""One typed result, many renderers.

To add a format: one row here and one module with `dumps(report) -> str`. Listing imports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import temporary
from edgefx.errors import OutputError, UsageError

if TYPE_CHECKING:
    from edgefx.results import RunReport


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """A report format.

    Attributes:
        module: Where its `dumps(report)` is.
        suffix: Of the file it makes.
        summary: What it is for.
    """

    module: str
    suffix: str
    summary: str


FORMATS: dict[str, FormatRow] = {
    "terminal": FormatRow(module="edgefx.report.terminal", suffix=".txt", summary="the table on stdout"),
    "json": FormatRow(module="edgefx.report.json", suffix=".json", summary="everything, for programs"),
    "markdown": FormatRow(
        module="edgefx.report.markdown", suffix=".md", summary="the table, for CI summaries and pull requests"
    ),
}


def check(path: Path) -> FormatRow:
    """Return the format that a report file's suffix asks for, before any work is done for it.

    Raises:
        UsageError: No format has this suffix.
    """
    row = next((row for row in FORMATS.values() if row.suffix == path.suffix.lower()), None)
    if row is None:
        known = ", ".join(row.suffix for row in FORMATS.values())
        raise UsageError(
            f"--report {path}: the suffix must name a format: {known}", hint="for example --report report.md"
        )
    return row


def write(report: RunReport, path: Path) -> None:
    """Write `report` as `path`, in the format of its suffix; missing folders are made.

    Raises:
        UsageError: As `check` says.
        OutputError: The file cannot be written.
    """
    save(str(import_module(check(path).module).dumps(report)), path)


def save(text: str, path: Path) -> None:
    """Write what was asked for with ``--report``; missing folders are made.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise OutputError(
            f"--report {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    made = path.parent / temporary.name(".edgefx-", path.suffix)
    try:
        with made.open("x", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
