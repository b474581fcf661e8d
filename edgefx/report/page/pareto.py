"""Accuracy, latency and size of all targets in one drawing: what each costs, and which no other beats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgefx.metrics import METRICS, Figures, MetricRow
from edgefx.report.page.svg import Axis, fill, label, mark
from edgefx.report.text import metric
from edgefx.results import RunReport

_HEIGHT = 340  # pixels
_WIDTH = 900  # of the drawing on a desktop, to keep names apart; it is as wide as the page in truth
_LINE = 15
_LETTER = 6.6
_RADII = (5.0, 15.0)  # of the smallest and the largest artifact


@dataclass(frozen=True, kw_only=True)
class Point:
    """One target in the drawing.

    Attributes:
        number: Its number in the table.
        target: Its name.
        x: Latency, else size.
        y: Accuracy, else agreement.
        size_bytes: Its size.
        beaten: Whether another one is at least as good in all of them and better in one.
        says: Its figures in words.
    """

    number: int
    target: str
    x: float
    y: float
    size_bytes: float
    beaten: bool
    says: str


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """The drawing.

    Attributes:
        drawing: SVG.
        says: Its caption.
    """

    drawing: Markup
    says: str


def pareto(report: RunReport) -> Pareto | None:
    """Draw the targets that have been measured; None with fewer than two."""
    figures = {result.target: Figures.of(result) for result in report if result.artifact}
    across = _first(("p50_ms", "size_bytes"), figures.values())
    up = _first(("top1", "agreement"), figures.values())
    if across is None or up is None:
        return None
    points = _points(report, figures, across, up)
    if len(points) < 2:
        return None
    by_size = " The larger a mark, the larger the artifact." if across.id != "size_bytes" else ""
    return Pareto(
        drawing=_drawing(points, across, report.baseline_top1 if up.id == "top1" else None),
        says=(
            f"Up is better ({up.name}), left is better ({across.name}, on a logarithmic scale).{by_size}"
            " Hollow marks are beaten: another target is at least as good in all of this and better in"
            " something. Differences of accuracy may be chance, see the intervals below."
        ),
    )


def _first(names: Sequence[str], figures: Collection[Figures]) -> MetricRow | None:
    """Return the first of some metrics that was measured."""
    rows = (METRICS[name] for name in names)
    return next((row for row in rows if any(row.value(one) is not None for one in figures)), None)


def _points(report: RunReport, figures: dict[str, Figures], across: MetricRow, up: MetricRow) -> list[Point]:
    places = {}
    for name, one in figures.items():
        x, y, size = across.value(one), up.value(one), float(one.size_bytes or 0)
        if x is not None and x > 0 and y is not None:
            places[name] = (x, y, size)
    numbers = {result.target: number for number, result in enumerate(report, 1)}
    return [
        Point(
            number=numbers[name],
            target=name,
            x=x,
            y=y,
            size_bytes=size,
            beaten=any(_beats(other, (x, y, size)) for other in places.values()),
            says=f"{name}: {up.name} {metric(up, y)}, {across.name} {metric(across, x)}, {size / 1e6:.3g} MB",
        )
        for name, (x, y, size) in places.items()
    ]


def _beats(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    at_least = one[0] <= other[0] and one[1] >= other[1] and one[2] <= other[2]
    return at_least and one != other


def _drawing(points: Sequence[Point], across: MetricRow, baseline: float | None) -> Markup:
    x_axis = Axis.around([point.x for point in points], log=True, margin=0.12)
    heights = [100 * point.y for point in points] + ([] if baseline is None else [100 * baseline])
    y_axis = Axis.around(heights, margin=0.15)
    parts = [*_grid(x_axis, y_axis, across)]
    if baseline is not None:
        y = _HEIGHT * (1 - y_axis.place(100 * baseline) / 100)
        parts.append(
            fill(
                '<line class="float" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>'
                '<text x="4" y="{1:.1f}">float model</text>',
                y,
                y - 5,
            )
        )
    largest = max(point.size_bytes for point in points) or 1.0
    names = []
    placed: list[tuple[float, float, float]] = []
    for point in sorted(points, key=lambda point: -point.size_bytes):
        low, high = _RADII
        radius = low + (high - low) * (point.size_bytes / largest) ** 0.5
        x, y = x_axis.place(point.x), _HEIGHT * (1 - y_axis.place(100 * point.y) / 100)
        runtime = point.target.partition("-")[0]
        parts.append(
            mark(runtime, f"{x:.2f}%", f"{y:.1f}", radius=radius, beaten=point.beaten, title=point.says)
        )
        names.append(_name(point, x, y, radius, placed))
    return fill(
        '<svg width="100%" height="{}" role="img" aria-label="{}">{}</svg>',
        _HEIGHT + 40,
        "; ".join(point.says for point in points),
        Markup().join((*parts, *names)),
    )


def _name(
    point: Point, x: float, y: float, radius: float, placed: list[tuple[float, float, float]]
) -> Markup:
    """Write a name beside its mark, where no other name is."""
    words = f"{point.number} {point.target}"
    wide = _LETTER * len(words)
    left = _WIDTH * x / 100 + radius + wide > _WIDTH
    start = _WIDTH * x / 100 - (_gap(radius) + wide if left else -_gap(radius))

    def free(at: float) -> bool:
        return all(
            abs(at - other) >= _LINE or start + wide < begin or start > end for begin, end, other in placed
        )

    steps = [sign * _LINE * number for number in range(12) for sign in (1, -1)]
    at = next((y + step for step in steps if 8 <= y + step <= _HEIGHT and free(y + step)), y)
    placed.append((start, start + wide, at))
    shift = -_gap(radius) if left else _gap(radius)
    lead = Markup()
    if abs(at - y) > 1:
        lead = fill('<line class="lead" x1="0" y1="0" x2="{:.1f}" y2="{:.1f}"/>', shift, at - y)
    return fill(
        '<svg x="{:.2f}%" y="{:.1f}">{}<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}'
        '<tspan class="only-wide"> {}</tspan></text></svg>',
        x,
        y,
        lead,
        shift,
        at - y + 4,
        "end" if left else "start",
        point.number,
        point.target,
    )


def _gap(radius: float) -> float:
    return 1.35 * radius + 4  # the widest mark is a square on its point


def _grid(x_axis: Axis, y_axis: Axis, across: MetricRow) -> list[Markup]:
    tick: Callable[[float], str] = (
        label if across.id != "size_bytes" else lambda value: f"{label(value / 1e6)} MB"
    )
    unit = " ms" if across.id == "p50_ms" else ""
    parts = [
        fill(
            '<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="{1}"/>'
            '<text x="{0:.2f}%" y="{2}" text-anchor="middle">{3}</text>',
            x_axis.place(value),
            _HEIGHT,
            _HEIGHT + 18,
            f"{tick(value)}{unit}",
        )
        for value in x_axis.ticks()
    ]
    for value in y_axis.ticks():
        y = _HEIGHT * (1 - y_axis.place(value) / 100)
        parts.append(
            fill(
                '<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>'
                '<text x="-6" y="{1:.1f}" text-anchor="end">{2} %</text>',
                y,
                y + 4,
                label(value),
            )
        )
    return parts
