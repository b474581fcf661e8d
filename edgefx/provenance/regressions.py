"""Limits on what got worse between two runs (`edgefx diff --fail-on`). Standard library only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edgefx.errors import UnknownNameError, UsageError
from edgefx.metrics import METRICS, MetricRow, Origin, Unit
from edgefx.provenance.comparison import Regression, RunDiff, TargetDiff
from edgefx.units import parse_size
from edgefx.verdicts import Verdict

_FORM = re.compile(r"\s*([A-Za-z0-9_.\-]+)\s*=\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)\s*")
_EXAMPLES = "drop_pp=0.5pp, size_bytes=5% or p95_ms=10%"
_PAIRED = ("drop_pp", "top1")  # what the same images say of both runs
_ABSOLUTE = {  # how a change is written that is no share of what was before, and what it is counted in
    Unit.POINTS: {"pp": 1.0},
    Unit.PERCENT: {"pp": 1.0},
    Unit.SHARE: {"pp": 0.01},
    Unit.MILLISECONDS: {"ms": 1.0},
    Unit.MEGABYTES: {"MB": 1.0},
    Unit.RATIO: {"x": 1.0, "": 1.0},
    Unit.NATS: {"": 1.0},
    Unit.PROBABILITY: {"": 1.0},
    Unit.COUNT: {"": 1.0},
    Unit.NUMBER: {"": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How much worse a metric may get.

    Attributes:
        metric: Its id, behind the output's name and a point for one of several outputs.
        most: In the metric's unit; or, if `relative`, a share of what was before.
        relative: Whether it is a share.
        text: As it was given.
    """

    metric: str
    most: float
    relative: bool
    text: str


def parse(text: str) -> Tolerance:
    """Read ``METRIC=CHANGE``: how much worse a metric may get.

    Raises:
        UsageError: It is of another form, or the unit is none of the metric's.
        UnknownNameError: There is no such metric.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--fail-on {text}: this is not METRIC=CHANGE",
            hint=f"for example {_EXAMPLES}: the metric, and by how much it may get worse",
        )
    name, number, unit = match.groups()
    row = _row(name)
    if row is None:
        raise UnknownNameError("metric", name, METRICS, hint="(the fields of edgefx diff --json)")
    most = float(number)
    if not math.isfinite(most):
        raise UsageError(f"--fail-on {text}: {number} is too large", hint=f"for example {_EXAMPLES}")
    if unit == "%":
        return Tolerance(metric=name, most=most / 100, relative=True, text=text.strip())
    if row.unit is Unit.BYTES and unit:
        return Tolerance(
            metric=name, most=parse_size(number + unit, option="--fail-on"), relative=False, text=text.strip()
        )
    units = _ABSOLUTE.get(row.unit, {})
    if unit not in units:
        written = ("kB", "MB") if row.unit is Unit.BYTES else filter(None, units)
        known = " or ".join((*written, "%"))
        what = f"'{unit}' is no unit of it" if unit else "the unit is missing"
        raise UsageError(
            f"--fail-on {text}: {what}", hint=f"give {known}; % is of what {name} was in the first run"
        )
    return Tolerance(metric=name, most=most * units[unit], relative=False, text=text.strip())


def _row(name: str) -> MetricRow | None:
    """Return the metric of a name, which may be that of one of several outputs: ``quality.mae``."""
    output, _, metric = name.rpartition(".")
    row = METRICS.get(metric)
    return None if row is None or (output and row.origin is not Origin.ACCURACY) else row


def judge(
    diff: RunDiff, tolerances: Iterable[Tolerance], *, tolerated: bool = False
) -> tuple[Regression, ...]:
    """Hold the targets of the first run against tolerances.

    A drop is judged on the images that both runs share, pair by pair: it fails where it exceeds the tolerance
    and its 95 % interval excludes no change.

    Args:
        diff: Two runs.
        tolerances: How much worse what may get.
        tolerated: Whether what cannot be told does not fail the command.
    """
    return tuple(
        Regression(
            target=target.target,
            metric=one.metric,
            limit=one.text,
            verdict=verdict,
            reason=reason,
            tolerated=tolerated and verdict is Verdict.INCONCLUSIVE,
        )
        for target in diff.targets
        if target.before is not None
        for one in tolerances
        for verdict, reason in _judged(target, one)
    )


def _judged(target: TargetDiff, one: Tolerance) -> Iterator[tuple[Verdict, str]]:
    row, flips = _row(one.metric), target.flips
    assert row is not None, "from `parse`"
    if target.before is None or target.after is None:
        yield Verdict.INCONCLUSIVE, "the second run has no such target"
        return
    if one.metric in _PAIRED and not one.relative and flips is not None and flips.drop_ci95_pp is not None:
        assert flips.drop_pp is not None
        most = one.most * (100 if row.unit is Unit.SHARE else 1)
        low, high = flips.drop_ci95_pp
        moved = f"rose by {-flips.drop_pp:.2f}" if flips.drop_pp < 0 else f"fell by {flips.drop_pp:.2f}"
        text = f"top-1 {moved} pp on {flips.images} images (95 % CI of the fall {low:.2f} to {high:.2f})"
        if flips.drop_pp <= most:
            yield Verdict.PASS, text
        elif low > 0:
            yield Verdict.FAIL, text
        else:
            yield Verdict.INCONCLUSIVE, f"{text}, which may be chance"
        return
    before, after = target.before.get(one.metric), target.after.get(one.metric)
    if before is None or after is None:
        yield Verdict.INCONCLUSIVE, "one of the runs has not measured it"
        return
    worse = after - before if row.better == "less" else before - after
    allowed = one.most * abs(before) if one.relative else one.most
    verdict = Verdict.PASS if worse <= allowed else Verdict.FAIL
    yield verdict, f"{_written(row, before)} -> {_written(row, after)}"


def _written(row: MetricRow, value: float) -> str:
    if row.unit is Unit.SHARE:
        return f"{100 * value:.2f} %"
    if row.unit is Unit.NUMBER:
        return f"{value:.4g}"
    return f"{value:.0f} B" if row.unit is Unit.BYTES else f"{value:.4g} {row.unit}"
