"""Judge gates: metric, limit, targets -> PASS, FAIL or INCONCLUSIVE. Standard library only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from edgefx.metrics import METRICS, Figures, MetricRow, Origin, Unit
from edgefx.results import Gate, GateResult, Verdict

_NOT_MEASURED = {
    Origin.ARTIFACT: "there is no artifact",
    Origin.ACCURACY: "accuracy was not measured: no evaluation images",
    Origin.LATENCY: "latency was not measured",
}


def judge(gates: Iterable[Gate], figures: Figures, *, target: str) -> tuple[GateResult, ...]:
    """Judge the gates that apply to `target`, in the order given.

    A limit is inclusive. A metric that was not measured makes its gate INCONCLUSIVE, which does not pass.

    Args:
        gates: All gates of the run; those whose globs do not match `target` give no result.
        figures: What was measured of the target.
        target: The target's name.
    """
    return tuple(
        _judge_one(gate, figures)
        for gate in gates
        if any(fnmatch.fnmatchcase(target, pattern) for pattern in gate.targets)
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
    unit = "" if row.unit in (Unit.COUNT, Unit.PROBABILITY) else f" {row.unit}"
    return f"{value:.4g}{unit}"


def limit_text(gate: Gate) -> str:
    """Write a gate as a condition: "top-1 drop <= 1 pp"."""
    row = METRICS[gate.metric]
    return f"{row.name} {'<=' if row.better == 'less' else '>='} {describe(row, gate.limit)}"


def _judge_one(gate: Gate, figures: Figures) -> GateResult:
    row = METRICS[gate.metric]
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
    reason = f"{row.name} {is_at}{_sample(row, figures)}, {'limit' if is_less else 'at least'} {limit}"
    if passed:
        return GateResult(gate=gate, measured=measured, verdict=Verdict.PASS, reason=reason)
    off = f"{describe(row, abs(measured - gate.limit))} {'over' if is_less else 'short'}"
    return GateResult(gate=gate, measured=measured, verdict=Verdict.FAIL, reason=f"{reason}: {off}")


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
    }
    if there[Origin.ARTIFACT] is None:
        return _NOT_MEASURED[Origin.ARTIFACT]
    return _NOT_MEASURED[row.origin] if there[row.origin] is None else row.absent
