"""Drift: how often it is said to be where there is none, and what is seen."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.analysis.drift import PERMUTATIONS, OutputAnswer, Sample, _Shuffled, compare, traits
from edgefx.report import drift as shown
from edgefx.report.console import PlainConsole
from edgefx.types import OutputKind
from edgefx.views import DriftReport, DriftTest

Draw = np.random.Generator


def sample(
    draw: Draw,
    images: int,
    *,
    brighter: float = 0.0,
    sharper: float = 1.0,
    bias: float = 0.0,
    moved: float = 0.0,
) -> Sample:
    """Draw images of one source, whose traits, features and scores of five classes hang together."""
    common = draw.normal(size=images)
    looks = {
        "brightness": 0.4 + 0.1 * common + brighter,
        "contrast": 0.2 + 0.02 * common + 0.02 * draw.normal(size=images),
        "saturation": np.zeros(images),  # grey images: all are equal
        "sharpness": np.round(draw.gamma(2, size=images) * sharper, 1),  # many are equal
    }
    logits = draw.normal(size=(images, 5)) * 2 + np.array([bias, 0, 0, 0, 0])
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    features = draw.normal(size=(images, 12))
    features[:, :5] += logits  # some of them tell the classes
    features[:, 5] += common
    features[:, 6] = 0  # a channel that is always off
    features[:, 7:] += moved
    return Sample(traits=looks, scores=scores.astype(np.float32), features=features.astype(np.float32))


CLASSES = OutputAnswer(output=OutputKind.PROBABILITIES, chooses=True)
VALUES = OutputAnswer(output=OutputKind.VALUES, chooses=False)


def drifted(before: Sample, after: Sample, *, alarm_rate: float = 0.05) -> set[str]:
    tests = compare(before, after, answers=[CLASSES], alarm_rate=alarm_rate, seed=3)
    return {one.test for one in tests if one.drifted}


def test_without_drift_there_are_no_more_alarms_than_stated() -> None:
    draw, trials, rate = np.random.default_rng(11), 100, 0.2
    alarms = sum(bool(drifted(sample(draw, 40), sample(draw, 25), alarm_rate=rate)) for _ in range(trials))
    assert alarms / trials <= rate + 3 * (rate * (1 - rate) / trials) ** 0.5
    assert alarms  # a test that never says anything would pass, too


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"brighter": 0.1}, "brightness"),
        ({"sharper": 2.0}, "sharpness"),
        ({"bias": 3.0}, "classes"),
        ({"bias": 2.0}, "scores"),
        ({"moved": 1.0}, "features"),
    ],
)
def test_a_change_is_seen_for_what_it_is(change: dict[str, float], seen: str) -> None:
    draw = np.random.default_rng(2)
    found = drifted(sample(draw, 200), sample(draw, 100, **change))
    assert seen in found
    assert "saturation" not in found


def test_the_same_images_are_no_drift_and_scores_need_not_be_of_classes() -> None:
    draw = np.random.default_rng(5)
    one = sample(draw, 50)
    assert drifted(one, one) == set()
    tests = compare(one, one, answers=[VALUES], alarm_rate=0.05, seed=0)
    assert [test.test for test in tests] == [*one.traits, "scores", "features"]
    without = replace(one, features=None)
    tests = compare(one, without, answers=[VALUES], alarm_rate=0.05, seed=0)
    assert [test.test for test in tests] == [*one.traits, "scores"]
    assert all(test.p_value == 1 for test in tests)


def test_each_of_several_outputs_has_tests_of_its_own() -> None:
    draw = np.random.default_rng(7)
    one, other = sample(draw, 100), sample(draw, 100)
    quality = draw.normal(size=(2, 100, 1)) + np.array([0, 4])[:, None, None]
    answers = [
        replace(VALUES, name="quality", place=slice(0, 1)), replace(CLASSES, name="class", place=slice(1, 6)),
    ]  # fmt: skip
    before, after = (
        replace(part, scores=np.concatenate([own, part.scores], 1, dtype=np.float32))
        for part, own in zip((one, other), quality, strict=True)
    )
    tests = compare(before, after, answers=answers, alarm_rate=0.05, seed=0)
    named = ["quality: scores", "class: confidence", "class: classes", "class: scores", "features"]
    assert [test.test for test in tests] == [*one.traits, *named]
    assert [test.test for test in tests if test.drifted] == ["quality: scores"]


def test_p_values_are_those_of_all_permutations_where_they_are_small_and_end_early_where_not() -> None:
    tried: list[int] = []

    def first(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        tried.append(len(weights))
        return weights @ np.arange(60.0)  # how far the mean of the first set is above that of the second

    apart = _Shuffled(30, 30, 0)
    distance, p_value = apart.test(lambda weights: -first(weights))
    assert distance == pytest.approx(30)
    assert p_value == 1 / (1 + PERMUTATIONS)
    assert sum(tried) == 1 + PERMUTATIONS
    tried.clear()
    distance, p_value = apart.test(first)
    assert distance == pytest.approx(-30)
    assert p_value == 1  # all are as far: the twentieth is the last that counts
    assert sum(tried) < 200


def _means_apart(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(weights @ values), np.float64)


def test_p_values_of_one_source_are_spread_evenly() -> None:
    draw = np.random.default_rng(6)
    found = [
        _Shuffled(20, 20, seed).test(partial(_means_apart, draw.normal(size=40)))[1] for seed in range(300)
    ]
    for rate in (0.05, 0.1, 0.2, 0.5):
        share = np.mean(np.array(found) <= rate)
        assert abs(share - rate) <= 4 * (rate * (1 - rate) / 300) ** 0.5


def test_traits_of_known_pictures() -> None:
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    pictures[1] = (255, 0, 0)
    pictures[2, ::2] = 255
    found = traits(pictures)
    assert found["brightness"] == pytest.approx([0, 1 / 3, 0.5])
    assert found["saturation"] == pytest.approx([0, 1, 0], abs=1e-6)
    assert found["warmth"] == pytest.approx([0, 1, 0], abs=1e-6)
    assert found["contrast"] == pytest.approx([0, 0, 0.5], abs=1e-6)
    assert found["sharpness"] == pytest.approx([0, 0, 2], abs=1e-6)
    assert traits(pictures[:, :2, :2])["sharpness"].tolist() == [0, 0, 0]


def test_the_report_says_what_drifted_and_escapes_names() -> None:
    seen = DriftTest(
        test="brightness", of="images", reference=0.4, new=0.6, distance=0.5, p_value=0.008, drifted=True
    )
    other = DriftTest(
        test="scores", of="answers", reference=None, new=None, distance=0.1, p_value=1.0, drifted=False
    )
    report = DriftReport(
        schema_version=1, run=Path("build[red]\x1b"), target='a"\n', role="evaluation", reference=Path("val"),
        reference_images=360, data=Path("new"), images=40, alarm_rate=0.05, tests=(seen, other),
    )  # fmt: skip
    stream = io.StringIO()
    shown.render(report, PlainConsole(file=stream, width=100, color_system=None))
    assert "build[red]\u241b" in stream.getvalue()
    assert "drift: brightness; without any, this is said in at most 5 % of samples" in stream.getvalue()
    lines = shown.openmetrics(report).splitlines()
    assert 'edgefx_drift_p_value{target="a\\"\u240a",test="brightness"} 0.008' in lines
    assert lines[-1] == "# EOF"
    assert int(report.exit_code) == 1
