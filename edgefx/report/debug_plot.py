"""The plot of `edgefx debug`: one HTML page with an SVG per target that loads nothing from elsewhere.

Layers run from left to right as they are computed. Above, what quantizing each alone does (mean KL, on a log
scale); below, the SQNR of its output in the artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from edgefx.analysis.diagnosis import DebugReport, Diagnosis, LayerFigures
from edgefx.errors import OutputError, UsageError
from edgefx.harmless import html_text as escape
from edgefx.report.text import percent
from edgefx.storage.atomic import write_text

_HEIGHT = 180  # of one panel, pixels
_LEFT, _TOP, _GAP = 64, 24, 30
_DECADES = 6  # of KL below the worst layer
_NAMED = 5  # worst layers with their name in the plot
_MOST_DB = 60.0
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
svg { display: block; margin: 1em 0; max-width: 100%; height: auto }
.bad { color: #b3261e } .good { color: #1b6e3c }
text { font: 11px system-ui, sans-serif; fill: #444 }
line { stroke: #ddd } .kl { fill: #b3261e } .db { fill: #3465a4 }
rect:hover { fill: #000 }
"""


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
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{report.images} images;"
        f" {escape(report.created)}</p>\n{body}</body></html>\n"
    )


def _target(diagnosis: Diagnosis) -> str:
    place = {name: number for number, name in enumerate(diagnosis.graph)}
    rows = sorted(diagnosis.layers, key=lambda row: place[row.layer])
    tone = "good" if diagnosis.broken == "nothing" else "bad"
    return (
        f"<h2>{escape(diagnosis.target)}</h2>\n<p class={tone}>{escape(diagnosis.verdict)}</p>\n"
        f"{_svg(rows)}\n"
    )


def _svg(rows: Sequence[LayerFigures]) -> str:
    step = max(4, min(16, 1400 // max(1, len(rows))))
    width = _LEFT + step * len(rows) + 20
    height = _TOP + 2 * _HEIGHT + _GAP + 10
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
    named = sorted(rows, key=lambda row: -(row.alone_mean_kl or 0.0))[:_NAMED]
    return "\n".join(
        (
            f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f'<text x="0" y="{_TOP - 8}">mean KL with the layer alone quantized (nats)</text>',
            *_axis(decades, width, _TOP),
            *_bars(rows, effect, "kl", step, _TOP),
            *(
                f'<text x="{_LEFT + step * rows.index(row) + step}" y="{_TOP + 12 + 12 * number}">'
                f"{escape(row.layer)}</text>"
                for number, row in enumerate(named)
                if row.alone_mean_kl
            ),
            f'<text x="0" y="{second - 8}">SQNR of the layer\'s output (dB)</text>',
            *_axis(decibels, width, second),
            *_bars(rows, quality, "db", step, second),
            "</svg>",
        )
    )


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
