"""Figures are the same in every format as in report.json: of random reports, all metrics of all targets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given

from edgefx.metrics import METRICS, MetricRow
from edgefx.provenance import stored
from edgefx.report import formats, write_report
from edgefx.report.text import metric
from edgefx.results import RunReport
from tests.unit.report_samples import random_figures, with_figures
from tests.unit.test_report_harmless import bounded

Figures = dict[tuple[str, str], float]  # by target and metric


def figures_of_json(folder: Path) -> Figures:
    """Read the figures of report.json."""
    found: Figures = {}
    for target in stored.read(folder).targets:
        for row in METRICS.values():
            value = row.value(target.figures)
            if value is not None:
                found[target.target, row.id] = value
    return found


def tables(text: str) -> dict[tuple[str, str], str]:
    """Return the cells of a report's tables in Markdown, by target and heading."""
    found: dict[tuple[str, str], str] = {}
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and cells[0] == "target":
            heads = cells
        elif cells and not set(cells[0]) <= set(":- "):
            found |= {(cells[0], head): cell for head, cell in zip(heads, cells, strict=True)}
    return found


@given(found=random_figures)
@bounded
def test_figures_are_those_of_report_json(
    found: Sequence[tuple[float, float, int, float]], tmp_path: Path
) -> None:
    made = with_figures(found)
    write_report(made, tmp_path)
    known = figures_of_json(tmp_path)
    assert {target for target, _ in known} == {one.target for one in made.targets}
    assert figures_of_openmetrics(made) == known
    smaller = {key: value for key, value in known.items() if _is_benchmarked(METRICS[key[1]])}
    assert figures_of_benchmark_json(made) == smaller
    cells = tables(formats.dumps(made, "markdown"))
    shown = 0
    for (target, id_), value in known.items():
        row = METRICS[id_]
        cell = cells.get((target, row.heading))
        if row.heading and cell is not None:
            assert cell == metric(row, value)
            shown += 1
    assert shown >= 5 * len(made.targets)
    lines = formats.dumps(made, "terminal").splitlines()
    for one in made.targets:
        words = {word for line in lines if line.split()[:1] == [one.target] for word in line.split()}
        for id_ in ("top1", "drop_pp", "p50_ms", "p95_ms"):
            assert metric(METRICS[id_], known[one.target, id_]) in words


def _is_benchmarked(row: MetricRow) -> bool:
    return row.better == "less" and bool(row.heading)


def figures_of_openmetrics(made: RunReport) -> Figures:
    samples = re.findall(
        r'^edgefx_(\w+)\{target="([^"]*)"\} (\S+)$', formats.dumps(made, "openmetrics"), re.MULTILINE
    )
    return {(target, name): float(value) for name, target, value in samples}


def figures_of_benchmark_json(made: RunReport) -> Figures:
    ids = {row.name: row.id for row in METRICS.values()}
    found = {}
    for entry in json.loads(formats.dumps(made, "benchmark-json")):
        target, _, name = entry["name"].partition(": ")
        found[target, ids[name]] = entry["value"]
    return found
