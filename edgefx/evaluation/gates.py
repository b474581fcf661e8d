"""Judge gates: metric, limit, targets -> PASS, FAIL or INCONCLUSIVE. Standard library only.

A metric with a 95 % interval passes where all of the interval keeps the limit, and fails where the figure
itself does not. Between the two there are too few images to tell, which is INCONCLUSIVE.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable
from dataclasses import replace

from edgefx.evaluation.statistics import (
    drop_score,
    images_for_drop,
    images_for_share,
    paired_drop_ci,
    wilson_ci,
)
from edgefx.measured import Accuracy
from edgefx.metrics import METRICS, Figures, MetricRow, Origin, Unit
from edgefx.verdicts import Gate, GateResult, Verdict

_NOT_MEASURED = {
    Origin.ARTIFACT: "there is no artifact",
    Origin.ACCURACY: "accuracy was not measured: no evaluation images",
    Origin.LATENCY: "latency was not measured",
    Origin.NPU: "it was not compiled for an NPU",
    Origin.MCU: "it is not for a microcontroller",
}


def judge(
    gates: Iterable[Gate], figures: Figures, *, target: str, device: str = ""
) -> tuple[GateResult, ...]:
    """Judge the gates that apply to `target`, in the order given.

    A limit is inclusive. A metric that was not measured makes its gate INCONCLUSIVE, which does not pass; so
    does a 95 % interval that reaches beyond the limit.

    Args:
        gates: All gates of the run; those whose globs do not match `target` give no result.
        figures: What was measured of the target.
        target: The target's name.
        device: Where the figures were measured; "" is this machine.
    """
    return tuple(
        _judge_one(gate, figures)
        for gate in gates
        if any(fnmatch.fnmatchcase(target, pattern) for pattern in gate.targets)
        and (device in gate.devices if gate.devices else not device)
    )


def describe(row: MetricRow, value: float) -> str:
    """Write a metric's value with its unit, precise enough to tell it from a limit it just missed."""
    if row.unit is Unit.SHARE:
        return f"{100 * value:.6g} %"
    if row.unit is Unit.BYTES:
        factor, unit = next(((f, u) for f, u in ((1e6, "MB"), (1e3, "kB")) if value >= f), (1.0, "B"))
        return f"{value / factor:.6g} {unit}"
    if row.unit is Unit.RATIO:
        return f"{value:.4g}x"
    unit = "" if row.unit in (Unit.COUNT, Unit.NUMBER, Unit.PROBABILITY) else f" {row.unit}"
    return f"{value:.4g}{unit}"


def limit_text(gate: Gate) -> str:
    """Write a gate as a condition: "top-1 drop <= 1 pp"."""
    row = METRICS[gate.metric]
    return f"{called(gate)} {'<=' if row.better == 'less' else '>='} {describe(row, gate.limit)}"


def called(gate: Gate) -> str:
    """Return the name of what a gate limits: "top-1 drop", or "mean absolute error of quality"."""
    row = METRICS[gate.metric]
    return f"{row.name} of {gate.output}" if gate.output else row.name


def _judge_one(gate: Gate, figures: Figures) -> GateResult:
    row = METRICS[gate.metric]
    figures = figures.of_output(gate.output)
    measured = row.value(figures)
    if measured is None or figures.size_bytes is None:
        return GateResult(
            gate=gate, measured=None, verdict=Verdict.INCONCLUSIVE, reason=_why_absent(row, figures)
        )
    is_less = row.better == "less"
    is_at, limit = describe(row, measured), describe(row, gate.limit)
    passed = row.within(measured, gate.limit)
    if not passed and is_at == limit:  # rounding must not make a failure look like a pass
        is_at, limit = f"{measured!r}", f"{gate.limit!r}"
    reason = f"{called(gate)} {is_at}{_sample(row, figures)}, {'limit' if is_less else 'at least'} {limit}"
    result = GateResult(
        gate=gate,
        measured=measured,
        verdict=Verdict.PASS,
        reason=reason,
        interval=row.interval(figures) if row.interval else None,
        p_value=_p_value(gate, figures) if row.interval else None,
    )
    if not passed:
        off = f"{describe(row, abs(measured - gate.limit))} {'over' if is_less else 'short'}"
        return replace(result, verdict=Verdict.FAIL, reason=f"{reason}: {off}")
    return result if result.interval is None else _proven(result, row, figures)


def _proven(result: GateResult, row: MetricRow, figures: Figures) -> GateResult:
    """Make a gate INCONCLUSIVE whose figure keeps the limit, but not all of its interval."""
    assert result.interval is not None
    end = result.interval[1 if row.better == "less" else 0]
    limit = result.gate.limit
    if row.within(end, limit):
        return result
    needed = images_needed(result.gate, figures)
    reaches = describe(row, end) if describe(row, end) != describe(row, limit) else f"{end!r}"
    return replace(
        result,
        verdict=Verdict.INCONCLUSIVE,
        by_interval=True,
        images_needed=needed,
        reason=f"{result.reason}; its 95 % interval reaches {reaches}: {_wanted(needed)}",
    )


def _p_value(gate: Gate, figures: Figures) -> float | None:
    """Return how often a figure at least this good comes about where the truth is just the limit."""
    row, accuracy = METRICS[gate.metric], figures.accuracy
    measured = row.value(figures)
    if accuracy is None or measured is None:
        return None
    if row.unit is Unit.SHARE:
        spread = math.sqrt(gate.limit * (1 - gate.limit) / accuracy.images)
        if spread == 0:
            return float(gate.limit > 0)  # nothing is below 0, and nothing shows that all is right
        return _normal((gate.limit - measured) / spread)
    lost, gained, limit_pp = counts(gate, accuracy)
    if lost is None or gained is None:
        return None
    return _normal(drop_score(lost, gained, accuracy.images, limit_pp=limit_pp))


def _normal(score: float) -> float:
    """Return the share of a normal distribution below a score."""
    return math.erfc(-score / math.sqrt(2)) / 2


def counts(gate: Gate, accuracy: Accuracy) -> tuple[int | None, int | None, float]:
    """Return the images lost and gained that a gate on a drop stands on, and its limit in points."""
    if gate.metric == "drop_top5_pp":
        return accuracy.lost_top5, accuracy.gained_top5, gate.limit
    if METRICS[gate.metric].unit is Unit.PERCENT:
        return accuracy.lost, accuracy.gained, gate.limit * (accuracy.baseline_top1 or 0.0)
    return accuracy.lost, accuracy.gained, gate.limit


def images_needed(gate: Gate, figures: Figures) -> int | None:
    """Return from how many images on a gate would pass, if they turn out like those measured.

    Args:
        gate: A limit on a metric with an interval.
        figures: What was measured.

    Returns:
        The number; None where that is not known, or none would do.
    """
    row, accuracy = METRICS[gate.metric], figures.accuracy
    measured = row.value(figures)
    if accuracy is None or measured is None:
        return None
    if row.unit is Unit.SHARE:
        return images_for_share(measured, least=gate.limit)
    lost, gained, limit = counts(gate, accuracy)
    if lost is None or gained is None:
        return None
    return images_for_drop(lost, gained, accuracy.images, limit_pp=limit)


def foreseen(gate: Gate, images: int) -> str:
    """Say what a gate can come to on some images at best, before anything is measured.

    Args:
        gate: A limit.
        images: The number of evaluation images.

    Returns:
        A sentence; "" where the metric has no interval, or where the images can show that it keeps the limit.
    """
    row = METRICS[gate.metric]
    if row.interval is None or row.origin is not Origin.ACCURACY or images < 1:
        return ""
    if row.unit is Unit.SHARE:
        best, fewest = wilson_ci(images, images)[0], images_for_share(1.0, least=gate.limit)
        ideal = "if no answer changes" if gate.metric == "agreement" else "if all answers are right"
    else:  # a drop in percent of the baseline's top-1 is no smaller than one in points
        best, fewest = paired_drop_ci(0, 0, images)[1], images_for_drop(0, 0, images, limit_pp=gate.limit)
        ideal = "if no answer changes"
    if row.within(best, gate.limit):
        return ""
    takes = f"that takes at least {_about(fewest)} images" if fewest else "no number of images could"
    return (
        f"{limit_text(gate)} cannot be shown with {images} evaluation image{'s' if images > 1 else ''}: even"
        f" {ideal}, the 95 % interval reaches {describe(row, best)}; {takes}"
    )


def _wanted(images: int | None) -> str:
    if images is None:
        return "it takes more images to tell"
    return f"about {_about(images)} images would settle it, if they turn out alike"


def _about(images: int) -> str:
    """Write a number of images to two significant digits, rounded up."""
    step = 10 ** max(0, len(str(images)) - 2)
    return f"{-(-images // step) * step:,}"


def _sample(row: MetricRow, figures: Figures) -> str:
    """Say that a metric is that of a sample."""
    accuracy = figures.accuracy
    if row.origin is not Origin.ACCURACY or accuracy is None or accuracy.sampled_of is None:
        return ""
    return f" on {accuracy.images} of {accuracy.sampled_of} images"


def _why_absent(row: MetricRow, figures: Figures) -> str:
    there = {
        Origin.ARTIFACT: figures.size_bytes,
        Origin.ACCURACY: figures.accuracy,
        Origin.LATENCY: figures.latency,
        Origin.NPU: figures.compilation and figures.compilation.estimate,
        Origin.MCU: figures.compilation and figures.compilation.arena,
    }
    if there[Origin.ARTIFACT] is None:
        return _NOT_MEASURED[Origin.ARTIFACT]
    return _NOT_MEASURED[row.origin] if there[row.origin] is None else row.absent
