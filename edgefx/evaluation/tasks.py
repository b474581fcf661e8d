"""Compare an artifact with the float baseline by what the model answers: classes, labels, values, vectors.

Whatever the task, both have seen the same images, and every loss is the baseline's figure less the
artifact's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.evaluation import accuracy
from edgefx.evaluation.statistics import wilson_ci
from edgefx.measured import TaskFigures
from edgefx.results import Accuracy
from edgefx.scores import by_class, chosen
from edgefx.types import ModelTask, OutputKind, TensorInfo

if TYPE_CHECKING:
    from edgefx.types import Scores

    Values = NDArray[np.float32]  # [N, outputs]: what is right for each image

_THRESHOLD = 0.5  # between a label that an image has, 1, and one that it has not, 0
_TINY = 1e-12
_ROWS = 512  # images whose nearest neighbours are looked for at a time


def compare(
    baseline: Scores,
    scores: Scores,
    *,
    task: ModelTask,
    output: OutputKind,
    labels: NDArray[np.int64] | None,
    targets: Values | None,
    images_per_s: float,
    stored: TensorInfo | None = None,
    threshold: float = 0.5,
    failed: NDArray[np.bool_] | None = None,
) -> Accuracy:
    """Compare an artifact's answers with the baseline's on the same images.

    Args:
        baseline: float32 [N, classes or values] of the float Keras model.
        scores: float32, the same of the artifact.
        task: What the model answers.
        output: What both are.
        labels: int64 [N], the right class of each image, where images have one.
        targets: float32 [N, values], what is right in a regression, or 0 and 1 for each label.
        images_per_s: From `inference.run`.
        stored: See `accuracy.compare`.
        threshold: The probability above which a label, or the second of two classes, is what a score says.
        failed: bool [N], which images the artifact gave no answer to; None where it did to all. They count as
            wrong where a class is chosen, and are left out of what is compared otherwise.

    Raises:
        ArtifactError: The artifact's answers have another shape than the baseline's, or are not finite.
        ModelError: The baseline's are not finite.
        DataError: No images, or labels that do not fit.
    """
    if failed is None or not failed.any() or task.classifies:
        return _compared(
            baseline,
            scores,
            task=task,
            output=output,
            labels=labels,
            targets=targets,
            images_per_s=images_per_s,
            stored=stored,
            threshold=threshold,
            failed=failed,
        )
    there = ~failed
    found = _compared(
        baseline[there],
        scores[there],
        task=task,
        output=output,
        labels=None if labels is None else labels[there],
        targets=None if targets is None else targets[there],
        images_per_s=images_per_s,
        stored=stored,
        threshold=threshold,
        failed=None,
    )
    return replace(found, images=len(baseline), failed=int(failed.sum()))


def _compared(
    baseline: Scores,
    scores: Scores,
    *,
    task: ModelTask,
    output: OutputKind,
    labels: NDArray[np.int64] | None,
    targets: Values | None,
    images_per_s: float,
    stored: TensorInfo | None,
    threshold: float,
    failed: NDArray[np.bool_] | None,
) -> Accuracy:
    if output is OutputKind.VALUES:
        found = compare_values(baseline, scores, images_per_s=images_per_s)
        if task is ModelTask.REGRESSION:
            return found if targets is None else _with(found, **_regression(baseline, scores, targets))
        found = _with(found, cosine=float(_cosines(baseline, scores).mean()))
        return _neighbours(found, baseline, scores, labels) if task is ModelTask.EMBEDDING else found
    if task is ModelTask.MULTILABEL:
        meant, said = (by_class(one.reshape(-1, 1), output) for one in (baseline, scores))
        each = accuracy.compare(
            meant,
            said,
            None,
            output=output,
            images_per_s=images_per_s,
            stored=stored,
            threshold=threshold,
        )
        # The labels of an image depend on each other, so that there is no interval.
        found = replace(each, images=len(baseline), agreement_ci95=None, task=TaskFigures())
        if targets is None:
            return found
        return replace(
            found, task=_multilabel(baseline, scores, targets, chosen(said, output, threshold) == 1)
        )
    found = accuracy.compare(
        baseline,
        scores,
        labels,
        output=output,
        images_per_s=images_per_s,
        stored=stored,
        threshold=threshold,
        failed=failed,
    )
    if task is ModelTask.BINARY and labels is not None:
        if failed is not None:
            baseline, scores, labels = baseline[~failed], scores[~failed], labels[~failed]
        return replace(found, task=_binary(baseline, scores, labels, chosen(scores, output, threshold) == 1))
    return found


def difference(earlier: Scores, later: Scores, output: OutputKind, *, floor: float = 0.0) -> Accuracy:
    """Compare two sets of scores of the same images, labels aside.

    Args:
        earlier: float32 [N, classes].
        later: float32 [N, classes].
        output: What they are.
        floor: Probabilities below it count as equal to it in `mean_kl`. Half a step of an integer output:
            what that rounds to zero would outweigh everything else, though nobody sees it.
    """
    if output is OutputKind.VALUES:
        return compare_values(earlier, later)
    found = accuracy.compare(earlier, later, None, output=output, images_per_s=0.0)
    if floor and output is OutputKind.PROBABILITIES:
        least = np.float32(floor)
        clipped = accuracy.compare(
            np.maximum(earlier, least), np.maximum(later, least), None, output=output, images_per_s=0.0
        )
        found = replace(found, mean_kl=clipped.mean_kl)
    return found


# ---------------------------------------------------------------------------------- yes or no, and labels


def _binary(
    baseline: Scores, scores: Scores, labels: NDArray[np.int64], said: NDArray[np.bool_]
) -> TaskFigures:
    truth = labels == 1
    before, after = (roc_auc(truth, one[:, 1] - one[:, 0]) for one in (baseline, scores))
    return TaskFigures(
        auc=after,
        auc_drop_pp=None if before is None or after is None else 100 * (before - after),
        f1=f1(truth, said),
        balanced_accuracy=_balanced(truth, said),
    )


def _multilabel(baseline: Scores, scores: Scores, targets: Values, said: NDArray[np.bool_]) -> TaskFigures:
    """Compare label by label: each of them is right or not by a score of its own."""
    truth = targets > _THRESHOLD
    before, after = mean_average_precision(truth, baseline), mean_average_precision(truth, scores)
    return TaskFigures(
        mean_average_precision=after,
        map_drop_pp=None if before is None or after is None else 100 * (before - after),
        f1=f1(truth.reshape(-1), said),
    )


def roc_auc(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float | None:
    """Return the area under the ROC curve; None where all images are of one class.

    It is the share of pairs of a positive and a negative image that are in the right order; a tie is half of
    one (Hanley and McNeil, Radiology 143 (1982) 29-36).
    """
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float | None:
    """Return the mean of the precision over the recall, without interpolation; None without a positive."""
    if not truth.any():
        return None
    values, place = np.unique(-scores, return_inverse=True)  # ties are one threshold
    positives = np.bincount(place, truth, len(values))
    found = np.cumsum(positives)
    precision = found / np.cumsum(np.bincount(place, minlength=len(values)))
    return float((positives * precision).sum() / positives.sum())


def mean_average_precision(truth: NDArray[np.bool_], scores: Scores) -> float | None:
    """Return the mean of the labels' average precisions; of those that some image has."""
    found = [average_precision(truth[:, label], scores[:, label]) for label in range(truth.shape[1])]
    known = [one for one in found if one is not None]
    return float(np.mean(known)) if known else None


def f1(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall; 0 where nothing is right."""
    return float(2 * (truth & said).sum() / max(1, truth.sum() + said.sum()))


def _balanced(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float | None:
    if truth.all() or not truth.any():
        return None
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


# ---------------------------------------------------------------------------------------- values and vectors


def compare_values(baseline: Scores, values: Scores, *, images_per_s: float = 0.0) -> Accuracy:
    """Compare values whatever they mean: their differences, over the standard deviation of the baseline's.

    Args:
        baseline: float32 [N, values].
        values: float32 [N, values].
        images_per_s: From `inference.run`.

    Raises:
        ArtifactError: The artifact's values have another shape than the baseline's, or are not finite.
        ModelError: The baseline's are not finite.
    """
    accuracy.check(baseline, values)
    error = values.astype(np.float64) - baseline
    # One image has no spread: then it is that of its own values.
    spread = np.std(baseline, axis=0 if len(baseline) > 1 else 1, dtype=np.float64).mean()
    scale = float(spread) or float(np.abs(baseline).max()) or 1.0
    relative = float(np.sqrt(np.square(error).mean())) / scale
    worst = float(np.abs(error).max())
    return Accuracy(
        images=len(baseline),
        top1=None,
        top5=None,
        baseline_top1=None,
        baseline_top5=None,
        drop_pp=None,
        drop_ci95_pp=None,
        agreement=None,
        mean_kl=relative**2 / 2,
        max_abs_dp=worst / scale,
        images_per_s=images_per_s,
        task=TaskFigures(relative_error=relative, max_error=worst),
        failed=0,
    )


def _with(found: Accuracy, **figures: float | None) -> Accuracy:
    return replace(found, task=replace(found.task or TaskFigures(), **figures))


def _regression(baseline: Scores, values: Scores, targets: Values) -> dict[str, float | None]:
    """Return the errors against what is right; R² is the mean over the outputs that vary."""

    def r2(answers: Scores) -> float | None:
        spread = np.square(targets - targets.mean(0)).sum(0, dtype=np.float64)
        missed = np.square(answers - targets).sum(0, dtype=np.float64)
        return float((1 - missed[spread > 0] / spread[spread > 0]).mean()) if (spread > 0).any() else None

    before, after = r2(baseline), r2(values)
    error = np.abs(values.astype(np.float64) - targets)
    return {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "baseline_mae": float(np.abs(baseline.astype(np.float64) - targets).mean()),
        "r2": after,
        "r2_drop": None if before is None or after is None else before - after,
    }


def loss(scores: Scores, targets: Values, *, output: OutputKind) -> float:
    """Return what supervised training makes less of: how wrong quantities, or scores of several labels, are.

    Args:
        scores: float32 [N, values].
        targets: What is right, float32 [N, values]: quantities, or 0 and 1 for each label.
        output: What the scores are.

    Returns:
        Of quantities, the mean square error over their variance; else the mean binary cross entropy, in nats.
    """
    if output is OutputKind.VALUES:
        return float((np.square(scores - targets).mean(0) / np.maximum(targets.var(0), 1e-6)).mean())
    # Of one score and its label, so that what is done for classifiers is done.
    pairs = by_class(scores.reshape(-1, 1), output)
    return accuracy.cross_entropy(pairs, targets.reshape(-1).astype(np.int64), output=output)


def _cosines(first: Scores, second: Scores) -> NDArray[np.float64]:
    """Return the cosine of the angle between each two rows; that of two zeros is 1."""
    first, second = _unit(first), _unit(second)
    both_zero = ~first.any(1) & ~second.any(1)
    return np.where(both_zero, 1.0, np.einsum("ij,ij->i", first, second, dtype=np.float64))


def _unit(vectors: Scores) -> Scores:
    length = np.sqrt(np.square(vectors, dtype=np.float64).sum(1, keepdims=True))
    scaled: Scores = (vectors / np.maximum(length, _TINY)).astype(np.float32)
    return scaled


def _neighbours(
    found: Accuracy, baseline: Scores, values: Scores, labels: NDArray[np.int64] | None
) -> Accuracy:
    """Look for each image's nearest other image among the float embeddings, as a search of images does.

    The gallery is the float model's, as one that was made before the artifact. Top-1 is recall at 1: the
    share of images whose nearest other image has their label.
    """
    if len(baseline) < 2:
        return found
    gallery = _unit(baseline)
    before, after = nearest(gallery, gallery), nearest(_unit(values), gallery)
    same = int((before == after).sum())
    found = replace(found, agreement=same / len(before), agreement_ci95=wilson_ci(same, len(before)))
    if labels is None:
        return found
    top1 = accuracy.Paired(labels[before] == labels, labels[after] == labels)
    return accuracy.with_top1(found, top1)


def nearest(queries: Scores, gallery: Scores) -> NDArray[np.int64]:
    """Return the place of the most similar vector of the gallery for each query, its own place left out.

    Args:
        queries: float32 [N, values], of length 1.
        gallery: float32 [N, values], of length 1.
    """
    places = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _ROWS):
        similar = queries[start : start + _ROWS] @ gallery.T
        rows = np.arange(len(similar))
        similar[rows, start + rows] = -np.inf
        places[start : start + _ROWS] = similar.argmax(1)
    return places
