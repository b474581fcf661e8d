"""The result of `edgefx debug` for people: a verdict, the stages, and the worst layers.

Readable at 80 columns (columns are left out, the least telling first), without colours, and through a pipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefx.analysis.diagnosis import Broken, DebugReport, Diagnosis, Difference, LayerFigures, Step
from edgefx.report import explained
from edgefx.report.findings import USED, data_line
from edgefx.report.terminal import Facts, Heading, fitting, is_too_wide, table
from edgefx.report.text import answers, count, percent, seconds, significant


class Order(StrEnum):
    """What layers are sorted by, the worst first."""

    EFFECT = "effect"  # mean KL with the layer alone quantized
    SQNR = "sqnr"
    SATURATED = "saturated"
    GRAPH = "graph"  # as computed, first to last


@dataclass(frozen=True, kw_only=True)
class LayerColumn:
    """A column of the layers' table; `rank` says which go first where there is no room, 0 never does."""

    title: str
    cell: Callable[[LayerFigures], str]
    rank: int
    left: bool = False


def _sqnr(value: float | None) -> str:
    if value is None:
        return "-"
    return "exact" if math.isinf(value) else f"{value:.1f}"


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return f"{significant(low)} .. {significant(high)}"


def _share(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else percent(value, digits)


def _effect(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


COLUMNS = (
    LayerColumn(title="layer", cell=lambda row: row.layer, rank=0, left=True),
    LayerColumn(title="kind", cell=lambda row: row.kind, rank=4, left=True),
    LayerColumn(title="quantized", cell=lambda row: row.quantized or "-", rank=5, left=True),
    LayerColumn(title="KL alone", cell=lambda row: _effect(row.alone_mean_kl), rank=0),
    LayerColumn(title="top-1 chg", cell=lambda row: _share(row.alone_top1_changed), rank=2),
    LayerColumn(title="SQNR dB", cell=lambda row: _sqnr(row.sqnr_db), rank=0),
    LayerColumn(title="weights dB", cell=lambda row: _sqnr(row.weights_sqnr_db), rank=6),
    LayerColumn(title="grid", cell=lambda row: _span(row.low, row.high), rank=1),
    LayerColumn(title="seen", cell=lambda row: _span(row.seen_low, row.seen_high), rank=3),
    LayerColumn(title="saturated", cell=lambda row: _share(row.saturated, 2), rank=1),
    LayerColumn(title="levels used", cell=lambda row: _share(row.levels_used, 0), rank=2),
)


def ordered(layers: Iterable[LayerFigures], order: Order, *, graph: Sequence[str] = ()) -> list[LayerFigures]:
    """Sort layers, the worst first; what has no such figure comes last.

    Args:
        layers: The layers.
        order: By what.
        graph: All layers' names in the graph's order, for `Order.GRAPH`.
    """
    if order is Order.GRAPH:
        place = {name: number for number, name in enumerate(graph)}
        return sorted(layers, key=lambda row: place.get(row.layer, len(place)))
    keys: dict[Order, Callable[[LayerFigures], float | None]] = {
        Order.EFFECT: lambda row: row.alone_mean_kl,
        Order.SATURATED: lambda row: row.saturated,
        Order.SQNR: lambda row: None if row.sqnr_db is None else -row.sqnr_db,
    }
    figure = keys[order]

    def badness(row: LayerFigures) -> float:
        value = figure(row)
        return -math.inf if value is None else value

    return sorted(layers, key=badness, reverse=True)


def render(report: DebugReport, console: Console, *, limit: int, order: Order) -> None:
    """Print `report` on `console`.

    Args:
        report: What to print.
        console: Where to.
        limit: Most layers to show of each target; 0 shows all.
        order: What they are sorted by.
    """
    model = report.model
    title = f"  {model.height}x{model.width}, {answers(model)}, {count(model.parameters)} parameters"
    console.print(Text.assemble((model.name, "bold"), title), highlight=False)
    for diagnosis in report.targets:
        console.print()
        _render_target(diagnosis, console, limit=limit, order=order)
    console.print()
    measured = (
        f"stages and single layers on {report.images} images, values on {report.tapped_images}; KL in nats;"
        " SQNR includes the noise of all layers before"
    )
    rows: list[tuple[str, str | Text]] = [
        (USED.get(data.role, data.role), data_line(data)) for data in report.data
    ]
    rows.append(("measured", measured))
    if report.measured_on == "calibration":
        rows.append(
            (
                "note",
                "these images set the ranges, so that others may lose more: give others with --eval DIR",
            )
        )
    if report.explanations:
        rows += explained.rows(report.explanations, report.model)
    console.print(Facts(rows), highlight=False)
    for failed in report.failures:
        console.print(
            Text.assemble(("FAILED", "bold red"), f" {failed.target}: {failed.failure.message}"),
            highlight=False,
        )
        if failed.failure.hint:
            console.print(Text.assemble(("  hint", "cyan"), f": {failed.failure.hint}"), highlight=False)
    for warning in report.warnings:
        console.print(Text.assemble(("warning", "bold yellow"), f": {warning}"), highlight=False)


def _render_target(diagnosis: Diagnosis, console: Console, *, limit: int, order: Order) -> None:
    style = "bold green" if diagnosis.broken is Broken.NOTHING else "bold red"
    verdict = Text.assemble((diagnosis.target, "bold"), ": ", (diagnosis.verdict, style))
    console.print(verdict, highlight=False)
    console.print()
    console.print(_steps(diagnosis, console), highlight=False)
    console.print()
    rows = ordered(diagnosis.layers, order, graph=diagnosis.graph)
    shown = rows[:limit] if limit else rows
    if shown:
        for part in _layers(shown, console):
            console.print(part, highlight=False)
    left_out = len(rows) - len(shown)
    if left_out:
        console.print(Text(f"{left_out} more layers: --limit 0 shows all", style="dim"), highlight=False)
    facts: list[tuple[str, str | Text]] = [("to try", advice) for advice in diagnosis.advice]
    facts += [("note", note) for note in diagnosis.notes]
    facts.append(("time", seconds(diagnosis.seconds)))
    console.print(Facts(facts), highlight=False)


def _steps(diagnosis: Diagnosis, console: Console) -> Table:
    """Each stage against the one before it, and, where there is room, against the model as loaded."""
    for columns in (len(STEP_TITLES), len(STEP_TITLES) - 2):
        shown = table(*STEP_TITLES[:columns])
        for column in shown.columns:
            column.no_wrap = True
        for row in step_rows(diagnosis):
            shown.add_row(*row[:columns])
        if not is_too_wide(shown, console):
            break
    return shown


STEP_TITLES = ("stage", "max |dp|", "mean KL", "agree", "KL in all", "agree in all")


def step_rows(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """Return the rows of the table of stages, under `STEP_TITLES`."""
    last = "integer artifact" if diagnosis.target.endswith("-int8") else Step.ARTIFACT.value
    rows = [(Step.LOADED.value, *("-" for _ in STEP_TITLES[1:]))]
    for figures in diagnosis.steps:
        name = last if figures.step is Step.ARTIFACT else figures.step.value
        rows.append((name, *_difference(figures.change), *_difference(figures.total)[1:]))
    return rows


def _difference(difference: Difference) -> tuple[str, str, str]:
    return (
        f"{difference.max_abs_dp:.1e}",
        f"{difference.mean_kl:.1e}",
        percent(difference.agreement, 1) or "-",
    )


def _layers(rows: Sequence[LayerFigures], console: Console) -> Iterator[Table | Text]:
    """Yield the table, with as many columns as there is room for."""
    columns = [
        column for column in COLUMNS if column.rank == 0 or any(column.cell(row) != "-" for row in rows)
    ]
    headings = [Heading(title=column.title, left=column.left, rank=column.rank) for column in columns]
    return fitting(headings, [[column.cell(row) for column in columns] for row in rows], console)
