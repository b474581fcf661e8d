"""Two runs side by side (`edgefx diff`), and one run against its lock file (`edgefx reproduce`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from edgefx.metrics import METRICS, MetricRow, Origin, tasks
from edgefx.provenance.comparison import Change, Flips, Regression, RunDiff, TargetDiff
from edgefx.provenance.reproduction import Outcome, Reproduction
from edgefx.report import markdown_text
from edgefx.report.markdown_text import heading, item
from edgefx.report.terminal import VERDICT_STYLES, Facts, Heading, fitting, is_too_wide, table
from edgefx.report.text import interval, metric, signed

_CHANGES = ("input", "what", "before", "after")
_FLIPS = ("change pp", "95% CI", "flipped", "lost", "gained")
_KEPT = ("target", "bytes", "change pp")  # in the narrowest terminal
_DETAILS = ("lost", "gained")
_LEFT = (*_CHANGES, "target", "bytes")
_SHOWN = 8  # flipped images named for each target; JSON has all
_KEY_SHOWN = 12  # hexadecimal digits of a hash
_STYLES = {
    Outcome.IDENTICAL: "green",
    Outcome.SAME_CONTENT: "green",
    Outcome.SAME_METRICS: "yellow",
    Outcome.DIFFERENT: "bold red",
    Outcome.FAILED: "bold red",
}

Rows = list[tuple[str, ...]]


def render_diff(result: RunDiff, console: Console) -> None:
    """Print what changed between two runs and what it did."""
    console.print(Text.assemble((f"{result.before}", "bold"), " -> ", (f"{result.after}", "bold")))
    console.print()
    _render_changes(result.changes, console)
    console.print()
    for part in fitting(_headings(result), _target_rows(result), console):
        console.print(part, highlight=False)
    facts = [*_flip_facts(result), *(("note", note) for note in result.notes)]
    if facts:
        console.print()
        console.print(Facts(facts))
    if result.regressions:
        console.print()
    for one in result.regressions:
        console.print(
            Text.assemble((one.verdict.value, VERDICT_STYLES[one.verdict]), f"  {_regression(one)}"),
            soft_wrap=True,
        )


def render_reproduction(result: Reproduction, console: Console) -> None:
    """Print which artifacts came out the same."""
    console.print(Text.assemble((f"{result.lock}", "bold"), f"  run of {result.created}"))
    console.print()
    _render_changes(result.changes, console)
    console.print()
    outcome = table("target", "outcome", "differences", left=("outcome", "differences"))
    for target in result.targets:
        outcome.add_row(
            target.target,
            Text(target.outcome.value, style=_STYLES[target.outcome]),
            "; ".join(target.differences),
        )
    console.print(outcome, highlight=False)
    console.print()
    console.print(Facts([("artifacts", str(result.output))]))


def markdown(result: RunDiff) -> str:
    """Return a comparison as GitHub-flavoured Markdown that ends in a newline."""
    lines = [heading(f"{result.before} → {result.after}"), ""]
    if result.changes:
        lines += [*_markdown_table(_CHANGES, _change_rows(result.changes)), ""]
    else:
        lines += ["No input changed.", ""]
    lines += [*_markdown_table(_target_titles(result), _target_rows(result)), ""]
    lines += [item(label, text) for label, text in _flip_facts(result)]
    lines += [item("note", note) for note in result.notes]
    lines += [item(one.verdict.value, _regression(one)) for one in result.regressions]
    return "\n".join(lines).rstrip() + "\n"


def _render_changes(changes: Sequence[Change], console: Console) -> None:
    """Print a table, or, where it would break values, a line for each change."""
    if not changes:
        console.print("no input changed")
        return
    rows = _change_rows(changes)
    result = table(*_CHANGES, left=_LEFT)
    for row in rows:
        result.add_row(*(Text(cell) if cell else Text("-", style="dim") for cell in row))
    if is_too_wide(result, console):
        facts = [(row[0], f"{row[1]}: {row[2] or '-'} -> {row[3] or '-'}") for row in rows]
        console.print(Facts(facts), highlight=False)
    else:
        console.print(result, highlight=False)


def _change_rows(changes: Sequence[Change]) -> Rows:
    return [(change.kind, change.name, _short(change.before), _short(change.after)) for change in changes]


def _compared(result: RunDiff) -> tuple[list[MetricRow], list[MetricRow]]:
    """Return the metrics that a run has, those shown before what became of single images, and behind it."""
    figures = [one for target in result.targets for one in (target.before, target.after) if one]
    shown = [row for row in METRICS.values() if row.compared or row in tasks.ROWS]
    outputs = dict.fromkeys(key.rpartition(".")[0] for one in figures for key in one if "." in key)
    if outputs:  # then those of accuracy are said of each
        rest = [row for row in shown if row.origin is not Origin.ACCURACY]
        own = [row for row in shown if row.origin is Origin.ACCURACY]
        shown = rest + [
            replace(row, id=f"{name}.{row.id}", heading=f"{name}: {row.heading or row.name}")
            for name in outputs
            for row in own
        ]
    rows = [row for row in shown if any(one.get(row.id) is not None for one in figures)]
    return (
        [row for row in rows if row.origin is not Origin.LATENCY],
        [row for row in rows if row.origin is Origin.LATENCY],
    )


def _target_titles(result: RunDiff) -> tuple[str, ...]:
    before, behind = _compared(result)
    return (
        "target",
        "bytes",
        *(row.heading or row.name for row in before),
        *_FLIPS,
        *(row.heading for row in behind),
    )


def _headings(result: RunDiff) -> tuple[Heading, ...]:
    """Return the columns of the targets; where there is no room, latency goes first."""
    _, behind = _compared(result)
    ranks = {row.heading: 3 for row in behind} | dict.fromkeys(_DETAILS, 2) | dict.fromkeys(_KEPT, 0)
    return tuple(
        Heading(title=title, left=title in _LEFT, rank=ranks.get(title, 1))
        for title in _target_titles(result)
    )


def _target_rows(result: RunDiff) -> Rows:
    before, behind = _compared(result)
    return [
        (
            target.target,
            _bytes(target),
            *(_pair(target, row) for row in before),
            *_flip_cells(target.flips),
            *(_pair(target, row) for row in behind),
        )
        for target in result.targets
    ]


def _bytes(target: TargetDiff) -> str:
    if target.before is None or target.after is None:
        return "only after" if target.before is None else "only before"
    return "identical" if target.identical else "differ"


def _pair(target: TargetDiff, row: MetricRow) -> str:
    """Write a metric of both runs, once where it is the same."""
    old, new = (
        metric(row, figures.get(row.id)) if figures else "" for figures in (target.before, target.after)
    )
    if target.before is None or target.after is None:  # which one it is stands in the row already
        return old or new
    return old if old == new else f"{old or 'none'} -> {new or 'none'}"


def _flip_cells(flips: Flips | None) -> tuple[str, str, str, str, str]:
    if flips is None:
        return ("", "", "", "", "")
    flipped = f"{len(flips.flipped)} of {flips.images}"
    if flips.lost is None or flips.drop_pp is None or flips.drop_ci95_pp is None:
        return ("", "", flipped, "", "")
    low, high = flips.drop_ci95_pp
    # A drop is a loss; the table says how top-1 moved.
    return (
        signed(-flips.drop_pp),
        interval((-high, -low)),
        flipped,
        str(flips.lost),
        str(flips.gained),
    )


def _flip_facts(result: RunDiff) -> Iterator[tuple[str, str]]:
    def named(index: int) -> str:
        return result.class_names[index] if index < len(result.class_names) else str(index)

    for target in result.targets:
        flips = target.flips
        if flips is None:
            continue
        if flips.flipped:
            shown = ", ".join(
                f"{flip.image} ({named(flip.before)} -> {named(flip.after)}"
                + (f", label {named(flip.label)})" if flip.label is not None else ")")
                for flip in flips.flipped[:_SHOWN]
            )
            more = len(flips.flipped) - _SHOWN
            yield "flipped", f"{target.target}: {shown}" + (f", + {more} more" if more > 0 else "")
        if flips.left_out:
            yield (
                "left out",
                f"{target.target}: {flips.left_out} images that only one run has, or that changed",
            )


def _regression(one: Regression) -> str:
    return f"{one.target}: {one.limit}: {one.reason}" + (", tolerated" if one.tolerated else "")


def _short(text: str) -> str:
    """Cut a hash down to what tells it from another."""
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:_KEY_SHOWN] if is_hash else text


def _markdown_table(titles: tuple[str, ...], rows: Rows) -> list[str]:
    return markdown_text.table(titles, [title in _LEFT for title in titles], rows)
