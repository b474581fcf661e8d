"""What is measured of models that do more than choose a class, against scikit-learn and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from edgefx.errors import ArtifactError
from edgefx.evaluation import tasks
from edgefx.results import Accuracy
from edgefx.scores import by_class, of_logits
from edgefx.types import ModelTask, OutputKind
from edgefx.vocabulary import ScoreFunction


def rounded(generator: np.random.Generator, *shape: int) -> Any:
    """Scores as an 8-bit output gives them, with many ties."""
    return np.round(generator.uniform(0, 1, shape) * 16).astype(np.float32) / 16


@pytest.mark.parametrize("seed", range(5))
def test_curves_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, scores = generator.uniform(size=80) < 0.3, rounded(generator, 80)
    assert tasks.roc_auc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert tasks.average_precision(truth, scores) == pytest.approx(
        metrics.average_precision_score(truth, scores)
    )
    assert tasks.f1(truth, scores > 0.5) == pytest.approx(metrics.f1_score(truth, scores > 0.5))


def test_one_class_has_no_curve() -> None:
    nothing = np.zeros(4, np.bool_)
    assert tasks.roc_auc(nothing, np.ones(4, np.float32)) is None
    assert tasks.average_precision(nothing, np.ones(4, np.float32)) is None


def compared(task: ModelTask, output: OutputKind, before: Any, after: Any, **right: Any) -> Accuracy:
    given = {"labels": None, "targets": None, **right}
    return tasks.compare(before, after, task=task, output=output, images_per_s=1.0, **given)


def test_one_score_is_compared_as_two_classes() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.uniform(size=60) < 0.5).astype(np.int64)
    before = by_class(rounded(generator, 60, 1), OutputKind.PROBABILITIES)
    after = by_class(rounded(generator, 60, 1), OutputKind.PROBABILITIES)
    found = compared(ModelTask.BINARY, OutputKind.PROBABILITIES, before, after, labels=labels)
    assert found.top1 == pytest.approx(((after[:, 1] > 0.5) == labels).mean())
    assert found.task is not None
    assert found.task.auc == pytest.approx(metrics.roc_auc_score(labels, after[:, 1]))
    lost = metrics.roc_auc_score(labels, before[:, 1]) - metrics.roc_auc_score(labels, after[:, 1])
    assert found.task.auc_drop_pp == pytest.approx(100 * lost)
    right = metrics.balanced_accuracy_score(labels, after[:, 1] > 0.5)
    assert found.task.balanced_accuracy == pytest.approx(right)


@pytest.mark.parametrize("output", [OutputKind.PROBABILITIES, OutputKind.LOGITS])
def test_a_threshold_decides_what_one_score_says(output: OutputKind) -> None:
    generator = np.random.default_rng(4)
    labels = (generator.uniform(size=80) < 0.3).astype(np.int64)
    before, after = (rounded(generator, 80, 1) * 0.98 + 0.01 for _ in range(2))
    said, meant = after[:, 0] > 0.7, before[:, 0] > 0.7
    if output is OutputKind.LOGITS:
        before, after = (np.log(one / (1 - one)) for one in (before, after))
    two = [by_class(one.astype(np.float32), output) for one in (before, after)]
    found = compared(ModelTask.BINARY, output, *two, labels=labels, threshold=0.7)
    usual = compared(ModelTask.BINARY, output, *two, labels=labels)
    assert (found.top1, found.baseline_top1) == ((said == labels).mean(), (meant == labels).mean())
    assert found.lost == ((meant == labels) & (said != labels)).sum()
    assert found.agreement == (said == meant).mean()
    assert found.top1 != usual.top1
    assert found.task is not None
    assert usual.task is not None
    assert found.task.f1 == pytest.approx(metrics.f1_score(labels, said))
    assert found.task.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, said))
    assert (found.task.auc, found.mean_kl) == (usual.task.auc, usual.mean_kl)  # which need none


def test_a_threshold_decides_about_each_label() -> None:
    generator = np.random.default_rng(5)
    truth = (generator.uniform(size=(50, 3)) < 0.4).astype(np.float32)
    before, after = rounded(generator, 50, 3), rounded(generator, 50, 3)
    found = compared(
        ModelTask.MULTILABEL, OutputKind.PROBABILITIES, before, after, targets=truth, threshold=0.3
    )
    assert found.task is not None
    assert found.task.f1 == pytest.approx(metrics.f1_score(truth, after > 0.3, average="micro"))
    assert found.agreement == pytest.approx(((before > 0.3) == (after > 0.3)).mean())


def test_logits_of_one_score_are_a_sigmoid() -> None:
    logits = np.array([[-3.0], [0.5], [2.0]], np.float32)
    two = by_class(logits, OutputKind.LOGITS)
    softmax = np.exp(two) / np.exp(two).sum(1, keepdims=True)
    np.testing.assert_allclose(softmax[:, 1:], 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert by_class(two, OutputKind.LOGITS) is two
    assert by_class(logits, OutputKind.VALUES) is logits


def test_scores_of_an_artifact_that_ends_in_logits_are_made_by_its_reader() -> None:
    logits = np.array([[-30.0, 0.5], [2.0, 20.0], [0.0, -3.0]], np.float32)
    exact = logits.astype(np.float64)
    sigmoid = of_logits(logits, ScoreFunction.of("sigmoid_logits"))
    assert sigmoid.dtype == np.float32
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-exact)), rtol=1e-5)
    softmax = of_logits(logits, ScoreFunction.of("softmax_logits"))
    np.testing.assert_allclose(softmax, np.exp(exact) / np.exp(exact).sum(1, keepdims=True), rtol=1e-5)
    for name in (*OutputKind, "softmax", "output_0"):
        assert ScoreFunction.of(name) is None
    assert of_logits(logits, None) is logits


@pytest.mark.parametrize("output", [OutputKind.PROBABILITIES, OutputKind.LOGITS])
def test_several_labels(output: OutputKind) -> None:
    generator = np.random.default_rng(2)
    truth = (generator.uniform(size=(50, 3)) < 0.4).astype(np.float32)
    before, after = rounded(generator, 50, 3), rounded(generator, 50, 3)
    threshold = 0.5
    if output is OutputKind.LOGITS:
        before, after, threshold = before - 0.5, after - 0.5, 0.0
    found = compared(ModelTask.MULTILABEL, output, before, after, targets=truth)
    assert found.task is not None
    assert found.task.mean_average_precision == pytest.approx(metrics.average_precision_score(truth, after))
    assert found.task.f1 == pytest.approx(metrics.f1_score(truth, after > threshold, average="micro"))
    assert found.agreement == pytest.approx(((before > threshold) == (after > threshold)).mean())
    assert found.top1 is None
    assert found.images == 50
    p, q = before.astype(np.float64), after.astype(np.float64)
    if output is OutputKind.LOGITS:
        p, q = 1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-q))
    assert found.max_abs_dp == pytest.approx(float(np.abs(p - q).max()))
    inner = (p > 0) & (p < 1) & (q > 0) & (q < 1)
    if inner.all():
        each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        assert found.mean_kl == pytest.approx(float(each.mean()), rel=1e-5)
    assert compared(ModelTask.MULTILABEL, output, before, after).task is not None


def test_quantities() -> None:
    generator = np.random.default_rng(3)
    right = generator.normal(30, 10, (40, 2)).astype(np.float32)
    before = right + generator.normal(0, 1, right.shape).astype(np.float32)
    after = before + generator.normal(0, 0.5, right.shape).astype(np.float32)
    found = compared(ModelTask.REGRESSION, OutputKind.VALUES, before, after, targets=right)
    assert found.task is not None
    assert found.task.mae == pytest.approx(metrics.mean_absolute_error(right, after), rel=1e-5)
    assert found.task.rmse == pytest.approx(metrics.mean_squared_error(right, after) ** 0.5, rel=1e-5)
    assert found.task.r2 == pytest.approx(metrics.r2_score(right, after), rel=1e-5)
    drop = metrics.r2_score(right, before) - metrics.r2_score(right, after)
    assert found.task.r2_drop == pytest.approx(drop, abs=1e-6)
    assert found.task.max_error == pytest.approx(float(np.abs(after - before).max()))
    assert found.task.relative_error == pytest.approx(
        float(np.sqrt(((after - before) ** 2).mean()) / before.std(0).mean()), rel=1e-5
    )
    assert found.agreement is None


def test_quantities_that_do_not_vary_have_no_r2() -> None:
    ones = np.ones((4, 1), np.float32)
    found = compared(ModelTask.REGRESSION, OutputKind.VALUES, ones, ones, targets=ones)
    assert found.task is not None
    assert found.task.r2 is None
    assert found.task.relative_error == 0


def test_a_search_among_embeddings() -> None:
    # Two pairs of alike images; the artifact turns the third towards the first.
    before = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    after = before.copy()
    after[2] = [1, 0.02]
    labels = np.array([0, 0, 1, 1])
    found = compared(ModelTask.EMBEDDING, OutputKind.VALUES, before, after, labels=labels)
    assert (found.baseline_top1, found.top1, found.agreement) == (1.0, 0.75, 0.75)
    assert (found.lost, found.gained) == (1, 0)
    assert found.task is not None
    assert found.task.cosine is not None
    assert 0.7 < found.task.cosine < 0.8
    same = compared(ModelTask.EMBEDDING, OutputKind.VALUES, before, 7 * before, labels=labels)
    assert same.agreement == 1.0
    assert same.task is not None
    assert same.task.cosine == pytest.approx(1.0)


def test_nearest_is_that_of_the_whole_table_whatever_is_compared_at_a_time() -> None:
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(1100, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = vectors @ vectors.T
    np.fill_diagonal(table, -np.inf)
    np.testing.assert_array_equal(tasks.nearest(vectors, vectors), table.argmax(1))


def test_maps_and_what_cannot_be_compared() -> None:
    one = np.ones((3, 8), np.float32)
    found = compared(ModelTask.FEATURES, OutputKind.VALUES, one, one)
    assert found.task is not None
    assert found.task.cosine == pytest.approx(1.0)
    assert found.agreement is None
    with pytest.raises(ArtifactError, match="NaN"):
        compared(ModelTask.FEATURES, OutputKind.VALUES, one, one * np.nan)
    with pytest.raises(ArtifactError, match="shape"):
        compared(ModelTask.FEATURES, OutputKind.VALUES, one, one[:, :4])


def test_loss_of_quantities_is_a_share_of_their_variance() -> None:
    targets = np.array([[0, 10], [2, 30]], np.float32)  # of variance 1 and 100
    scores = targets + np.array([[1, 10], [-1, 10]], np.float32)
    assert tasks.loss(scores, targets, output=OutputKind.VALUES) == pytest.approx(1)


def test_loss_of_labels_is_their_binary_cross_entropy() -> None:
    probabilities = np.array([[0.9, 0.2], [0.4, 0.5]], np.float32)
    targets = np.array([[1, 0], [0, 1]], np.float32)
    wanted = -np.log([0.9, 0.8, 0.6, 0.5]).mean()
    found = tasks.loss(probabilities, targets, output=OutputKind.PROBABILITIES)
    assert found == pytest.approx(wanted, rel=1e-5)
    logits = np.log(probabilities / (1 - probabilities))
    assert tasks.loss(logits, targets, output=OutputKind.LOGITS) == pytest.approx(wanted, rel=1e-5)
