"""One typed result, many renderers.

To add a format: one row of `vocabulary.REPORT_FORMATS` and one module with `dumps(report) -> str`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import OutputError, UsageError
from edgefx.vocabulary import REPORT_FORMATS, ReportFormat

if TYPE_CHECKING:
    from edgefx.results import RunReport


# The result of a run, in its output folder.
REPORT_NAME = "report.json"


def check(path: Path) -> ReportFormat:
    """Return the format that a report file's suffix asks for, before any work is done for it.

    Raises:
        UsageError: No format has this suffix.
    """
    row = next((row for row in REPORT_FORMATS.values() if row.suffix == path.suffix.lower()), None)
    if row is None:
        known = ", ".join(row.suffix for row in REPORT_FORMATS.values())
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


def write_report(report: RunReport, out: Path) -> Path:
    """Write `report.json` into the folder `out`, completely or not at all, and return its path.

    Raises:
        OSError: The folder cannot be written.
    """
    from edgefx.storage.atomic import write_text
    from edgefx.storage.serde import dumps

    path = out / REPORT_NAME
    write_text(path, dumps(report, root=out))
    return path


def save(text: str, path: Path) -> None:
    """Write what was asked for with ``--report``; missing folders are made.

    Raises:
        OutputError: The file cannot be written.
    """
    from edgefx.storage.atomic import write_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise OutputError(
            f"--report {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error
