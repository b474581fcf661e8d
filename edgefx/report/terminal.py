"""A run's report for people: tables and the sentences that keep them honest.

Readable at 80 columns (the table is divided), without colours, and through a pipe.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from edgefx.metrics import METRICS, Figures, MetricRow, Origin
from edgefx.report import changed, compilations, compressions, findings
from edgefx.report.console import PlainConsole, shown
from edgefx.report.text import answers, count, interval, metric, percent, seconds, signed, size
from edgefx.report.undecided import inconclusive
from edgefx.results import DeviceResult, RunReport, SearchResult, TargetResult
from edgefx.types import StageKind
from edgefx.verdicts import Verdict

_TEXT_COLUMNS = 160  # of a report in a file
_UNLIMITED = 10_000  # columns; wider than any table
VERDICT_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
_LABEL_STYLES = {"FAILED": "bold red", "warning": "bold yellow", "doubtful": "bold yellow"}

Cell = str | Text


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the results; it is left out when no target has anything to say in it."""

    title: str
    cell: Callable[[TargetResult], Cell]
    left: bool = False
    optional: bool = False  # left out where the table would not fit


def render(report: RunReport, console: Console) -> None:
    """Print `report` on `console`."""
    for part in _parts(report, console):
        console.print(part, highlight=False)


def dumps(report: RunReport) -> str:
    """Return `report` as text without colours, wide enough for one table."""
    stream = io.StringIO()
    render(report, PlainConsole(file=stream, width=_TEXT_COLUMNS, color_system=None))
    return stream.getvalue()


def table(*titles: str, left: Sequence[str] = (), gap: int = 2) -> Table:
    """Return an empty table in edgefx's look.

    Args:
        titles: Headings.
        left: The headings of left-aligned columns; the first column always is.
        gap: Spaces between columns, 1 or 2.
    """
    result = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="bold"
    )
    for number, title in enumerate(titles):
        result.add_column(title, justify="left" if number == 0 or title in left else "right")
    return result


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The heading of a column; `rank` says which columns go first where there is no room, 0 never does."""

    title: str
    left: bool = False
    rank: int = 0


def fitting(
    headings: Sequence[Heading], rows: Sequence[Sequence[Cell]], console: Console
) -> Iterator[Table | Text]:
    """Yield a table that fits, and a line that says which columns were left out for that.

    Columns come closer together first. Then they go by their rank, the highest first, the last one of a rank
    before the others. No cell is cut as long as the columns that stay have room.
    """
    chosen = list(range(len(headings)))
    gap = 1 if is_too_wide(_filled(headings, rows, gap=2), console) else 2
    while True:
        cells = [[row[number] for number in chosen] for row in rows]
        result = _filled([headings[number] for number in chosen], cells, gap=gap)
        droppable = [number for number in chosen if headings[number].rank]
        if not droppable or not is_too_wide(result, console):
            break
        chosen.remove(max(droppable, key=lambda number: (headings[number].rank, number)))
    yield result
    left_out = [heading.title for number, heading in enumerate(headings) if number not in chosen]
    if left_out:
        yield Text(f"left out, for want of width: {', '.join(left_out)}", style="dim")


def _filled(headings: Sequence[Heading], rows: Sequence[Sequence[Cell]], *, gap: int) -> Table:
    """Return a table none of whose cells is wrapped."""
    left = [one.title for one in headings if one.left]
    result = table(*(one.title for one in headings), left=left, gap=gap)
    for column in result.columns:
        column.no_wrap = True
    for row in rows:
        result.add_row(
            *((Text(cell) if isinstance(cell, str) else cell) or Text("-", style="dim") for cell in row)
        )
    return result


def is_too_wide(result: Table, console: Console) -> bool:
    """Whether a table needs more columns than the console has, with no cell wrapped."""
    options = console.options.update(width=_UNLIMITED)
    return console.measure(result, options=options).maximum > console.width


class Facts:
    """Label and value pairs; values wrap in their own column, and no line ends in spaces."""

    def __init__(self, rows: Sequence[tuple[str, Cell]]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = max((len(label) for label, _ in self._rows), default=0) + 2
        for label, value in self._rows:
            text = shown(value if isinstance(value, Text) else Text(value))
            head = Text(label.ljust(indent), style="dim")
            for line in text.wrap(console, max(20, options.max_width - indent)):
                line.rstrip()
                yield Text.assemble(head, line)
                head = Text(" " * indent)


# ----------------------------------------------------------------------------------------------- the table

_TARGET = Column(
    title="target",
    cell=lambda result: Text(result.target, style="bold red" if result.failure else "bold"),
    left=True,
)


def _verdict(result: TargetResult) -> Cell:
    if result.failure:
        return Text("FAILED", style="bold red")
    return Text(result.verdict, style=VERDICT_STYLES[result.verdict]) if result.verdict else ""


def _ops(result: TargetResult) -> str:
    if result.artifact is None:
        return ""
    return f"{result.artifact.compute_int8}/{result.artifact.compute_float}"


def metric_columns(*origins: Origin, unlabelled_only: bool = False) -> Iterator[Column]:
    """Yield the columns of metrics, in the order of their table; an interval follows its metric."""
    for row in METRICS.values():
        is_shown = row.heading and row.in_reports and row.origin in origins
        if not is_shown or row.unlabelled_only != unlabelled_only:
            continue
        yield Column(title=row.heading, cell=partial(_cell, row), optional=row.optional)
        if row.interval is not None and row.shows_interval:
            yield Column(title="95% CI", cell=partial(_interval, row.interval), optional=True)


def _cell(row: MetricRow, result: TargetResult) -> Cell:
    text = metric(row, row.value(Figures.of(result)))
    is_marked = row.id == "ratio_to_float" and findings.is_slower(result)
    return Text(text, style="yellow") if is_marked else text


def _interval(read: Callable[[Figures], tuple[float, float] | None], result: TargetResult) -> Cell:
    return interval(read(Figures.of(result)), 1)


_RAN_IN = Column(title="ran in", cell=lambda r: r.latency.precision_ran if r.latency else "")
_EXECUTION = (
    Column(title="int/float", cell=_ops, optional=True),
    _RAN_IN,
)
_VERDICT = Column(title="verdict", cell=_verdict, left=True)


def columns(report: RunReport) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Return the columns that have something to say: on size and accuracy, and on speed."""
    labelled = any(result.accuracy and result.accuracy.top1 is not None for result in report)

    def used(*candidates: Column) -> tuple[Column, ...]:
        return tuple(column for column in candidates if any(str(column.cell(result)) for result in report))

    accuracy = metric_columns(Origin.ARTIFACT, Origin.ACCURACY)
    divergence = () if labelled else metric_columns(Origin.ACCURACY, unlabelled_only=True)
    return used(*accuracy, *divergence), used(
        *metric_columns(Origin.LATENCY, Origin.MCU, Origin.NPU), *_EXECUTION
    )


def result_tables(report: RunReport) -> tuple[tuple[Column, ...], ...]:
    """Return the columns of the tables to print where there is no room for a single one."""
    accuracy, speed = columns(report)
    verdict = (_VERDICT,) if any(str(_verdict(result)) for result in report) else ()
    first = (_TARGET, *accuracy, *verdict)
    return (first, (_TARGET, *speed)) if speed else (first,)


def device_table(
    report: RunReport, device: DeviceResult
) -> tuple[tuple[Column, ...], Sequence[TargetResult]]:
    """Return the columns and the rows of what was measured on a device; no rows where nothing was."""
    answers = {one.target: one.answers for one in device.targets}

    def as_here(result: TargetResult) -> str:
        found = answers[result.target]
        return found.match.value if found is not None else ""

    rows = findings.of_device(report, device)
    labelled = any(row.accuracy and row.accuracy.top1 is not None for row in rows)
    candidates = (
        Column(title="as here", cell=as_here, left=True),
        *metric_columns(Origin.ACCURACY),
        *(() if labelled else metric_columns(Origin.ACCURACY, unlabelled_only=True)),
        *metric_columns(Origin.LATENCY),
        _RAN_IN,
        _VERDICT,
    )
    used = [column for column in candidates if any(str(column.cell(row)) for row in rows)]
    return (_TARGET, *used), rows if used else ()


def output_tables(
    report: RunReport,
) -> Iterator[tuple[str, tuple[Column, ...], Sequence[TargetResult]]]:
    """Yield a title, the columns and the rows of each of several outputs that accuracy was measured of."""
    for output in report.model.outputs:
        rows = [
            replace(result, accuracy=one.accuracy)
            for result in report
            if result.accuracy is not None
            for one in result.accuracy.outputs
            if one.name == output.name
        ]
        labelled = any(row.accuracy and row.accuracy.top1 is not None for row in rows)
        candidates = [*metric_columns(Origin.ACCURACY)]
        candidates += [] if labelled else metric_columns(Origin.ACCURACY, unlabelled_only=True)
        used = [column for column in candidates if any(str(column.cell(row)) for row in rows)]
        if used:
            yield f"output {output.name} ({answers(output)})", (_TARGET, *used), rows


def _device_parts(report: RunReport, console: Console) -> Iterator[Table | Text]:
    for device in report.devices:
        yield Text(findings.device_line(device), style="bold")
        chosen, rows = device_table(report, device)
        if rows:
            yield Text()
            yield from fitting(*_cells(rows, chosen), console)
        yield Text()


def _output_parts(report: RunReport, console: Console) -> Iterator[Table | Text]:
    for title, chosen, rows in output_tables(report):
        yield Text(title, style="bold")
        yield Text()
        yield from fitting(*_cells(rows, chosen), console)
        yield Text()


def _tables(report: RunReport, console: Console) -> Iterator[Table | Text]:
    """Yield one table where it fits, else one for accuracy and one for speed."""
    divided = result_tables(report)
    accuracy, speed = columns(report)
    verdict = tuple(column for column in divided[0] if column is _VERDICT)
    single = (_TARGET, *accuracy, *speed, *verdict)
    if not is_too_wide(_filled(*_cells(report, single), gap=1), console):
        divided = (single,)
    for chosen in divided:
        yield from fitting(*_cells(report, chosen), console)


def _cells(
    report: Iterable[TargetResult], chosen: tuple[Column, ...]
) -> tuple[tuple[Heading, ...], list[list[Cell]]]:
    headings = tuple(
        Heading(title=column.title, left=column.left, rank=int(column.optional)) for column in chosen
    )
    return headings, [[column.cell(row) for column in chosen] for row in report]


# -------------------------------------------------------------------------------------- around the table


def _parts(report: RunReport, console: Console) -> Iterator[Table | Text | Facts]:
    yield _title(report)
    for line in findings.doubts(report):
        yield Text.assemble(("doubtful", "bold yellow"), f": {line}")
    yield Text()
    for result in _tables(report, console):
        yield result
        yield Text()
    yield from _output_parts(report, console)
    yield from _device_parts(report, console)
    for row in report:
        if row.search is not None and len(row.search.trials) > 1:
            yield _trials(row.target, row.search)
            yield Text()
    yield Facts(_facts(report))
    problems = [
        *_gate_lines(report),
        *_failure_lines(report),
        *_warning_lines(report),
        *_device_lines(report),
    ]
    if problems:
        yield Text()
        yield from problems


def _title(report: RunReport) -> Text:
    model = report.model
    return Text.assemble(
        (model.name, "bold"),
        f"  {model.height}x{model.width}, {answers(model)}, {count(model.parameters)} parameters,"
        f" {count(model.macs)} MACs",
    )


def _facts(report: RunReport) -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = [(label, text) for label, text in findings.measured_on(report)]
    if report.checks:
        rows.append(("checks", findings.checks_line(report)))
    if report.training:
        rows.append(("trained", findings.training_line(report.training)))
    rows += findings.conversions(report)
    rows += changed.lines(report)
    rows += compilations.lines(report)
    rows += compressions.lines(report)
    rows += findings.from_cache(report)
    rows += [("note", line) for line in findings.notes(report)]
    rows += [("note", line) for line in findings.rounding_notes(report)]
    folder = output_folder(report)
    if folder is not None:
        rows.append(
            (
                "artifacts",
                f"{folder}{os.sep}  (report.json: every figure; edgefx.lock.json: to run it again)",
            )
        )
    rows.append(("time", _timing_line(report)))
    return rows


def trial_rows(search: SearchResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings and the rows of the table of candidates; the last cell says what became of each."""
    titles = ("effort", "in float", f"drop {search.limit.unit}", "agree", "int8", "size", "convert s", "")
    rows: list[tuple[str, ...]] = []
    for number, trial in enumerate(search.trials):
        verdict = "within" if trial.meets else "over"
        verdict += f", without {', '.join(trial.left_out)}" if trial.left_out else ""
        verdict += ", chosen" if number == search.chosen else ""
        drop = search.limit.measured(trial.accuracy) if trial.accuracy else None
        rows.append(
            (
                trial.effort.value,
                str(len(trial.keep_float)),
                signed(drop) or "-",
                percent(trial.accuracy.agreement, 1) if trial.accuracy else "-",
                percent(trial.integer_share, 1) if trial.accuracy else "-",
                size(trial.size_bytes) if trial.accuracy else "-",
                f"{trial.convert_s:.1f}" if trial.accuracy else "-",
                f"failed: {trial.error}" if trial.error else verdict,
            )
        )
    return titles, rows


def _trials(target: str, search: SearchResult) -> Table:
    titles, rows = trial_rows(search)
    result = table(f"candidates for {target}", *titles[1:], left=("",))
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))
    return result


def output_folder(report: RunReport) -> Path | None:
    """Return the folder that the artifacts are in, or None when there are none."""
    for result in report:
        if result.artifact is not None:
            return result.artifact.path.parent
    return None


def _timing_line(report: RunReport) -> str:
    stages = dict.fromkeys(StageKind, 0.0)
    for timing in report.timings:
        stages[timing.stage] += timing.seconds
    parts = ", ".join(f"{stage} {seconds(value)}" for stage, value in stages.items() if value >= 0.05)
    if not parts and report.cached:
        return "nothing had to be computed"
    return f"{seconds(sum(stages.values()))}" + (f" ({parts})" if parts else "")


def _gate_lines(report: RunReport) -> Iterator[Text]:
    for result in report:
        for gate in result.gates:
            if gate.verdict is not Verdict.PASS:
                style = VERDICT_STYLES[gate.verdict]
                yield Text.assemble((gate.verdict.value, style), f" {result.target}: {gate.reason}")
    if report.joint is not None:
        style = VERDICT_STYLES[report.joint.verdict]
        yield Text.assemble((report.joint.verdict.value, style), f" all targets: {report.joint.reason}")
    for line in inconclusive(findings.gates(report)):
        yield Text(line)


def _failure_lines(report: RunReport) -> Iterator[Text]:
    for result in report:
        if result.failure is None:
            continue
        failure = result.failure
        yield Text.assemble(
            ("FAILED", "bold red"), f" {result.target} in stage {failure.stage}: {failure.message}"
        )
        if failure.hint:
            yield Text.assemble(("  hint", "cyan"), f": {failure.hint}")


def _device_lines(report: RunReport) -> Iterator[Text]:
    for label, line in findings.of_devices(report):
        style = VERDICT_STYLES[Verdict(label)] if label in set(Verdict) else _LABEL_STYLES.get(label, "dim")
        yield Text.assemble((label, style), f"{'' if label in findings.JUDGED else ':'} {line}")


def _warning_lines(report: RunReport) -> Iterator[Text]:
    for line in findings.warnings(report):
        yield Text.assemble(("warning", "bold yellow"), f": {line}")
