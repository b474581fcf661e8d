"""How often a gate would pass or fail on other images, against gates that judge samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefx.evaluation import expected
from edgefx.evaluation.expected import of, of_drop
from edgefx.evaluation.gates import judge
from edgefx.evaluation.statistics import paired_drop_ci, wilson_ci
from edgefx.metrics import Figures
from edgefx.verdicts import Gate, Verdict
from tests.unit.report_samples import accuracy, latency

SAMPLES = 20_000


def counted(lost: int, gained: int, images: int) -> Figures:
    measured = replace(
        accuracy(top1=0.9),
        images=images,
        drop_pp=100 * (lost - gained) / images,
        drop_ci95_pp=paired_drop_ci(lost, gained, images),
        lost=lost,
        gained=gained,
        agreement=1 - (lost + gained) / images,
        agreement_ci95=wilson_ci(images - lost - gained, images),
    )
    return Figures(size_bytes=1, accuracy=measured, latency=latency(p50_ms=1.0, ratio_to_float=1.0))


@pytest.mark.parametrize(
    ("lost", "gained", "images", "limit"), [(8, 4, 1000, 1.0), (1, 0, 500, 1.0), (60, 45, 2000, 0.5)]
)
def test_the_shares_are_those_of_samples(lost: int, gained: int, images: int, limit: float) -> None:
    gate = Gate(metric="drop_pp", limit=limit)
    found = of(gate, counted(lost, gained, images))
    assert found is not None
    assert found.passes + found.fails + found.inconclusive == pytest.approx(1)
    shares = [max(0.5, lost) / images, max(0.5, gained) / images]
    draws = np.random.default_rng(0).multinomial(images, [*shares, 1 - sum(shares)], SAMPLES)
    unique, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    seen = dict.fromkeys(Verdict, 0.0)
    for (one, other), count in zip(unique.tolist(), times.tolist(), strict=True):
        (result,) = judge([gate], counted(one, other, images), target="x")
        seen[result.verdict] += count / SAMPLES
    assert found.passes == pytest.approx(seen[Verdict.PASS], abs=0.015)
    assert found.fails == pytest.approx(seen[Verdict.FAIL], abs=0.015)
    assert found.inconclusive == pytest.approx(seen[Verdict.INCONCLUSIVE], abs=0.015)


def test_unchanged_code_loses_as_often_as_it_gains() -> None:
    gate = Gate(metric="drop_pp", limit=0.5)
    figures = counted(30, 5, 1000)
    as_seen, unchanged = of(gate, figures), of(gate, figures, unchanged=True)
    assert as_seen is not None
    assert unchanged is not None
    assert as_seen.fails > 0.99
    assert unchanged.fails == pytest.approx(of_drop(0.0175, 0.0175, 1000, limit_pp=0.5).fails)
    assert 0.1 < unchanged.fails < 0.3


def test_a_share_is_binomial() -> None:
    found = of(Gate(metric="agreement", limit=0.98), counted(10, 5, 1000))
    assert found is not None
    counts = np.random.default_rng(1).binomial(1000, 0.985, SAMPLES)
    assert found.fails == pytest.approx((counts < 980).mean(), abs=0.015)
    passing = np.array([wilson_ci(count, 1000)[0] >= 0.98 for count in counts.tolist()])
    assert found.passes == pytest.approx(passing.mean(), abs=0.015)


def test_relative_and_top5_drops_have_their_own_counts() -> None:
    figures = counted(8, 4, 1000)
    assert figures.accuracy is not None
    halved = replace(figures, accuracy=replace(figures.accuracy, baseline_top1=0.5))
    assert of(Gate(metric="drop_percent", limit=2.0), halved) == of(
        Gate(metric="drop_pp", limit=1.0), figures
    )
    assert of(Gate(metric="drop_top5_pp", limit=1.0), figures) is None
    top5 = replace(figures, accuracy=replace(figures.accuracy, lost_top5=8, gained_top5=4, drop_top5_pp=0.4))
    assert of(Gate(metric="drop_top5_pp", limit=1.0), top5) == of(Gate(metric="drop_pp", limit=1.0), figures)


@pytest.mark.parametrize("metric", ["size_bytes", "p95_ms", "mean_kl"])
def test_chance_has_no_part_in_other_metrics(metric: str) -> None:
    assert of(Gate(metric=metric, limit=1.0), counted(8, 4, 1000)) is None


def test_certain_shares_are_certain() -> None:
    assert of_drop(1.0, 0.0, 50, limit_pp=1.0).fails == pytest.approx(1)
    assert of_drop(0.0, 0.0, 5000, limit_pp=1.0).passes == pytest.approx(1)
    assert expected.of_drop(0.0, 1.0, 50, limit_pp=1.0).passes == pytest.approx(1)
