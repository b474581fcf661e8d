"""Write the report of a finished run, or of a matrix, again: nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgefx import harmless
from edgefx.errors import UsageError
from edgefx.metrics import METRICS
from edgefx.provenance import lock as locks
from edgefx.provenance import matrices, records, reports
from edgefx.report import destination, save, write
from edgefx.results import RunReport
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import from_json, loads
from edgefx.views import MatrixReport


def read(path: Path) -> RunReport | MatrixReport:
    """Read a report with the paths of its artifacts as they are from here.

    Args:
        path: The output folder of a run or of a matrix, or its report.json or matrix.json.

    Raises:
        UsageError: There is none, or it is none of this version.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", hint="give the output folder of a run")
    if folder is not path and path.name not in (reports.NAME, matrices.NAME):
        raise UsageError(
            f"{path}: neither {reports.NAME} nor {matrices.NAME}",
            hint="give the output folder of a run, or the file of that name in it",
        )
    is_matrix = (folder / matrices.NAME).is_file() and not (folder / reports.NAME).is_file()
    if is_matrix or path.name == matrices.NAME:
        return _matrix(folder / matrices.NAME)
    report, _ = reports.read(folder)
    _check_gates(report, folder / reports.NAME)
    return _placed(report, folder)


def write_again(path: Path, files: Sequence[Path], *, pictures: bool = True) -> RunReport | MatrixReport:
    """Write a stored report to files.

    Args:
        path: As for `read`.
        files: As ``--report`` takes them; see `edgefx.report.destination`.
        pictures: Whether a page may hold small pictures of evaluation images.

    Raises:
        UsageError: As `read` and `edgefx.report.destination` say.
        OutputError: A file cannot be written.
    """
    found = read(path)
    for file in files:
        where = destination(file)
        if where.format == "html" and where.path is not None and isinstance(found, RunReport):
            from edgefx.report.page import run

            roots = _roots(path if path.is_dir() else path.parent)
            save(run.dumps(found, roots=roots, pictures=pictures), where.path)
        else:
            write(found, file)
    return found


def _roots(folder: Path) -> dict[str, str] | None:
    """Return the folders of images, which the lock file has in full; None without one."""
    if not (folder / locks.NAME).is_file():
        return None
    return {images.role: images.root for images in locks.read(folder).data}


def _placed(report: RunReport, folder: Path) -> RunReport:
    def placed(path: Path) -> Path:
        return folder / path  # which is the path itself where that is absolute

    return replace(
        report,
        targets=tuple(
            replace(
                result,
                artifact=replace(
                    result.artifact,
                    files=tuple(replace(file, path=placed(file.path)) for file in result.artifact.files),
                ),
            )
            if result.artifact
            else result
            for result in report
        ),
    )


def _matrix(file: Path) -> MatrixReport:
    with records.refused(file, what="report", hint="give the output folder of a matrix"):
        found = from_json(MatrixReport, loads(read_bytes(file, limit_bytes=records.MOST_BYTES)))
    for run in found.runs:
        if run.report is not None:
            _check_gates(run.report, file)
    return found


def _check_gates(report: RunReport, file: Path) -> None:
    metrics = [gate.gate.metric for result in report for gate in result.gates]
    unknown = next((metric for metric in metrics if metric not in METRICS), None)
    if unknown is not None:
        raise UsageError(
            f"{file}: a gate on '{harmless.line(unknown)}', which this edgefx does not know",
            hint="use the edgefx that wrote it",
        )
