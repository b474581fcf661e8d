"""What the tables of a page hold: text for people, and the figure as it stands in the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from edgefx.evaluation.gates import limit_text
from edgefx.metrics import METRICS, Figures, MetricRow, Origin
from edgefx.report.text import interval, metric
from edgefx.results import RunReport, TargetResult
from edgefx.verdicts import GateResult, Verdict

TONES = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.INCONCLUSIVE: "warn"}
_SIGNS = {"good": "\u2713", "bad": "\u2717", "warn": "?"}  # no colour alone says what is so


@dataclass(frozen=True, kw_only=True)
class PageCell:
    """One cell.

    Attributes:
        text: What people read.
        value: The figure itself, which a table is sorted by.
        style: Classes of the style sheet.
        drawing: SVG instead of a text.
        is_name: Whether it names its row.
    """

    text: str = ""
    value: float | None = None
    style: str = ""
    drawing: Markup | None = None
    is_name: bool = False


@dataclass(frozen=True, kw_only=True)
class PageHead:
    """The heading of a column; `meaning` is told where a pointer rests on it."""

    text: str
    style: str = ""
    meaning: str = ""
    drawing: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table; `style` may be "sortable" and "plot"."""

    says: str
    heads: Sequence[PageHead]
    rows: Sequence[Sequence[PageCell]] = field(default_factory=list)
    style: str = "sortable"


def name(text: str) -> PageCell:
    """Return the cell that names a row."""
    return PageCell(text=text, style="left", is_name=True)


def words(text: str) -> PageCell:
    """Return a cell of words, which may be long."""
    return PageCell(text=text, style="prose")


def number(text: str, value: float | None) -> PageCell:
    """Return a cell of a figure."""
    return PageCell(text=text or "\u2013", value=value)


def verdict(found: Verdict | str) -> PageCell:
    """Return the cell of a verdict, or of FAILED."""
    if not found:
        return PageCell(text="\u2013", style="left")
    tone = TONES[Verdict(found)] if found in set(Verdict) else "bad"
    return PageCell(text=f"{_SIGNS[tone]} {found}", style=f"left {tone}")


def of_metrics(report: RunReport) -> PageTable:
    """Return the table of all figures that reports have columns for."""
    shown = list(_columns(report))
    heads = [
        PageHead(text="#", meaning="Its number in the drawing"),
        PageHead(text="target", style="left"),
        PageHead(text="verdict", style="left"),
    ]
    for row in shown:
        heads.append(PageHead(text=row.heading, meaning=row.meaning))
        if row.shows_interval:
            heads.append(PageHead(text="95 % CI", meaning=f"Confidence interval: {row.name}"))
    heads.append(PageHead(text="ran in", style="left", meaning="What the runtime executed in."))
    return PageTable(
        says="All targets; headings sort.",
        heads=heads,
        rows=[_figures(number, result, shown) for number, result in enumerate(report, 1)],
    )


def _figures(place: int, result: TargetResult, shown: Sequence[MetricRow]) -> list[PageCell]:
    figures = Figures.of(result)
    cells = [
        PageCell(text=str(place), value=place),
        name(result.target),
        verdict("FAILED" if result.failure else result.verdict or ""),
    ]
    for row in shown:
        value = row.value(figures)
        cells.append(number(metric(row, value), value))
        if row.shows_interval:
            bounds = row.interval(figures) if row.interval else None
            cells.append(number(interval(bounds, 1), bounds[1] if bounds else None))
    ran = result.latency.precision_ran if result.latency else ""
    cells.append(PageCell(text=ran or "\u2013", style="left"))
    return cells


def _columns(report: RunReport) -> Iterator[MetricRow]:
    is_labelled = any(result.accuracy and result.accuracy.top1 is not None for result in report)
    origins = list(Origin)
    for row in sorted(METRICS.values(), key=lambda row: origins.index(row.origin)):
        if not (row.heading and row.in_reports) or (row.unlabelled_only and is_labelled):
            continue
        if any(row.value(Figures.of(result)) is not None for result in report):
            yield row


def of_gates(rows: Sequence[tuple[str, GateResult]]) -> PageTable:
    """Return the table of gates.

    Args:
        rows: What each gate was judged on, and what became of it.
    """
    return PageTable(
        says="Gates: limits on what was measured",
        heads=[
            PageHead(text="target", style="left"),
            PageHead(text="verdict", style="left"),
            PageHead(text="limit", style="left"),
            PageHead(text="measured"),
            PageHead(text="95 % CI"),
            PageHead(text="why", style="left"),
        ],
        rows=[
            [
                name(target),
                verdict(gate.verdict),
                PageCell(text=limit_text(gate.gate), style="left"),
                number(metric(METRICS[gate.gate.metric], gate.measured), gate.measured),
                number(_bounds(gate), gate.interval[1] if gate.interval else None),
                words(gate.reason),
            ]
            for target, gate in rows
        ],
    )


def _bounds(gate: GateResult) -> str:
    if gate.interval is None:
        return ""
    row = METRICS[gate.gate.metric]
    return " to ".join(metric(row, bound) for bound in gate.interval)
