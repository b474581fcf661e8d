"""One verdict on all targets together. Standard library only.

A gate that passes is wrong in at most 2.5 % of all samples: one end of a 95 % interval. With ten targets it
would not surprise if one of them passed by chance. Holm's correction asks more of each, so that in at most
2.5 % of all samples any of them passes that should not.

Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
6 (1979) 65-70.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgefx.metrics import METRICS
from edgefx.verdicts import GateResult, JointVerdict, Verdict

ERROR = 0.025  # of all samples, in which a gate passes that should not


def judge(targets: Sequence[tuple[str, Sequence[GateResult]]]) -> JointVerdict | None:
    """Judge the gates with intervals of all targets together.

    Args:
        targets: Each target's name, and what became of its gates.

    Returns:
        None where there are fewer than two such gates, which need no correction.
    """
    together = [
        (name, gate, _p_value(gate))
        for name, gates in targets
        for gate in gates
        if METRICS[gate.gate.metric].interval is not None
    ]
    if len(together) < 2:
        return None
    failed = [name for name, gate, _ in together if gate.verdict is Verdict.FAIL]
    unproven: list[str] = []
    for number, (name, _, p_value) in enumerate(sorted(together, key=lambda one: one[2])):
        if unproven or p_value > ERROR / (len(together) - number):
            unproven.append(name)
    of = f"{len(together)} gates on accuracy together, Holm-corrected: family-wise error {100 * ERROR:g} %"
    if failed:
        verdict, found = Verdict.FAIL, f"failed: {_listed(failed)}"
    elif unproven:
        verdict, found = Verdict.INCONCLUSIVE, f"not shown to keep their limits together: {_listed(unproven)}"
    else:
        verdict, found = Verdict.PASS, "all keep their limits"
    return JointVerdict(
        verdict=verdict,
        gates=len(together),
        error=ERROR,
        unproven=tuple(dict.fromkeys(unproven)),
        reason=f"{found} ({of})",
    )


def _p_value(result: GateResult) -> float:
    """Return a gate's p-value; what failed, or means nothing, shows nothing."""
    shows = result.verdict is Verdict.PASS or result.by_interval
    return result.p_value if shows and result.p_value is not None else 1.0


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
