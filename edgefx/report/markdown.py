"""The same report as GitHub-flavoured Markdown, for CI summaries and pull requests."""

from __future__ import annotations

from collections.abc import Sequence

from edgefx.report import findings
from edgefx.report.terminal import result_tables, trial_rows
from edgefx.report.text import count
from edgefx.results import RunReport, Verdict


def dumps(report: RunReport) -> str:
    """Return `report` as Markdown that ends in a newline."""
    model = report.model
    shape = f"{model.height}x{model.width}, {model.classes} classes, {count(model.parameters)} parameters"
    lines = [f"### {_escape(model.name)}: {shape}", ""]
    for columns in result_tables(report):
        rows = [[_escape(str(column.cell(result))) or "-" for column in columns] for result in report]
        lines += [
            *_table([column.title for column in columns], [column.left for column in columns], rows),
            "",
        ]
    for result in report:
        if result.search is not None and len(result.search.trials) > 1:
            titles, trials = trial_rows(result.search)
            cells = [[_escape(cell) for cell in row] for row in trials]
            left = [number in (0, len(titles) - 1) for number in range(len(titles))]
            lines += [f"Candidates for {result.target}:", "", *_table(titles, left, cells), ""]
    lines += [f"- **{label}**: {_escape(text)}" for label, text in findings.measured_on(report)]
    if report.checks:
        lines.append(f"- **checks**: {_escape(findings.checks_line(report))}")
    if report.training:
        lines.append(f"- **trained**: {_escape(findings.training_line(report.training))}")
    lines += [f"- **{label}**: {_escape(text)}" for label, text in findings.conversions(report)]
    lines += [f"- **{label}**: {_escape(text)}" for label, text in findings.from_cache(report)]
    lines += [f"- **note**: {_escape(text)}" for text in findings.precision_notes(report)]
    for result in report:
        lines += [
            f"- **{gate.verdict}** {result.target}: {_escape(gate.reason)}"
            for gate in result.gates
            if gate.verdict is not Verdict.PASS
        ]
        if result.failure:
            what = f"{result.target} in stage {result.failure.stage}: {result.failure.message}"
            lines.append(f"- **FAILED** {_escape(what)}")
    lines += [f"- **warning**: {_escape(text)}" for text in findings.warnings(report)]
    return "\n".join(lines) + "\n"


def _table(titles: Sequence[str], left: Sequence[bool], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(_escape(title) for title in titles)} |",
        f"| {' | '.join(':--' if is_left else '--:' for is_left in left)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _escape(text: str) -> str:
    """Keep table cells and lines whole: no cell separator, no line break, no accidental HTML."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
