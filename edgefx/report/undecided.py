"""What gates that cannot be judged do to a run, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgefx.verdicts import GateResult, Verdict


def inconclusive(gates: Iterable[GateResult]) -> Iterator[str]:
    """Say what gates do that cannot be judged: those that mean nothing, and those with too few images."""
    found = [gate for gate in gates if gate.verdict is Verdict.INCONCLUSIVE]
    doubtful = [gate for gate in found if not gate.by_interval]
    close = [gate for gate in found if gate.by_interval]
    if any(not gate.tolerated for gate in doubtful):
        yield (
            "a gate that cannot be judged fails the run (exit code 1); with --on-inconclusive warn"
            " (gates.on_inconclusive) it does not"
        )
    elif doubtful:
        yield "gates that cannot be judged do not fail this run, as asked (--on-inconclusive warn)"
    if any(not gate.tolerated for gate in close):
        yield (
            "a figure that keeps its limit while its 95 % interval does not fails this run (exit code 1), as"
            " asked (--on-inconclusive fail)"
        )
    elif close:
        yield (
            "a figure that keeps its limit while its 95 % interval does not is no pass, but does not fail the"
            " run; with --on-inconclusive fail (gates.on_inconclusive) it does"
        )
