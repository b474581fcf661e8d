"""Say whether a lock file's run gave the same when it was run again (`edgefx.pipeline.reproduce`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edgefx.errors import ExitCode
from edgefx.metrics import METRICS
from edgefx.provenance.comparison import Change, input_changes, same_content
from edgefx.provenance.lock import Lock, LockedTarget


class Outcome(StrEnum):
    """How much of a target's result was reproduced."""

    IDENTICAL = "identical bytes"
    SAME_CONTENT = "identical but for metadata"
    SAME_METRICS = "same metrics"
    DIFFERENT = "different"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class ReproducedTarget:
    """One target, run again.

    Attributes:
        target: Its name.
        outcome: How much is the same.
        differences: What is not: "top1: 0.9946 -> 0.9932".
    """

    target: str
    outcome: Outcome
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The outcome of `edgefx reproduce`.

    Attributes:
        lock: The lock file.
        created: When its run was.
        output: Where the new run's results are.
        changes: Inputs that are not what they were.
        targets: In the lock file's order.
    """

    lock: Path
    created: str
    output: Path
    changes: tuple[Change, ...]
    targets: tuple[ReproducedTarget, ...]

    @property
    def exit_code(self) -> ExitCode:
        """Success when every artifact is identical or at least measures the same."""
        outcomes = {target.outcome for target in self.targets}
        if Outcome.FAILED in outcomes:
            return ExitCode.STAGE_FAILED
        return ExitCode.GATE_FAILED if Outcome.DIFFERENT in outcomes else ExitCode.OK


def compare(before: Lock, after: Lock, *, path: Path, output: Path) -> Reproduction:
    """Compare the results of a run with those of its lock file."""
    ignored = {"benchmark", "gates", "targets"}  # left out on purpose; the targets are compared one by one
    changes = tuple(
        change
        for change in input_changes(before, after)
        if change.kind != "recipe" or change.name.partition(".")[0].partition("[")[0] not in ignored
    )
    return Reproduction(
        lock=path,
        created=before.created,
        output=output,
        changes=changes,
        targets=tuple(_compared(target, after.target(target.target)) for target in before.targets),
    )


def _compared(before: LockedTarget, after: LockedTarget | None) -> ReproducedTarget:
    if after is None or not after.files:
        outcome = Outcome.FAILED if before.files else Outcome.IDENTICAL  # it failed in both runs
        return ReproducedTarget(target=before.target, outcome=outcome)
    if same_content(before, after):
        metrics = _metric_differences(before, after)
        if not metrics:
            same = [file.sha256 for file in before.files] == [file.sha256 for file in after.files]
            outcome = Outcome.IDENTICAL if same else Outcome.SAME_CONTENT
            return ReproducedTarget(target=before.target, outcome=outcome)
        why = "identical bytes, which measure otherwise on this machine or with these versions"
        return ReproducedTarget(target=before.target, outcome=Outcome.DIFFERENT, differences=(why, *metrics))
    differences = _metric_differences(before, after)
    if before.size_bytes != after.size_bytes:
        differences = (f"size_bytes: {before.size_bytes} -> {after.size_bytes}", *differences)
    measured = before.accuracy is not None and after.accuracy is not None
    same = measured and not differences
    if not measured:
        differences = (*differences, "accuracy was not measured, and the bytes differ")
    return ReproducedTarget(
        target=before.target,
        outcome=Outcome.SAME_METRICS if same else Outcome.DIFFERENT,
        differences=differences,
    )


def _metric_differences(before: LockedTarget, after: LockedTarget) -> tuple[str, ...]:
    if before.accuracy is None or after.accuracy is None:
        return ()
    found = []
    for row in METRICS.values():
        if row.tolerance is None:
            continue
        old, new = row.value(before.figures), row.value(after.figures)
        same = old == new if old is None or new is None else abs(old - new) <= row.tolerance
        if not same:
            found.append(f"{row.id}: {old} -> {new}")
    return tuple(found)
