"""Calibration error and Brier score against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edgefx.evaluation.accuracy import compare
from edgefx.evaluation.confidence import Confidence
from edgefx.types import OutputKind


def test_as_defined_bin_by_bin() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (900, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = generator.integers(0, 7, 900)
    labels[:400] = probabilities[:400].argmax(1)
    found = Confidence()
    for rows in (slice(0, 100), slice(100, 900)):  # in blocks, as many images come
        found.add(probabilities[rows], labels[rows])
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert found.ece == pytest.approx(expected)
    assert found.brier == pytest.approx(((probabilities - np.eye(7)[labels]) ** 2).sum(1).mean())


@pytest.mark.parametrize(
    ("probability", "label", "ece", "brier"), [(1.0, 0, 0.0, 0.0), (1.0, 1, 1.0, 2.0), (0.5, 0, 0.5, 0.5)]
)
def test_extremes(probability: float, label: int, ece: float, brier: float) -> None:
    found = Confidence()
    found.add(np.array([[probability, 1 - probability]]), np.array([label]))
    assert found.ece == pytest.approx(ece)
    assert found.brier == pytest.approx(brier)


def test_of_an_artifact_and_its_model() -> None:
    sharp = np.array([[8.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 0.0]], np.float32)
    soft = (sharp / 8).astype(np.float32)
    result = compare(sharp, soft, np.array([0, 0, 1, 1]), output=OutputKind.LOGITS, images_per_s=1.0)
    assert result.drop_pp == 0.0
    assert result.ece is not None
    assert result.baseline_ece is not None
    assert result.baseline_ece == pytest.approx(1 / (1 + np.exp(-8)) - 0.75)
    assert result.ece == pytest.approx(0.75 - 1 / (1 + np.exp(-1)))
    assert result.brier != result.baseline_brier
    unlabelled = compare(sharp, soft, None, output=OutputKind.LOGITS, images_per_s=1.0)
    assert (unlabelled.ece, unlabelled.baseline_brier) == (None, None)
