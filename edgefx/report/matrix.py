"""The report on all runs of a matrix: one table, for the terminal, as text, as Markdown and as JSON."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgefx.errors import OutputError
from edgefx.metrics import METRICS, Figures
from edgefx.report import findings, markdown_text
from edgefx.report import write as write_report_file
from edgefx.report.console import PlainConsole
from edgefx.report.terminal import VERDICT_STYLES, Cell, Facts, Heading, fitting
from edgefx.report.text import metric
from edgefx.results import TargetResult
from edgefx.storage import serde
from edgefx.storage.atomic import write_text
from edgefx.verdicts import Verdict
from edgefx.views import MatrixReport, MatrixRun

NAME = "matrix"
_LEFT = ("run", "target", "verdict")
_TEXT_COLUMNS = 160


def render(report: MatrixReport, console: Console) -> None:
    """Print `report` on `console`."""
    rows: list[list[Cell]] = []
    for _, row in _rows(report):
        verdict = row[-1]
        style = VERDICT_STYLES.get(Verdict(verdict)) if verdict in set(Verdict) else "bold red"
        rows.append([*row[:-1], Text(verdict, style=style or "")])
    headings = [
        Heading(title=title, left=title in _LEFT, rank=0 if title in _LEFT else 1) for title in _titles()
    ]
    console.print(Text.assemble((report.recipe, "bold"), f"  {len(report.runs)} runs"))
    console.print()
    for part in fitting(headings, rows, console):
        console.print(part, highlight=False)
    facts = [(f"{run.name}", _reason(run)) for run in report.runs if _reason(run)]
    facts.append(("reports", f"{len(report.runs)} folders beside {NAME}.json, each with its report.json"))
    console.print()
    console.print(Facts(facts), highlight=False)


def text(report: MatrixReport) -> str:
    """Return `report` as text without colours."""
    stream = io.StringIO()
    render(report, PlainConsole(file=stream, width=_TEXT_COLUMNS, color_system=None))
    return stream.getvalue()


def markdown(report: MatrixReport) -> str:
    """Return `report` as Markdown that ends in a newline."""
    titles = _titles()
    lines = [
        markdown_text.heading(f"{report.recipe}: {len(report.runs)} runs"),
        "",
        *markdown_text.table(titles, [title in _LEFT for title in titles], (row for _, row in _rows(report))),
        "",
        *(markdown_text.item(run.name, _reason(run)) for run in report.runs if _reason(run)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def dumps(report: MatrixReport) -> str:
    """Return `report`, with the full report of each run, as one JSON document."""
    return serde.dumps(report)


def write(report: MatrixReport, folder: Path, files: tuple[Path, ...] = ()) -> None:
    """Write `matrix.json` and `matrix.md` into a folder, and further files as `edgefx.report.write` does.

    Raises:
        OutputError: A file cannot be written.
    """
    for path, form in ((folder / f"{NAME}.json", dumps), (folder / f"{NAME}.md", markdown)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, form(report))
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error.strerror}", hint="choose another output folder with -o"
            ) from error
    for path in files:
        write_report_file(report, path)


def _rows(report: MatrixReport) -> Iterator[tuple[MatrixRun, tuple[str, ...]]]:
    for run in report.runs:
        if run.report is None:
            yield run, (run.name, *[""] * (len(_titles()) - 2), "FAILED")
            continue
        for number, result in enumerate(run.report):
            yield run, (run.name if number == 0 else "", *_cells(result))


def _titles() -> tuple[str, ...]:
    return ("run", "target", *(row.heading for row in METRICS.values() if row.overview), "verdict")


def _cells(result: TargetResult) -> tuple[str, ...]:
    figures = Figures.of(result)
    verdict = "FAILED" if result.failure else str(result.verdict or "")
    shown = (metric(row, row.value(figures)) for row in METRICS.values() if row.overview)
    return (result.target, *shown, verdict)


def _reason(run: MatrixRun) -> str:
    """Say what failed in a run; "" when nothing did."""
    if run.error is not None:
        return " ".join(filter(None, (run.error.message, run.error.hint and f"({run.error.hint})")))
    reasons = []
    for result in run.report or ():
        if result.failure:
            reasons.append(f"{result.target} failed to {result.failure.stage}: {result.failure.message}")
        reasons += [
            f"{result.target}: {gate.reason}" for gate in result.gates if gate.verdict != Verdict.PASS
        ]
    if run.report is not None:
        said = findings.of_devices(run.report)
        reasons += [text for label, text in said if label in findings.JUDGED]
    return "; ".join(reasons)
