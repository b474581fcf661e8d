"""Figures and verdicts as OpenMetrics text, for Prometheus and what reads its format.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. Labels are bounded: run,
target, device and metric. Paths, messages and reasons would make a new time series each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefx.harmless import visible
from edgefx.metrics import METRICS, MetricRow, Unit
from edgefx.report.judged import Row
from edgefx.verdicts import Verdict

_LONGEST = 200  # characters of a label, which comes from a recipe
_MEANT = {Unit.SHARE: " As a fraction.", Unit.PERCENT: " In percent.", Unit.MEGABYTES: " In 10^6 bytes."}


def dumps(rows: Sequence[Row]) -> str:
    """Return the text, which ends in ``# EOF`` and a newline."""
    lines = [line for metric in METRICS.values() for line in _family(metric, rows)]
    return "\n".join([*lines, *_gates(rows), "# EOF"]) + "\n"


def _family(metric: MetricRow, rows: Sequence[Row]) -> Iterator[str]:
    found = [(row, value) for row in rows if (value := metric.value(row.figures)) is not None]
    if found:
        name = f"edgefx_{metric.id}"
        yield f"# TYPE {name} gauge"
        yield f"# HELP {name} {escaped(metric.meaning + _MEANT.get(metric.unit, ''))}"
        yield from (f"{name}{_labels(row)} {float(value)!r}" for row, value in found)


def _gates(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.gates for row in rows):
        yield "# TYPE edgefx_gate stateset"
        yield "# HELP edgefx_gate What became of a limit on a metric."
    seen = set()
    for row in rows:
        for gate in row.gates:
            for verdict in Verdict:
                labels = _labels(row, metric=gate.gate.name, edgefx_gate=verdict.value)
                if labels not in seen:  # two limits on one metric: the first is told
                    seen.add(labels)
                    yield f"edgefx_gate{labels} {int(gate.verdict is verdict)}"


def _labels(row: Row, **others: str) -> str:
    named = {"run": row.run, "target": row.target, "device": row.device, **others}
    parts = (f'{name}="{escaped(text[:_LONGEST])}"' for name, text in named.items() if text)
    return "{" + ",".join(parts) + "}"


def escaped(text: str) -> str:
    """Write a text as the value of a label, or as help."""
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')
