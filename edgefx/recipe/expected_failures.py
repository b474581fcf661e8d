"""Gates that are expected to fail, for a reason and until a day. Standard library only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgefx.verdicts import Gate, GateResult, Verdict


@dataclass(frozen=True, kw_only=True)
class ExpectedFailure:
    """A gate that need not pass for some time.

    Attributes:
        metric: What the gate limits, by its id in `edgefx.metrics`.
        targets: Names and globs of targets.
        devices: The devices that it is for; none where it is for what this machine measures.
        output: The one of several outputs.
        until: The last day, ISO 8601.
        reason: Why.
    """

    metric: str
    targets: tuple[str, ...]
    until: str
    reason: str
    devices: tuple[str, ...] = ()
    output: str = ""

    def concerns(self, gate: Gate, *, target: str, device: str) -> bool:
        """Whether it is about a gate of a target.

        Args:
            gate: The gate.
            target: The target's name.
            device: Where its figures were measured; "" is this machine.
        """
        return (
            (gate.metric, gate.output) == (self.metric, self.output)
            and any(fnmatch.fnmatchcase(target, pattern) for pattern in self.targets)
            and (device in self.devices if self.devices else not device)
        )


def excused(
    results: Iterable[GateResult],
    expected: Sequence[ExpectedFailure],
    *,
    target: str,
    device: str = "",
    today: str,
) -> tuple[GateResult, ...]:
    """Let gates that are expected to fail not fail the run, and say so.

    What could not be judged at all is not excused: nobody expected that.

    Args:
        results: As judged.
        expected: What is expected.
        target: The target's name.
        device: Where its figures were measured; "" is this machine.
        today: ISO 8601.
    """
    return tuple(
        next(
            (
                _excused(result, one, today)
                for one in expected
                if one.concerns(result.gate, target=target, device=device)
            ),
            result,
        )
        for result in results
    )


def _excused(result: GateResult, one: ExpectedFailure, today: str) -> GateResult:
    if result.verdict is Verdict.PASS:
        return replace(
            result, reason=f"{result.reason}; it was expected to fail, which can be taken back: {one.reason}"
        )
    if result.verdict is Verdict.INCONCLUSIVE and not result.by_interval:
        return result
    if today > one.until:
        said = f"it was expected until {one.until}, which is past: {one.reason}"
        return replace(result, reason=f"{result.reason}; {said}")
    return replace(
        result, tolerated=True, reason=f"{result.reason}; expected until {one.until}: {one.reason}"
    )
