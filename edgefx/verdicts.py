"""What gates are, and what becomes of them; apart from other results, so that `edgefx gate` starts fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from edgefx.vocabulary import SPARSE


class Verdict(StrEnum):
    """A gate's result.

    INCONCLUSIVE: the metric was not measured, its value proves nothing, or it keeps the limit but its 95 %
    interval does not; no pass.
    """

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A limit on a metric, for the targets that match.

    Attributes:
        metric: Which one, by its id in `edgefx.metrics`.
        limit: In the metric's unit; an upper limit where less is better, else a lower one. It is inclusive.
        targets: Names and globs.
        devices: The devices that it is for; none where it is for what this machine measures.
        output: The one of several outputs that it is for; "" for the output that the model is described by.
    """

    metric: str
    limit: float
    targets: tuple[str, ...] = ("*",)
    devices: tuple[str, ...] = ()
    output: str = field(default="", metadata=SPARSE)

    @property
    def name(self) -> str:
        """The metric, behind its output."""
        return f"{self.output}.{self.metric}" if self.output else self.metric


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate judged on one target.

    Attributes:
        gate: The limit.
        measured: The metric; None where it was not measured.
        verdict: What became of it.
        reason: Why, with figures.
        tolerated: Whether it does not fail the run though it is INCONCLUSIVE, or fails as it was expected to.
        interval: The metric's 95 % confidence interval, low then high; None where it has none.
        by_interval: Whether it is INCONCLUSIVE only because that interval reaches beyond the limit.
        p_value: The share of samples in which a figure is at least this good although the truth is just the
            limit; None where there is no interval.
        images_needed: Evaluation images from which on the interval would keep the limit, if answers change
            as often; None where it does anyway, or no number would do.
    """

    gate: Gate
    measured: float | None
    verdict: Verdict
    reason: str
    tolerated: bool = False
    interval: tuple[float, float] | None = None
    by_interval: bool = False
    p_value: float | None = None
    images_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class JointVerdict:
    """All gates on accuracy judged together; see `edgefx.evaluation.joint`. No exit code depends on it.

    Attributes:
        verdict: PASS only where every gate passes after the correction; FAIL where one failed.
        gates: How many gates were judged together.
        error: The family-wise error: the share of samples in which any gate passes that should not.
        unproven: Targets with a gate that does not pass after the correction.
        reason: The same in words.
    """

    verdict: Verdict
    gates: int
    error: float
    unproven: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Why an accuracy drop does not mean what it seems to, so that no gate on it can be judged.

    Attributes:
        name: What it is about.
        reason: What was seen.
        advice: What to do.
    """

    name: str
    reason: str
    advice: str


def on_device(target: str, device: str) -> str:
    """Name what a target's artifact does on a device: ``tflite-int8@pi5``; "" is this machine."""
    return f"{target}@{device}" if device else target
