"""How figures are written, the same in every report for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgefx.metrics import MetricRow, Unit
from edgefx.vocabulary import ModelTask

if TYPE_CHECKING:
    from edgefx.types import ModelSpec, OutputSpec


def percent(share: float | None, digits: int = 2) -> str:
    """Write a fraction as a percentage: 0.9321 -> "93.21%"."""
    return "" if share is None else f"{100 * share:.{digits}f}%"


def signed(value: float | None, digits: int = 2) -> str:
    """Write a difference with its sign, and zero without one."""
    if value is None:
        return ""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(bounds: tuple[float, float] | None, digits: int = 2) -> str:
    """Write a confidence interval: "-0.30 to +1.10"."""
    return "" if bounds is None else f"{signed(bounds[0], digits)} to {signed(bounds[1], digits)}"


def size(number_of_bytes: float | None) -> str:
    """Write a size in units of powers of ten, as `--max-size` reads them."""
    if number_of_bytes is None:
        return ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number_of_bytes >= factor:
            return f"{significant(number_of_bytes / factor)} {unit}"
    return f"{number_of_bytes:.0f} B"


def count(number: float) -> str:
    """Write a large number: 4049564 -> "4.05 M"."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{significant(number / factor)} {unit}"
    return f"{number:.0f}"


def counted(number: int, what: str) -> str:
    """Write a number of things: "1 thread", "2 threads"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def ms(value: float | None) -> str:
    """Write milliseconds without the unit, to three significant digits."""
    return "" if value is None else significant(value)


def ratio(value: float | None) -> str:
    """Write a ratio: 0.4512 -> "0.45x"."""
    return "" if value is None else f"{value:.2f}x"


def metric(row: MetricRow, value: float | None) -> str:
    """Write a metric as a table does, whose heading names the unit."""
    if value is None:
        return ""
    write: dict[Unit, Callable[[float], str]] = {
        Unit.SHARE: lambda share: percent(share, row.digits),
        Unit.BYTES: size,
        Unit.RATIO: ratio,
        Unit.MILLISECONDS: ms,
        Unit.POINTS: lambda points: signed(points, row.digits),
        Unit.PERCENT: lambda part: signed(part, row.digits),
        Unit.NATS: lambda nats: f"{nats:.{row.digits}g}",
        Unit.NUMBER: lambda number: f"{number:.{row.digits}g}",
        Unit.PROBABILITY: lambda share: f"{share:.{row.digits}g}",
    }
    return write[row.unit](value) if row.unit in write else f"{value:.{row.digits}f}"


def seconds(value: float) -> str:
    """Write a duration."""
    if 60 <= value < math.inf:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s"
    return f"{value:.1f} s"


def significant(value: float, digits: int = 3) -> str:
    """Write a number to `digits` significant digits, without an exponent and without cutting whole digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    for _ in range(2):  # rounding may add a digit: 9.999 -> 10.0
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        value = round(value, places)
    return f"{value:.{places}f}"


def answers(model: ModelSpec | OutputSpec) -> str:
    """Say what a model or one of its outputs answers: "5 classes"."""
    from edgefx.types import ModelSpec

    if isinstance(model, ModelSpec) and model.outputs:
        each = ", ".join(f"{one.name} ({answers(one)})" for one in model.outputs)
        return f"{len(model.outputs)} outputs: {each}"
    number = model.classes
    plural = "" if number == 1 else "s"
    above = f", a yes above {model.threshold:g}" if model.threshold != 0.5 else ""
    return {
        ModelTask.CLASSIFICATION: f"{number} classes",
        ModelTask.BINARY: f"binary: one score for 2 classes{above}",
        ModelTask.MULTILABEL: f"multilabel: {number} labels{above}",
        ModelTask.REGRESSION: f"regression: {number} value{plural}",
        ModelTask.EMBEDDING: f"embedding: a vector of {number}",
        ModelTask.FEATURES: f"features: a map of {number} values",
    }[model.task]
