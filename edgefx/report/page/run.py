"""The page of a run: the verdict first, then what it stands on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefx.report import compilations, compressions, findings, page
from edgefx.report.page import changed_images, plots, tables
from edgefx.report.page.pareto import pareto
from edgefx.report.page.tables import PageTable
from edgefx.report.page.thumbnails import Thumbnails, folder_of
from edgefx.report.remedies import remedies
from edgefx.report.terminal import Column, device_table, output_tables, trial_rows
from edgefx.report.text import answers, count, counted, percent, seconds
from edgefx.report.undecided import inconclusive
from edgefx.results import RunReport, TargetResult
from edgefx.types import Resize, StageKind
from edgefx.verdicts import Verdict

_MOST_LAYERS = 40
_TONES = {"FAILED": "bad", Verdict.FAIL.value: "bad"}  # of findings; all others are to be looked at


@dataclass(frozen=True, kw_only=True)
class Banner:
    """The first line: what came of it all. `tone` is "good", "bad", "warn" or ""."""

    word: str
    tone: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something to know, with what to try."""

    word: str
    tone: str
    text: str
    remedy: str = ""


def dumps(report: RunReport, *, roots: Mapping[str, str] | None = None, pictures: bool = True) -> str:
    """Return the page.

    Args:
        report: The run.
        roots: Folders of images by role; by default those that the report names.
        pictures: Whether to embed small pictures of evaluation images.
    """
    resize = next((data.resize for data in report.data if data.role == "evaluation"), Resize.STRETCH)
    known = roots if roots is not None else {data.role: data.root for data in report.data}
    small = Thumbnails(folder_of(known) if pictures else None, report.model, resize)
    return page.write("run.html", **summary(report), **_details(report, small))


def summary(report: RunReport) -> dict[str, object]:
    """Return what a template needs to show verdict, findings and figures of a run."""
    gates = [(result.target, gate) for result in report for gate in result.gates]
    model = report.model
    return {
        "title": model.name,
        "subtitle": f"{model.height}x{model.width}, {answers(model)}, {count(model.parameters)} parameters,"
        f" {count(model.macs)} MACs; {report.created}",
        "banner": banner(report),
        "gates": tables.of_gates(gates) if gates else None,
        "joint": report.joint,
        "findings": list(_findings(report)),
        "metrics": tables.of_metrics(report),
    }


def banner(report: RunReport) -> Banner:
    """Say what came of a run."""
    failed = [result.target for result in report if result.failure]
    if failed:
        return Banner(word="FAILED", tone="bad", says=f"no artifact: {', '.join(failed)}")
    gates = [gate for result in report for gate in result.gates]
    by_verdict = {one: sum(gate.verdict is one for gate in gates) for one in Verdict}
    counts = ", ".join(f"{number} {one}" for one, number in by_verdict.items() if number)
    if not gates:
        return Banner(word="no gates", tone="", says="nothing was limited, so that nothing passes or fails")
    worst = next(one for one in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if by_verdict[one])
    code = int(report.exit_code)
    return Banner(
        word=worst.value,
        tone=tables.TONES[worst],
        says=f"{counted(len(gates), 'gate')} on {counted(len(report.targets), 'target')}: {counts};"
        f" exit code {code}",
    )


def _findings(report: RunReport) -> Iterator[Finding]:
    for result in report:
        if result.failure is not None:
            yield Finding(
                word="FAILED",
                tone="bad",
                text=f"{result.target} in stage {result.failure.stage}: {result.failure.message}",
                remedy=result.failure.hint,
            )
    for text in findings.doubts(report):
        yield Finding(word="doubtful", tone="warn", text=text)
    for result in report:
        yield from _of_gates(report, result)
    for text in inconclusive(gate for result in report for gate in result.gates):
        yield Finding(word="gates", tone="warn", text=text)
    for text in findings.warnings(report):
        yield Finding(word="warning", tone="warn", text=text)
    for word, text in findings.of_devices(report):
        if word != "note":
            yield Finding(word=word, tone=_TONES.get(word, "warn"), text=text)


def _of_gates(report: RunReport, result: TargetResult) -> Iterator[Finding]:
    for gate in result.gates:
        if gate.verdict is not Verdict.PASS:
            yield Finding(
                word=gate.verdict.value,
                tone=tables.TONES[gate.verdict],
                text=f"{result.target}: {gate.reason}",
                remedy=remedies(report, result, gate),
            )


def _details(report: RunReport, pictures: Thumbnails) -> dict[str, object]:
    changed = [(result, result.changes) for result in report if result.changes and result.changes.flipped]
    return {
        "pareto": pareto(report),
        "drops": plots.drops(report),
        "latencies": plots.latencies(report),
        "outputs": [_table(*one) for one in output_tables(report)],
        "devices": [_table(findings.device_line(one), *device_table(report, one)) for one in report.devices],
        "measured": [*findings.measured_on(report)],
        "changed": [
            {
                "says": f"{result.target}: the class of {changes.flipped} of {changes.images} images",
                "classes": plots.classes(report.model, result.target, changes) if changes.by_class else None,
                "shifts": plots.shifts(report.model, result.target, changes),
            }
            for result, changes in changed
        ],
        **changed_images.context(changed_images.of_run(report, pictures), report.model, report.explanations),
        "arithmetic": _arithmetic(report),
        "layers": [
            plots.layers(
                result.target,
                result.search.ranked,
                result.search.trials[result.search.chosen].keep_float,
                most=_MOST_LAYERS,
            )
            for result in report
            if result.search and result.search.ranked
        ],
        "searches": [_trials(result) for result in report if result.search and len(result.search.trials) > 1],
        "facts": _facts(report),
        "notes": [
            *findings.notes(report),
            *findings.rounding_notes(report),
            *(text for word, text in findings.of_devices(report) if word == "note"),
        ],
        "environment": _environment(report),
        "command": report.command,
        "reproduce": _reproduce(report),
        "files": _files(report),
    }


def _arithmetic(report: RunReport) -> PageTable:
    """Say for each target what it computes in, and why some of it is in float."""
    rows = []
    for result in report:
        artifact = result.artifact
        if artifact is None:
            continue
        share = artifact.int8_macs_share
        kept = result.search.trials[result.search.chosen].keep_float if result.search else ()
        why = [f"kept for the budget: {', '.join(kept)}"] if kept else []
        why += artifact.notes
        rows.append(
            [
                tables.name(result.target),
                tables.number(str(artifact.compute_int8), artifact.compute_int8),
                tables.number(str(artifact.compute_float), artifact.compute_float),
                tables.number(percent(share, 1), share),
                tables.words("; ".join(why) or "\u2013"),
            ]
        )
    return PageTable(
        says="Operations that compute, by what they compute in",
        heads=[
            tables.PageHead(text="target", style="left"),
            tables.PageHead(text="integer"),
            tables.PageHead(text="float"),
            tables.PageHead(text="INT8 MACs", meaning="Share of the multiply-accumulates in INT8"),
            tables.PageHead(text="why", style="left"),
        ],
        rows=rows,
    )


def _table(says: str, columns: Sequence[Column], results: Sequence[TargetResult]) -> PageTable:
    """Show what was measured of an output, or on a device; without rows where nothing was."""
    return PageTable(
        says=says,
        heads=[tables.PageHead(text=one.title, style="left" if one.left else "") for one in columns],
        rows=[
            [
                tables.PageCell(text=str(one.cell(result)) or "\u2013", style="left" if one.left else "")
                for one in columns
            ]
            for result in results
        ],
    )


def _trials(result: TargetResult) -> PageTable:
    assert result.search is not None
    titles, rows = trial_rows(result.search)
    return PageTable(
        says=f"{result.target}: candidates for the budget of {result.search.limit}",
        heads=[tables.PageHead(text=title or "outcome") for title in titles],
        rows=[[tables.PageCell(text=cell) for cell in row] for row in rows],
    )


def _facts(report: RunReport) -> list[tuple[str, str]]:
    facts = [
        *findings.conversions(report),
        *compilations.lines(report),
        *compressions.lines(report),
        *findings.from_cache(report),
    ]
    if report.checks:
        facts.append(("checks", findings.checks_line(report)))
    if report.training:
        facts.append(("trained", findings.training_line(report.training)))
    return facts


def _environment(report: RunReport) -> list[tuple[str, str]]:
    found = report.environment
    spent = dict.fromkeys(StageKind, 0.0)
    for timing in report.timings:
        spent[timing.stage] += timing.seconds
    took = ", ".join(f"{stage} {seconds(one)}" for stage, one in spent.items() if one >= 0.05)
    packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    return [
        ("edgefx", found.edgefx),
        ("Python", found.python),
        ("system", f"{found.os}, {found.machine}"),
        ("processor", f"{found.cpu}, {counted(found.cores, 'core')}: {', '.join(found.cpu_features)}"),
        ("memory", f"{found.memory_mb} MB"),
        ("packages", packages),
        ("model", f"{report.model.source} (SHA-256 {report.model.sha256})"),
        *((data.role, f"{findings.data_line(data)} (SHA-256 {data.sha256})") for data in report.data),
        ("seed", str(report.seed)),
        ("time", took or "nothing had to be computed"),
    ]


def _reproduce(report: RunReport) -> str:
    folder = next((result.artifact.path.parent for result in report if result.artifact), Path())
    return f"edgefx reproduce {shlex.quote(str(folder / 'edgefx.lock.json'))}"


def _files(report: RunReport) -> list[tuple[str, str]]:
    return [
        (file.path.name, file.sha256)
        for result in report
        if result.artifact
        for file in result.artifact.files
    ]
