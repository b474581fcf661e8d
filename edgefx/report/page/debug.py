"""The page of `edgefx debug`: verdict, stages, plot and table of the layers.

In the plot layers run from left to right as they are computed. Above, what quantizing each alone does (mean
KL, on a log scale); below, the SQNR of its output in the artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from edgefx.analysis.diagnosis import Broken, DebugReport, Diagnosis, LayerFigures
from edgefx.harmless import html_text as escape
from edgefx.report import page
from edgefx.report.debug import COLUMNS, STEP_TITLES, Order, ordered, step_rows
from edgefx.report.page import changed_images
from edgefx.report.page.tables import PageCell, PageHead, PageTable, name
from edgefx.report.page.thumbnails import Thumbnails, folder_of
from edgefx.report.text import counted, percent
from edgefx.types import Resize

_HEIGHT = 180  # of one panel, pixels
_LEFT, _RIGHT, _TOP, _GAP, _FOOT = 64, 20, 24, 30, 92
_DECADES = 6  # of KL below the worst layer
_NAMED = 5  # worst layers with their name in the plot
_MOST_DB = 60.0
_LETTER = 6.2  # width of a letter in the plot, pixels
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


def dumps(report: DebugReport) -> str:
    """Return the page."""
    facts = (
        f"{counted(report.images, f'{report.measured_on} image')}; {report.created}; edgefx"
        f" {report.environment.edgefx}; {report.environment.cpu}"
    )
    return page.write(
        "debug.html",
        title=f"edgefx debug: {report.model.name}",
        subtitle=facts,
        targets=[_target(diagnosis) for diagnosis in report.targets],
        caption=_CAPTION,
        columns_say=_COLUMNS_SAY,
        **_cards(report),
    )


def _cards(report: DebugReport) -> dict[str, object]:
    roots = {data.role: data.root for data in report.data}
    resize = next((data.resize for data in report.data if data.role == report.measured_on), Resize.STRETCH)
    pictures = Thumbnails(folder_of(roots, report.measured_on), report.model, resize)
    made = changed_images.of_explanations(report.explanations, report.model, pictures)
    return changed_images.context(made, report.model, report.explanations)


def _target(diagnosis: Diagnosis) -> dict[str, object]:
    place = {layer: number for number, layer in enumerate(diagnosis.graph)}
    drawn = sorted(diagnosis.layers, key=lambda row: place[row.layer])
    is_well = diagnosis.broken is Broken.NOTHING
    return {
        "name": diagnosis.target,
        "tone": "good" if is_well else "bad",
        "verdict": diagnosis.verdict,
        "advice": diagnosis.advice,
        "notes": diagnosis.notes,
        "stages": PageTable(
            says="Stages, each compared with the one before",
            heads=[
                PageHead(text=title, style="" if number else "left")
                for number, title in enumerate(STEP_TITLES)
            ],
            rows=[[name(row[0]), *(PageCell(text=cell) for cell in row[1:])] for row in step_rows(diagnosis)],
            style="",
        ),
        "drawing": Markup(_svg(drawn)),  # noqa: S704 - names in it are escaped
        "layers": PageTable(
            says=f"Layers of {diagnosis.target}, the worst first",
            heads=[PageHead(text=one.title, style="left" if one.left else "") for one in COLUMNS],
            rows=[_layer(row) for row in ordered(diagnosis.layers, Order.EFFECT)],
        ),
    }


def _layer(row: LayerFigures) -> list[PageCell]:
    cells = (PageCell(text=column.cell(row), style="left" if column.left else "") for column in COLUMNS[1:])
    return [name(row.layer), *cells]


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
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        (
            f'<svg {size} role="img" aria-label="{escape(_says(rows))}">',
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


def _says(rows: Sequence[LayerFigures]) -> str:
    worst = max(rows, key=lambda row: row.alone_mean_kl or 0.0, default=None)
    return (
        f"{len(rows)} layers"
        + (f", the worst {worst.layer}" if worst else "")
        + "; the table has all figures"
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
        block = row.layer.partition("_")[0]
        x = _LEFT + step * number + step / 2 + 4
        if (number == 0 or rows[number - 1].layer.partition("_")[0] != block) and x >= free:
            turned = f"translate({x:.1f} {top}) rotate(-90)"
            yield f'<text transform="{turned}" text-anchor="end">{escape(block)}</text>'
            free = x + 12


def _axis(ticks: Sequence[tuple[float, str]], width: int, top: int) -> list[str]:
    lines = []
    for share, label in ticks:
        y = top + _HEIGHT * (1 - share)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return lines


def _bars(
    rows: Sequence[LayerFigures],
    value: Callable[[LayerFigures], float | None],
    kind: str,
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
            f'<rect class="{kind}" x="{_LEFT + step * number}" y="{top + _HEIGHT - tall:.1f}"'
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
