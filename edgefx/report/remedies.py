"""What to try where a gate did not pass: what this run has measured first, then what usually helps."""

from __future__ import annotations

from collections.abc import Iterator

from edgefx.metrics import METRICS, Figures, Origin
from edgefx.report.text import counted, metric, signed
from edgefx.results import RunReport, SearchResult, TargetResult
from edgefx.types import Effort, Precision
from edgefx.verdicts import GateResult, Verdict


def remedies(report: RunReport, result: TargetResult, gate: GateResult) -> str:
    """Return what to try, in a sentence without its full stop; "" where nothing is known."""
    if gate.verdict is Verdict.PASS:
        return ""
    if gate.verdict is Verdict.INCONCLUSIVE:
        if gate.images_needed is None:
            return ""
        return f"evaluate on about {gate.images_needed:,} images"
    parts = [*_others(report, result, gate)]
    if METRICS[gate.gate.metric].origin is Origin.ACCURACY:
        parts += _more_accuracy(report, result)
    return "; ".join(parts)


def _others(report: RunReport, result: TargetResult, gate: GateResult) -> Iterator[str]:
    """Name the targets of the run that keep the limit."""
    row = METRICS[gate.gate.metric]
    keeping = []
    for other in report:
        value = row.value(Figures.of(other).of_output(gate.gate.output))
        if other.target != result.target and value is not None and row.within(value, gate.gate.limit):
            keeping.append(f"{other.target} ({metric(row, value)})")
    if keeping:
        yield f"measured here, within this limit: {', '.join(keeping)}"


def _more_accuracy(report: RunReport, result: TargetResult) -> Iterator[str]:
    if result.target.partition("-")[2] != Precision.INT8:
        return
    if result.search is not None:
        yield from _searched(result.search)
    else:
        yield "--max-drop makes edgefx work for the limit: more effort, then sensitive layers in float"
        if (result.effort or report.effort) is not Effort.HIGH:
            yield "--effort high optimizes the weights, too"
    if report.training is None:
        yield "--qat distill --train DIR trains it, without labels"
    yield "edgefx debug names the layers that lose most"


def _searched(search: SearchResult) -> Iterator[str]:
    tried = []
    for trial in search.trials:
        drop = search.limit.measured(trial.accuracy) if trial.accuracy else None
        if drop is not None:
            kept = f", {counted(len(trial.keep_float), 'layer')} in float" if trial.keep_float else ""
            tried.append(f"effort {trial.effort}{kept}: {signed(drop)} {search.limit.unit}")
    if len(tried) > 1:
        yield f"tried here: {'; '.join(tried)}"
