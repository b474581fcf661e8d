"""One typed result, many renderers.

To add a format: one row of `vocabulary.REPORT_FORMATS` and one module with `dumps`, which takes a report, or
the rows of `judged` that a run, a matrix and `edgefx gate` have in common, and returns text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.destinations import Destination, known, parse
from edgefx.errors import OutputError, UsageError

if TYPE_CHECKING:
    from edgefx.provenance.gating import GateReport
    from edgefx.results import RunReport
    from edgefx.views import MatrixReport


# The result of a run, in its output folder.
REPORT_NAME = "report.json"


def destination(path: Path) -> Destination:
    """Return where a report is to go and in which format, before any work is done for it.

    Args:
        path: As it was given with ``--report``: a file whose suffix names the format, or ``FORMAT=PATH``.

    Raises:
        UsageError: Nothing names a format.
    """
    found = parse(str(path))
    if found is None:
        raise UsageError(
            f"--report {path}: the suffix must name a format: {known()}",
            hint="for example --report report.md, or --report junit=report.xml",
        )
    return found


def write(report: RunReport | MatrixReport | GateReport, path: Path) -> None:
    """Write a report to where ``--report`` says, see `destination`; missing folders are made.

    What is for GitHub is added to the summary of the job, and goes nowhere where there is no job.

    Raises:
        UsageError: As `destination` says.
        OutputError: The file cannot be written.
    """
    from edgefx.report import formats, github

    where = destination(path)
    file = where.path or github.summary_file()
    if file is None:
        return
    put = github.append if where.format == "github" else None
    save(formats.dumps(report, where.format), file, put=put)


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


def save(
    text: str, path: Path, *, put: Callable[[Path, str], None] | None = None, option: str = "--report"
) -> None:
    """Write what was asked for with ``--report``, or another option; missing folders are made.

    Args:
        text: What to write.
        path: The file.
        put: Writes it; by default completely or not at all.
        option: What the user has given, for messages.

    Raises:
        OutputError: The file cannot be written.
    """
    from edgefx.storage.atomic import write_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (put or write_text)(path, text)
    except OSError as error:
        raise OutputError(
            f"{option} {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error
