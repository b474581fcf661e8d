"""The dashboard for Grafana asks for metrics and labels that edgefx writes, and for no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edgefx.metrics import METRICS
from edgefx.report import drift, formats
from edgefx.verdicts import Verdict
from edgefx.views import DriftReport, DriftTest
from tests.unit.report_samples import report

DASHBOARD = Path(__file__).resolve().parents[2] / "ci" / "grafana.json"
_SAMPLE = re.compile(r"^(edgefx_\w+)\{(.*)\} \S+$", re.MULTILINE)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def written() -> dict[str, set[str]]:
    """Return the labels of each metric that edgefx writes."""
    test = DriftTest(
        test="scores", of="answers", reference=None, new=None, distance=0, p_value=1, drifted=False
    )
    drifted = DriftReport(
        schema_version=1, run=Path("run"), target="x", role="evaluation", reference=Path("val"),
        reference_images=1, data=Path("new"), images=1, alarm_rate=0.05, tests=(test,),
    )  # fmt: skip
    text = formats.dumps(report(), "openmetrics") + drift.openmetrics(drifted)
    labels: dict[str, set[str]] = {f"edgefx_{name}": {"run", "target", "device"} for name in METRICS}
    for name, found in _SAMPLE.findall(text):
        labels.setdefault(name, {"run", "device"}).update(re.findall(r"(\w+)=", found))
    return labels


def test_every_query_is_of_metrics_and_labels_that_are_written() -> None:
    known = written()
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    queries += [one["query"]["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    assert len(queries) > 12
    for query in queries:
        names = re.findall(r"\bedgefx_\w+(?=[{,])", query)
        assert names, query
        assert set(names) <= set(known), query
        for name in names:
            matchers = re.findall(rf"{name}\{{([^}}]*)\}}", query)
            used = {label for one in matchers for label in re.findall(r"(\w+)=", one)}
            assert used <= known[name], query
    verdicts = {one for query in queries for one in re.findall(r'edgefx_gate="(\w+)"', query)}
    assert verdicts <= {one.value for one in Verdict}


def test_legends_name_labels_and_panels_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named <= {"run", "target", "device", "test"}
