"""The table of metrics: one row is enough for a gate, a column, a comparison and a reproduction."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgefx.evaluation.gates import describe, judge, limit_text
from edgefx.metrics import METRICS, Figures, MetricRow, Origin, Unit
from edgefx.provenance.comparison import RunDiff, TargetDiff, _figures
from edgefx.provenance.lock import LockedTarget
from edgefx.provenance.reproduction import _metric_differences
from edgefx.recipe import limits
from edgefx.recipe.load import parse
from edgefx.report import comparison, evaluation, matrix, terminal
from edgefx.report.text import metric
from edgefx.results import Latency, RunReport
from edgefx.verdicts import Gate, Verdict
from edgefx.views import Benchmark, MatrixReport, MatrixRun
from tests.unit.report_samples import accuracy, latency, report


def test_every_row_is_found_by_its_id_and_says_what_it_means() -> None:
    assert all(row.id == name for name, row in METRICS.items())
    assert all(row.meaning.endswith(".") and row.name for row in METRICS.values())


def test_a_gate_has_one_metric_but_for_the_drop_which_knows_two_units() -> None:
    keys = [row.gate for row in METRICS.values() if row.gate]
    assert {key for key in keys if keys.count(key) > 1} == {"max_drop"}
    for row in METRICS.values():
        assert not row.gate or row.gate.startswith("max_" if row.better == "less" else "min_")


@pytest.mark.parametrize(
    ("key", "text", "id_", "limit"),
    [
        ("min_agreement", "98%", "agreement", 0.98),
        ("min_top1", 0.9, "top1", 0.9),
        ("max_mean_kl", 0.01, "mean_kl", 0.01),
        ("max_peak_memory", "200MB", "peak_memory_mb", 200.0),
        ("max_cold_start_ms", "50ms", "cold_start_ms", 50.0),
        ("max_ratio_to_float", 1.0, "ratio_to_float", 1.0),
        ("max_p99_ms", "30ms", "p99_ms", 30.0),
        ("max_std_ms", 2, "std_ms", 2.0),
        ("max_load_ms", "30ms", "load_ms", 30.0),
        ("max_first_ms", 4, "first_ms", 4.0),
        ("max_float_share", "20%", "float_share", 0.2),
        ("min_delegate_coverage", 0.9, "delegate_coverage", 0.9),
        ("max_cost_per_1000", 0.004, "cost_per_1000", 0.004),
        ("min_inferences_per_s", 25, "inferences_per_s", 25.0),
        ("max_size", "6MB", "size_bytes", 6_000_000),
    ],
)
def test_a_recipe_limits_it_in_its_unit(key: str, text: object, id_: str, limit: float) -> None:
    recipe = parse(
        {"version": 1, "model": "digits", "targets": ["tflite-int8"], "gates": {key: text}}, where="test"
    )
    assert recipe.gates.gates() == (Gate(metric=id_, limit=limit),)
    again = parse(recipe.model_dump(mode="json"), where="test")
    assert again.gates == recipe.gates


def test_a_lower_limit_is_kept_from_above() -> None:
    figures = Figures(size_bytes=1, accuracy=replace(accuracy(top1=0.9), agreement=0.975))
    passed, failed = judge(
        [Gate(metric="agreement", limit=0.975), Gate(metric="agreement", limit=0.98)], figures, target="x"
    )
    assert passed.verdict is Verdict.PASS
    assert failed.verdict is Verdict.FAIL
    assert failed.reason == "agreement 97.5 %, at least 98 %: 0.5 % short"
    assert limit_text(failed.gate) == "agreement >= 98 %"


def test_what_inferences_cost_follows_from_the_price_of_an_hour() -> None:
    row, limit = METRICS["cost_per_1000"], Gate(metric="cost_per_1000", limit=0.002)
    timed = latency(p50_ms=20.0, ratio_to_float=0.5)
    unknown = Figures(size_bytes=1, latency=timed)
    known = replace(unknown, latency=replace(timed, price_per_hour=0.36))
    assert row.value(unknown) is None
    assert row.value(known) == pytest.approx(0.002)  # 20 s of an hour
    assert METRICS["inferences_per_s"].value(known) == 50
    assert row.value(Figures(latency=replace(timed, price_per_hour=0.0))) == 0
    assert metric(row, row.value(known)) == "0.002"
    assert judge([limit], unknown, target="x")[0].verdict is Verdict.INCONCLUSIVE
    assert "--price-per-hour" in judge([limit], unknown, target="x")[0].reason
    dearer = replace(unknown, latency=replace(timed, price_per_hour=0.37))
    assert judge([limit], dearer, target="x")[0].verdict is Verdict.FAIL


def test_what_really_ran_is_judged_where_a_profiler_told_it() -> None:
    timed = latency(p50_ms=20.0, ratio_to_float=0.5)
    limits = [Gate(metric="float_share", limit=0.2), Gate(metric="delegate_coverage", limit=0.9)]
    unknown = judge(limits, Figures(size_bytes=1, latency=timed), target="x")
    assert [one.verdict for one in unknown] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    assert "profiler" in unknown[0].reason
    told = replace(timed, float_share=0.5, delegate_coverage=0.95)
    known = judge(limits, Figures(size_bytes=1, latency=told), target="x")
    assert [one.verdict for one in known] == [Verdict.FAIL, Verdict.PASS]


def test_one_row_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    row = MetricRow(
        id="inferences_per_s",
        name="throughput",
        meaning="Inferences in a second.",
        unit=Unit.COUNT,
        better="more",
        origin=Origin.LATENCY,
        value=lambda figures: 1000 / figures.latency.p50_ms if figures.latency else None,
        gate="min_inferences",
        heading="per s",
        digits=0,
        compared=True,
        overview=True,
        tolerance=1.0,
    )
    monkeypatch.setitem(METRICS, row.id, row)
    sample: RunReport = report()
    measured = next(target for target in sample.targets if target.latency)
    assert measured.latency is not None
    rate = 1000 / measured.latency.p50_ms
    (verdict,) = judge([Gate(metric=row.id, limit=rate / 2)], Figures.of(measured), target=measured.target)
    assert verdict.verdict is Verdict.PASS
    (column,) = (one for one in terminal.metric_columns(Origin.LATENCY) if one.title == "per s")
    assert column.cell(measured) == metric(row, rate) == f"{rate:.0f}"
    assert describe(row, 12.0) == "12"
    # A key of a recipe.
    assert limits.gates_section().model_validate({"min_inferences": 9}).gates() == (
        Gate(metric=row.id, limit=9.0),
    )
    # The tables of a run, of several runs, of `edgefx benchmark` and of `edgefx diff`.
    assert "per s" in terminal.dumps(sample)
    run = MatrixRun(name="one", output=Path("one"), report=sample)
    runs = MatrixReport(schema_version=1, recipe="r", command="c", runs=(run,))
    assert "per s" in matrix.text(runs)
    console = Console(file=StringIO(), record=True, width=200)
    latencies = {"a.tflite": measured.latency}
    evaluation.render_benchmark(
        Benchmark(environment=sample.environment, latencies=latencies, failures={}), console
    )
    assert "per s" in console.export_text()
    one, other = (locked(measured.latency, factor) for factor in (1.0, 2.0))
    found = TargetDiff(target="x", before=_figures(one), after=_figures(other), identical=False, flips=None)
    assert found.before is not None
    assert found.before[row.id] == rate
    text = comparison.markdown(RunDiff(before=Path("a"), after=Path("b"), changes=(), targets=(found,)))
    assert f"{rate:.0f} -> {rate / 2:.0f}" in text
    # What `edgefx reproduce` compares.
    assert _metric_differences(one, other) == (f"{row.id}: {rate} -> {rate / 2}",)


def locked(latency: Latency, factor: float) -> LockedTarget:
    slower = replace(latency, p50_ms=latency.p50_ms * factor)
    return LockedTarget(target="x", files=(), size_bytes=1, accuracy=accuracy(top1=0.9), latency=slower)
