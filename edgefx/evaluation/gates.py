"""Judge gates: metric, limit, targets -> PASS, FAIL or INCONCLUSIVE. Standard library only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from edgefx.results import Accuracy, DropUnit, Gate, GateResult, Latency, MaxDrop, Metric, Verdict
from edgefx.types import Artifact

_NAMES = {
    Metric.DROP_PP: "top-1 drop",
    Metric.DROP_PERCENT: "top-1 drop relative to the baseline",
    Metric.P95_MS: "p95 latency",
    Metric.SIZE_BYTES: "size",
}


def judge(
    gates: Iterable[Gate],
    *,
    target: str,
    artifact: Artifact | None,
    accuracy: Accuracy | None,
    latency: Latency | None,
) -> tuple[GateResult, ...]:
    """Judge the gates that apply to `target`, in the order given.

    A limit is inclusive. A metric that was not measured makes its gate INCONCLUSIVE, which does not pass.

    Args:
        gates: All gates of the run; those whose globs do not match `target` give no result.
        target: The target's name.
        artifact: Its artifact, or None when there is none.
        accuracy: Its accuracy, or None when it was not evaluated.
        latency: Its latency, or None when it was not benchmarked.
    """
    return tuple(
        _judge_one(gate, artifact, accuracy, latency)
        for gate in gates
        if any(fnmatch.fnmatchcase(target, pattern) for pattern in gate.targets)
    )


def describe(metric: Metric, value: float) -> str:
    """Write a metric's value with its unit, precise enough to tell it from a limit it just missed."""
    if metric is Metric.DROP_PP:
        return f"{value:.4g} pp"
    if metric is Metric.DROP_PERCENT:
        return f"{value:.4g} %"
    if metric is Metric.P95_MS:
        return f"{value:.4g} ms"
    return f"{value / 1e6:.6g} MB"


def _judge_one(
    gate: Gate, artifact: Artifact | None, accuracy: Accuracy | None, latency: Latency | None
) -> GateResult:
    measured, why_not = _measure(gate, artifact, accuracy, latency)
    if measured is None:
        return GateResult(gate=gate, measured=None, verdict=Verdict.INCONCLUSIVE, reason=why_not)
    passed = measured <= gate.limit
    name = _NAMES[gate.metric]
    is_at, at_most = describe(gate.metric, measured), describe(gate.metric, gate.limit)
    if not passed and is_at == at_most:  # rounding must not make a failure look like a pass
        is_at, at_most = f"{measured!r}", f"{gate.limit!r}"
    reason = f"{name} {is_at}, limit {at_most}"
    if passed:
        return GateResult(gate=gate, measured=measured, verdict=Verdict.PASS, reason=reason)
    over = describe(gate.metric, measured - gate.limit)
    return GateResult(gate=gate, measured=measured, verdict=Verdict.FAIL, reason=f"{reason}: {over} over")


def _measure(
    gate: Gate, artifact: Artifact | None, accuracy: Accuracy | None, latency: Latency | None
) -> tuple[float | None, str]:
    """Return the metric's value, or None and the reason why there is none."""
    if artifact is None:
        return None, "there is no artifact"
    if gate.metric is Metric.SIZE_BYTES:
        return float(artifact.size_bytes), ""
    if gate.metric is Metric.P95_MS:
        return (latency.p95_ms, "") if latency else (None, "latency was not measured")
    if accuracy is None:
        return None, "accuracy was not measured: no evaluation images"
    if accuracy.drop_pp is None:
        return None, "the evaluation images have no labels, so there is no top-1"
    unit = DropUnit.PP if gate.metric is Metric.DROP_PP else DropUnit.PERCENT
    measured = MaxDrop(value=gate.limit, unit=unit).measured(accuracy)
    return measured, "" if measured is not None else "the baseline is never right: nothing is relative to it"
