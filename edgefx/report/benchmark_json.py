"""Figures of which less is better, as github-action-benchmark reads them (``customSmallerIsBetter``).

https://github.com/benchmark-action/github-action-benchmark
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgefx.evaluation.gates import describe
from edgefx.harmless import json_text, visible
from edgefx.metrics import METRICS, MetricRow
from edgefx.report.judged import Row


def dumps(rows: Sequence[Row]) -> str:
    """Return a JSON array that ends in a newline."""
    entries = [_entry(row, metric, value) for row in rows for metric, value in _figures(row)]
    return json_text(json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _figures(row: Row) -> list[tuple[MetricRow, float]]:
    return [
        (metric, value)
        for metric in METRICS.values()
        if metric.better == "less" and metric.heading and (value := metric.value(row.figures)) is not None
    ]


def _entry(row: Row, metric: MetricRow, value: float) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": visible(f"{row.name}: {metric.name}"),
        "unit": str(metric.unit),
        "value": value,
    }
    interval = metric.interval(row.figures) if metric.interval else None
    if interval is not None:
        entry["range"] = " to ".join(describe(metric, end) for end in interval)
    return entry
