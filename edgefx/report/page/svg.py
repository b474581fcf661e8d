"""Small SVG drawings whose horizontal places are percentages, so that they fit a page of any width.

Text keeps its size and marks their shape, whatever the width. `Markup.format` escapes whatever it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgefx.harmless import visible
from edgefx.latency_histogram import LatencyHistogram
from edgefx.report.text import significant

_TICKS = 5  # about as many
_RIDGE = 24  # pixels that a distribution is high
_RIDGE_BINS = 32
_MARKS = {  # by runtime: told apart by shape as well as by colour
    "tflite": '<circle class="{classes}" r="{r}"/>',
    "onnx": '<rect class="{classes}" x="-{r}" y="-{r}" width="{d}" height="{d}"/>',
    "openvino": '<path class="{classes}" d="M0-{t}L{t} 0L0 {t}L-{t} 0Z"/>',
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What a horizontal or vertical place means.

    Attributes:
        low: The value at 0 %.
        high: The value at 100 %.
        log: Whether equal distances are equal ratios; `low` is positive then.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool = False, margin: float = 0.08) -> Axis:
        """Return an axis on which all values have room."""
        found = [math.log(value) if log else value for value in values if not log or value > 0]
        low, high = min(found), max(found)
        gap = margin * (high - low) or (0.5 if log else max(0.5, abs(high) * 0.01))
        low, high = low - gap, high + gap
        return cls(low=math.exp(low), high=math.exp(high), log=True) if log else cls(low=low, high=high)

    def place(self, value: float) -> float:
        """Return a value's place in percent, inside the drawing."""
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(100.0, max(0.0, 100 * (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Return round values on the axis."""
        return list(_log_ticks(self.low, self.high)) if self.log else list(_ticks(self.low, self.high))


def _ticks(low: float, high: float) -> Iterator[float]:
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one for one in (power, 2 * power, 5 * power, 10 * power) if one >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    yield from (number * step for number in range(first, last + 1))


def _log_ticks(low: float, high: float) -> Iterator[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [10.0**power * digit for power in decades for digit in (1, 2, 5)]
    inside = [value for value in values if low <= value <= high]
    if len(inside) > 2 * _TICKS:
        inside = [value for value in inside if math.log10(value).is_integer()]
    if len(inside) < 2:  # less than a decade: round values do
        inside = list(_ticks(low, high))
    yield from inside


def fill(template: str, *args: object, **named: object) -> Markup:
    """Put values into SVG: they are escaped, and what a viewer would act on is shown as a sign."""
    values = [visible(one) if type(one) is str else one for one in args]
    by_name = {key: visible(one) if type(one) is str else one for key, one in named.items()}
    return Markup(template).format(*values, **by_name)  # noqa: S704 - a template of this package


def scale(axis: Axis, unit: str) -> Markup:
    """Return the ticks' labels, for the heading of a column of tracks."""
    ticks = axis.ticks()
    labels = Markup().join(
        fill(
            '<text x="{:.2f}%" y="12" text-anchor="middle"{}>{}</text>',
            axis.place(value),
            Markup(' class="only-wide"') if number % 2 and len(ticks) > 3 else "",
            label(value),
        )
        for number, value in enumerate(ticks)
    )
    return fill(
        '<svg width="100%" height="16" role="img" aria-label="{}">{}</svg>',
        f"Scale from {label(axis.low)} to {label(axis.high)} {unit}",
        labels,
    )


def label(value: float) -> str:
    """Write a tick's value."""
    text = significant(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text


def track(
    axis: Axis,
    *,
    says: str,
    runtime: str,
    point: float | None = None,
    span: tuple[float, float] | None = None,
    thick: tuple[float, float] | None = None,
    limits: Sequence[float] = (),
    zero: float | None = None,
    ridge: LatencyHistogram | None = None,
) -> Markup:
    """Return one row of a plot: a mark, a thin line for an interval, a thick one for a narrower one.

    Args:
        axis: What places mean.
        says: The same in words.
        runtime: Decides colour and shape.
        point: Where the mark is.
        span: From where to where the thin line goes.
        thick: Likewise, the thick one.
        limits: Where a limit is drawn.
        zero: Where a line is drawn to compare with.
        ridge: What is drawn above the lines, each bin as high as it is full for its width.
    """
    above = 0 if ridge is None else _RIDGE
    parts = [_vertical("grid", axis.place(value)) for value in axis.ticks()]
    if ridge is not None:
        parts.append(_ridge(axis, ridge))
    if zero is not None:
        parts.append(_vertical("zero", axis.place(zero)))
    parts += [_vertical("limit", axis.place(value)) for value in limits]
    for name, ends in (("thick", thick), ("span", span)):
        if ends is not None:
            parts.append(
                fill(
                    '<line class="{0}" x1="{2:.2f}%" x2="{3:.2f}%" y1="{1}" y2="{1}"/>',
                    name,
                    13 + above,
                    *map(axis.place, ends),
                )
            )
    if point is not None:
        parts.append(mark(runtime, f"{axis.place(point):.2f}%", str(13 + above), radius=5))
    return fill(
        '<svg class="{}" width="100%" height="{}" role="img" aria-label="{}">{}</svg>',
        runtime,
        26 + above,
        says,
        Markup().join(parts),
    )


def mark(runtime: str, x: str, y: str, *, radius: float, beaten: bool = False, title: str = "") -> Markup:
    """Return a mark, of its runtime's shape.

    Args:
        runtime: Decides the shape.
        x: Its place, as SVG writes lengths.
        y: Likewise.
        radius: In pixels.
        beaten: Whether it is hollow.
        title: What a pointer that rests on it is told.
    """
    shape = Markup(_MARKS.get(runtime, _MARKS["tflite"])).format(  # noqa: S704 - of this module
        classes="mark beaten" if beaten else "mark",
        r=f"{radius:.1f}",
        d=f"{2 * radius:.1f}",
        t=f"{radius * 1.35:.1f}",
    )
    told = fill("<title>{}</title>", title) if title else Markup()
    return fill('<svg x="{}" y="{}" class="{}">{}{}</svg>', x, y, runtime, told, shape)


def _ridge(axis: Axis, found: LatencyHistogram) -> Markup:
    """Return a histogram as an outline of steps; what is stretched to the width is its own drawing."""
    bins = list(found.coarser(_RIDGE_BINS))
    top = max(count for *_, count in bins)
    steps = [f"M{axis.place(bins[0][0]):.2f} {_RIDGE}"]
    for _, end, count in bins:
        steps.append(f"V{_RIDGE * (1 - 0.95 * count / top):.1f}H{axis.place(end):.2f}")
    return fill(
        '<svg width="100%" height="{0}" viewBox="0 0 100 {0}" preserveAspectRatio="none">'
        '<path class="ridge" d="{1}V{0}Z"/></svg>',
        _RIDGE,
        "".join(steps),
    )


def _vertical(name: str, place: float) -> Markup:
    return fill('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="0" y2="100%"/>', name, place, place)
