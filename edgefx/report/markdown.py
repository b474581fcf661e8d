"""The same report as GitHub-flavoured Markdown, for CI summaries and pull requests."""

from __future__ import annotations

from edgefx.report import changed, compilations, compressions, findings
from edgefx.report.markdown_text import heading, item, paragraph, table, verdict
from edgefx.report.terminal import device_table, output_tables, result_tables, trial_rows
from edgefx.report.text import answers, count
from edgefx.report.undecided import inconclusive
from edgefx.results import RunReport
from edgefx.verdicts import Verdict


def dumps(report: RunReport) -> str:
    """Return `report` as Markdown that ends in a newline."""
    model = report.model
    shape = f"{model.height}x{model.width}, {answers(model)}, {count(model.parameters)} parameters"
    lines = [heading(f"{model.name}: {shape}"), ""]
    doubts = [item("doubtful", text) for text in findings.doubts(report)]
    lines += [*doubts, ""] if doubts else []
    for columns in result_tables(report):
        rows = [[str(column.cell(result)) for column in columns] for result in report]
        lines += [*table([column.title for column in columns], [column.left for column in columns], rows), ""]
    for title, columns, results in output_tables(report):
        rows = [[str(column.cell(result)) for column in columns] for result in results]
        heads, left = [column.title for column in columns], [column.left for column in columns]
        lines += [paragraph(f"{title}:"), "", *table(heads, left, rows), ""]
    for device in report.devices:
        lines += [paragraph(findings.device_line(device)), ""]
        columns, results = device_table(report, device)
        rows = [[str(column.cell(result)) for column in columns] for result in results]
        if rows:
            lines += [
                *table([column.title for column in columns], [column.left for column in columns], rows),
                "",
            ]
    for result in report:
        if result.search is not None and len(result.search.trials) > 1:
            titles, trials = trial_rows(result.search)
            left = [number in (0, len(titles) - 1) for number in range(len(titles))]
            lines += [paragraph(f"Candidates for {result.target}:"), "", *table(titles, left, trials), ""]
    lines += [item(label, text) for label, text in findings.measured_on(report)]
    if report.checks:
        lines.append(item("checks", findings.checks_line(report)))
    if report.training:
        lines.append(item("trained", findings.training_line(report.training)))
    lines += [item(label, text) for label, text in findings.conversions(report)]
    lines += [item(label, text) for label, text in changed.lines(report)]
    lines += [item(label, text) for label, text in compilations.lines(report)]
    lines += [item(label, text) for label, text in compressions.lines(report)]
    lines += [item(label, text) for label, text in findings.from_cache(report)]
    lines += [item("note", text) for text in findings.notes(report)]
    lines += [item("note", text) for text in findings.rounding_notes(report)]
    for result in report:
        lines += [
            verdict(gate.verdict, f"{result.target}: {gate.reason}")
            for gate in result.gates
            if gate.verdict is not Verdict.PASS
        ]
        if result.failure:
            what = f"{result.target} in stage {result.failure.stage}: {result.failure.message}"
            lines.append(verdict("FAILED", what))
    if report.joint is not None:
        lines.append(verdict(report.joint.verdict, f"all targets: {report.joint.reason}"))
    lines += [item("gates", text) for text in inconclusive(findings.gates(report))]
    lines += [item("warning", text) for text in findings.warnings(report)]
    for label, text in findings.of_devices(report):
        lines.append(verdict(label, text) if label in findings.JUDGED else item(label, text))
    return "\n".join(lines) + "\n"
