"""The page of `edgefx debug`: verdict, stages, plot and table of the layers; it loads nothing from elsewhere.

In the plot layers run from left to right as they are computed. Above, what quantizing each alone does (mean
KL, on a log scale); below, the SQNR of its output in the artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgefx.analysis.diagnosis import DebugReport, Diagnosis, LayerFigures
from edgefx.errors import OutputError, UsageError
from edgefx.harmless import html_text as escape
from edgefx.report.debug import COLUMNS, STEP_TITLES, Order, ordered, step_rows
from edgefx.report.text import counted, percent
from edgefx.storage.atomic import write_text

_HEIGHT = 180  # of one panel, pixels
_LEFT, _RIGHT, _TOP, _GAP, _FOOT = 64, 20, 24, 30, 92
_DECADES = 6  # of KL below the worst layer
_NAMED = 5  # worst layers with their name in the plot
_MOST_DB = 60.0
_LETTER = 6.2  # width of a letter in the plot, pixels
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --page: #fff; --line: #ddd; --soft: #555 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --page: #181818; --line: #444; --soft: #aaa }
}
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; padding: 0 1em; max-width: 1500px;
  color: var(--ink); background: var(--page) }
.verdict { font-size: 16px; border-left: 4px solid; padding-left: .6em }
.bad { border-color: #d0473d } .good { border-color: #2e9e5b }
.scroll { overflow-x: auto }
svg { display: block; margin: .5em 0 }
text { font: 11px system-ui, sans-serif; fill: var(--soft) }
text.name { fill: var(--ink); stroke: var(--page); stroke-width: 3px; paint-order: stroke }
line { stroke: var(--line) } .kl { fill: #d0473d } .db { fill: #4a7fc1 }
rect:hover { opacity: .6 }
figcaption, .facts { color: var(--soft) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { position: sticky; top: 0; background: var(--page) } .left { text-align: left }
@media print { .scroll { overflow: visible } body { max-width: none } }
"""
_CAPTION = (
    "Layers from left to right in the order in which they are computed; the names below are those of their"
    " blocks. Red: mean KL from the float scores with the layer alone quantized, higher is worse. Blue:"
    " signal to quantization noise ratio of the layer's output in the artifact, lower is worse. A bar tells"
    " its layer's figures when the pointer rests on it."
)
_COLUMNS_SAY = (
    "KL alone: as above. top-1 chg: share of the images whose class that changes. SQNR dB, weights dB: signal"
    " to quantization noise ratio of the output and of the stored weights. grid, seen: the range that the"
    " output is rounded to, and that of its float values. saturated: share of the float values outside the"
    " grid. levels used: share of the grid's levels that occur."
)


def check(path: Path) -> None:
    """Refuse a file that the plot cannot be written as, before any work is done for it.

    Raises:
        UsageError: Its suffix is not .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"--plot {path}: the plot is an HTML page", hint=f"for example --plot {path.with_suffix('.html')}"
        )


def write(report: DebugReport, path: Path) -> None:
    """Write the plot, completely or not at all.

    Raises:
        UsageError: As `check` says.
        OutputError: The file cannot be written.
    """
    check(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, dumps(report))
    except OSError as error:
        raise OutputError(
            f"--plot {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error


def dumps(report: DebugReport) -> str:
    """Return the page."""
    title = f"edgefx debug: {escape(report.model.name)}"
    body = "".join(_target(diagnosis) for diagnosis in report.targets)
    facts = (
        f"{counted(report.images, f'{report.measured_on} image')}; {report.created}; edgefx"
        f" {report.environment.edgefx}; {report.environment.cpu}"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f'<p class="facts">{escape(facts)}</p>\n{body}</body></html>\n'
    )


def _target(diagnosis: Diagnosis) -> str:
    place = {name: number for number, name in enumerate(diagnosis.graph)}
    tone = "good" if diagnosis.broken == "nothing" else "bad"
    advice = "".join(f"<li>{escape(one)}</li>" for one in diagnosis.advice)
    notes = "".join(f'<p class="facts">{escape(note)}</p>\n' for note in diagnosis.notes)
    rows = sorted(diagnosis.layers, key=lambda row: place[row.layer])
    layers = ordered(diagnosis.layers, Order.EFFECT)
    return "\n".join(
        (
            f"<h2>{escape(diagnosis.target)}</h2>",
            f'<p class="verdict {tone}">{escape(diagnosis.verdict)}</p>',
            f"<p>To try:</p><ul>{advice}</ul>" if advice else "",
            notes,
            "<h3>Stages, each compared with the one before</h3>",
            _table(STEP_TITLES, step_rows(diagnosis), left=1),
            "<h3>Layers</h3>",
            f'<figure class="scroll">{_svg(rows)}<figcaption>{_CAPTION}</figcaption></figure>',
            f'<p class="facts">{_COLUMNS_SAY}</p>',
            _table(
                [column.title for column in COLUMNS],
                [tuple(column.cell(row) for column in COLUMNS) for row in layers],
                left=sum(column.left for column in COLUMNS),
            ),
            "",
        )
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Return a table whose first `left` columns hold words."""
    sides = {True: "left", False: "right"}

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{sides[number < left]}">{escape(cell)}</{tag}>'
            for number, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{line(titles, 'th')}</tr></thead>"
    return f'<div class="scroll"><table>{head}\n<tbody>{body}</tbody></table></div>'


def _svg(rows: Sequence[LayerFigures]) -> str:
    step = max(4, min(16, 1400 // max(1, len(rows))))
    width = _LEFT + step * len(rows) + _RIGHT
    height = _TOP + 2 * _HEIGHT + _GAP + _FOOT
    worst = max((row.alone_mean_kl or 0.0 for row in rows), default=0.0)
    top = math.ceil(math.log10(worst)) if worst > 0 else 0

    def effect(row: LayerFigures) -> float | None:
        if not row.alone_mean_kl or row.alone_mean_kl <= 0:
            return None
        return (math.log10(row.alone_mean_kl) - (top - _DECADES)) / _DECADES

    def quality(row: LayerFigures) -> float | None:
        return None if row.sqnr_db is None else row.sqnr_db / _MOST_DB

    second = _TOP + _HEIGHT + _GAP
    decades = [(k / _DECADES, f"1e{top - _DECADES + k}") for k in range(0, _DECADES + 1, 2)]
    decibels = [(db / _MOST_DB, f"{db:.0f}") for db in (0.0, 20.0, 40.0, 60.0)]
    return "\n".join(
        (
            f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            f'<text x="0" y="{_TOP - 8}">mean KL with the layer alone quantized (nats)</text>',
            *_axis(decades, width, _TOP),
            *_bars(rows, effect, "kl", step, _TOP),
            *_names(rows, step, width),
            f'<text x="0" y="{second - 8}">SQNR of the layer\'s output (dB)</text>',
            *_axis(decibels, width, second),
            *_bars(rows, quality, "db", step, second),
            *_blocks(rows, step, second + _HEIGHT + 8),
            "</svg>",
        )
    )


def _names(rows: Sequence[LayerFigures], step: int, width: int) -> Iterator[str]:
    """Write the names of the worst layers beside their bars, to the left where there is no room."""
    worst = sorted(rows, key=lambda row: -(row.alone_mean_kl or 0.0))[:_NAMED]
    for number, row in enumerate(worst):
        if not row.alone_mean_kl:
            continue
        x = _LEFT + step * (rows.index(row) + 1)
        anchor = "start"
        if x + _LETTER * len(row.layer) > width:
            x, anchor = x - step - 4, "end"
        y = _TOP + 12 + 12 * number
        yield f'<text class="name" x="{x}" y="{y}" text-anchor="{anchor}">{escape(row.layer)}</text>'


def _blocks(rows: Sequence[LayerFigures], step: int, top: int) -> Iterator[str]:
    """Name the blocks below the bars, upright, each where its first layer is."""
    free = 0.0
    for number, row in enumerate(rows):
        name = row.layer.partition("_")[0]
        x = _LEFT + step * number + step / 2 + 4
        if (number == 0 or rows[number - 1].layer.partition("_")[0] != name) and x >= free:
            turned = f"translate({x:.1f} {top}) rotate(-90)"
            yield f'<text transform="{turned}" text-anchor="end">{escape(name)}</text>'
            free = x + 12


def _axis(ticks: Sequence[tuple[float, str]], width: int, top: int) -> list[str]:
    lines = []
    for share, label in ticks:
        y = top + _HEIGHT * (1 - share)
        lines.append(f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return lines


def _bars(
    rows: Sequence[LayerFigures],
    value: Callable[[LayerFigures], float | None],
    name: str,
    step: int,
    top: int,
) -> list[str]:
    bars = []
    for number, row in enumerate(rows):
        share = value(row)
        if share is None:
            continue
        tall = _HEIGHT * min(1.0, max(0.005, share))
        bars.append(
            f'<rect class="{name}" x="{_LEFT + step * number}" y="{top + _HEIGHT - tall:.1f}"'
            f' width="{step - 1}" height="{tall:.1f}"><title>{escape(_tip(row))}</title></rect>'
        )
    return bars


def _tip(row: LayerFigures) -> str:
    parts = [f"{row.layer} ({row.kind})"]
    if row.alone_mean_kl is not None:
        parts.append(f"KL alone {row.alone_mean_kl:.2g}")
    if row.sqnr_db is not None:
        parts.append(f"SQNR {row.sqnr_db:.1f} dB")
    if row.saturated is not None:
        parts.append(f"saturated {percent(row.saturated)}")
    if row.levels_used is not None:
        parts.append(f"levels used {percent(row.levels_used, 0)}")
    return ", ".join(parts)
