"""All gates on accuracy judged together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefx.evaluation import gates, joint
from edgefx.report import markdown, terminal
from edgefx.verdicts import Gate, GateResult, Verdict
from tests.unit.report_samples import report
from tests.unit.test_expected import counted

DROP = Gate(metric="drop_pp", limit=1.0)


def result(
    p_value: float | None, verdict: Verdict = Verdict.PASS, *, by_interval: bool = False
) -> GateResult:
    return GateResult(
        gate=DROP, measured=0.0, verdict=verdict, reason="", p_value=p_value, by_interval=by_interval
    )


@pytest.mark.parametrize(
    ("p_values", "verdict", "unproven"),
    [
        ((0.001, 0.002, 0.003), Verdict.PASS, ()),
        ((0.024, 0.008, 0.012), Verdict.PASS, ()),  # 0.025 / 3, / 2, / 1: a step each
        ((0.009, 0.009, 0.009), Verdict.INCONCLUSIVE, ("a", "b", "c")),
        ((0.024, 0.008, 0.013), Verdict.INCONCLUSIVE, ("c", "a")),
    ],
)
def test_holm_asks_more_of_the_smallest(
    p_values: tuple[float, ...], verdict: Verdict, unproven: tuple[str, ...]
) -> None:
    found = joint.judge([(name, (result(p),)) for name, p in zip("abc", p_values, strict=True)])
    assert found is not None
    assert (found.verdict, found.unproven, found.gates) == (verdict, unproven, 3)
    assert "family-wise error 2.5 %" in found.reason


def test_one_failure_fails_and_what_means_nothing_shows_nothing() -> None:
    failed = joint.judge([("a", (result(0.0),)), ("b", (result(0.9, Verdict.FAIL),))])
    assert failed is not None
    assert (failed.verdict, failed.unproven) == (Verdict.FAIL, ("b",))
    doubted = joint.judge([("a", (result(0.0),)), ("b", (result(0.0, Verdict.INCONCLUSIVE),))])
    assert doubted is not None
    assert doubted.verdict is Verdict.INCONCLUSIVE
    size = replace(result(None), gate=Gate(metric="size_bytes", limit=1))
    assert joint.judge([("a", (result(0.0), size))]) is None


def test_a_gate_passes_where_its_p_value_is_that_of_one_end() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        images = int(generator.integers(50, 3000))
        lost, gained = (int(count) for count in generator.binomial(images, [0.01, 0.008]))
        figures = counted(lost, gained, images)
        for gate in (DROP, Gate(metric="agreement", limit=0.97)):
            (found,) = gates.judge((gate,), figures, target="x")
            assert found.p_value is not None
            if found.verdict is not Verdict.FAIL:
                assert (found.verdict is Verdict.PASS) == (found.p_value <= joint.ERROR), found


def test_in_one_of_forty_samples_any_target_passes_that_should_not() -> None:
    """Five targets whose drop is just the limit; alone, one of them passes in far more samples."""
    draws = np.random.default_rng(1).multinomial(2000, [0.02, 0.01, 0.97], (2000, 5))
    any_alone = any_together = 0
    known: dict[tuple[int, int], GateResult] = {}
    for sample in draws[:, :, :2].tolist():
        results = []
        for number, (lost, gained) in enumerate(sample):
            if (lost, gained) not in known:
                (known[lost, gained],) = gates.judge((DROP,), counted(lost, gained, 2000), target="x")
            results.append((str(number), (known[lost, gained],)))
        any_alone += any(one.verdict is Verdict.PASS for _, (one,) in results)
        found = joint.judge(results)
        assert found is not None
        any_together += len(found.unproven) < len(results)
    assert any_alone / 2000 > 0.08
    assert any_together / 2000 < 0.035


def test_the_report_says_so() -> None:
    made = report()
    found = joint.judge([(one.target, one.gates) for one in made])
    assert found is not None
    shown = replace(made, joint=found)
    assert "FAIL all targets: failed: onnx-int8 (2 gates on accuracy together" in terminal.dumps(shown)
    assert "**FAIL** all targets: failed: onnx-int8" in markdown.dumps(shown)
