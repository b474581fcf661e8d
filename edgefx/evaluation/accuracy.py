"""Compare an artifact with the float baseline, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ArtifactError, DataError, EdgefxError, ModelError
from edgefx.evaluation.confidence import Confidence
from edgefx.evaluation.statistics import mcnemar_p_value, paired_drop_ci, wilson_ci
from edgefx.results import Accuracy, ClassComparison
from edgefx.scores import by_class, chosen
from edgefx.types import OutputKind, TensorInfo
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from edgefx.types import Scores

KL_FLOOR = 1e-7  # lowest probability that KL distinguishes from zero, as Keras's epsilon
_CODES = 256  # of 8 bits, which probabilities are divided into: that of 1.0 itself is left out
_ROWS = 4096  # rows compared at a time, so that ImageNet's 50 000 x 1000 scores need little memory


def compare(
    baseline: Scores,
    scores: Scores,
    labels: NDArray[np.int64] | None,
    *,
    output: OutputKind,
    images_per_s: float,
    stored: TensorInfo | None = None,
    threshold: float = 0.5,
    failed: NDArray[np.bool_] | None = None,
) -> Accuracy:
    """Compare an artifact's scores with the baseline's on the same images.

    Where scores tie, the lower class index wins, as in `numpy.argmax`; INT8 outputs tie often. Logits
    become probabilities by softmax. For KL both distributions are clipped to at least `KL_FLOOR` and
    normalized, since KL to a probability of zero is infinite.

    An artifact whose output is 8-bit probabilities cannot say less than a step of them, usually 1/256. With
    1000 classes most of what the baseline says is less, and KL would measure that rounding instead of the
    quantization. So the baseline is rounded to the same steps before KL and differences are computed;
    what is zero then, and only means "less than half a step", counts as half a step in KL on both sides.
    Rounded scores do not add up to one, which the terms ``q - p`` make up for: the generalized KL divergence,
    see `_rounded_kl`. Top-1 and agreement are those of the baseline's own scores.

    An image that the artifact gave no answer to is wrong, and agrees with nothing; there is no KL of it.

    Args:
        baseline: float32 [N, classes] of the float Keras model.
        scores: float32 [N, classes] of the artifact.
        labels: int64 [N], or None when unlabelled.
        output: Whether both hold probabilities or logits.
        images_per_s: From `inference.run`.
        stored: From `stored_as`: the integers that the artifact's scores are; None where they are float.
        threshold: See `scores.chosen`.
        failed: bool [N], which images got no answer; None where all did.

    Raises:
        ArtifactError: The artifact's scores have another shape than the baseline's, or are not finite.
        ModelError: The baseline's scores are not finite.
        DataError: No images, or labels that do not fit the scores.
    """
    baseline, scores = by_class(baseline, output), by_class(scores, output)
    check(baseline, scores)
    images, classes = baseline.shape
    if labels is not None:
        _check_labels(labels, images, classes)

    grid = stored if output is OutputKind.PROBABILITIES else None
    there = np.ones(images, np.bool_) if failed is None else ~failed
    agree, kl, worst = 0, 0.0, 0.0
    for rows in _blocks(images):
        before, after = (chosen(one[rows], output, threshold) for one in (baseline, scores))
        agree += int(((before == after) & there[rows]).sum())
        reference = _probabilities(baseline[rows][there[rows]], output)
        observed = _probabilities(scores[rows][there[rows]], output)
        if grid is None:
            kl += float(_kl(reference, observed).sum())
        else:
            reference = _rounded(reference, grid)
            kl += float(_rounded_kl(reference, observed, _step(grid)).sum())
        worst = max(worst, float(np.abs(reference - observed).max(initial=0)))
    measured = Accuracy(
        images=images,
        top1=None,
        top5=None,
        baseline_top1=None,
        baseline_top5=None,
        drop_pp=None,
        drop_ci95_pp=None,
        agreement=agree / images,
        mean_kl=kl / max(1, int(there.sum())),
        max_abs_dp=worst,
        images_per_s=images_per_s,
        score_step=None if grid is None else _step(grid),
        agreement_ci95=wilson_ci(agree, images),
        failed=images - int(there.sum()),
    )
    if labels is None:
        return measured
    found = _with_labels(measured, baseline, scores, labels, output=output, there=there)
    if threshold == 0.5:
        return found
    before, after = (chosen(one, output, threshold) == labels for one in (baseline, scores))
    return with_top1(found, Paired(before, after & there))


def check(baseline: Scores, scores: Scores) -> None:
    """Check that two sets of scores can be compared.

    Raises:
        ArtifactError: The artifact's scores have another shape than the baseline's, or are not finite.
        ModelError: The baseline's scores are not finite.
        DataError: There are none.
    """
    if baseline.shape != scores.shape:
        raise ArtifactError(
            f"the artifact gives scores of shape {scores.shape}, the baseline {baseline.shape}",
            hint="compare an artifact with the model it was made from, on the same images",
        )
    if not len(baseline):
        raise DataError("no evaluation images", hint="give a folder with images")
    _check_finite(baseline, ModelError, "the float baseline")
    _check_finite(scores, ArtifactError, "the artifact")


def compare_classes(
    baseline: NDArray[np.int64], best: NDArray[np.int64], labels: NDArray[np.int64] | None
) -> ClassComparison:
    """Compare an artifact's best classes with the float model's, where the model's scores are not known.

    Args:
        baseline: int64 [N], the float model's best class of each image.
        best: int64 [N], the artifact's.
        labels: int64 [N], or None when unlabelled.
    """
    top1 = None if labels is None else Paired(baseline == labels, best == labels)
    return ClassComparison(
        images=len(best),
        top1=top1.share if top1 else None,
        baseline_top1=top1.baseline if top1 else None,
        drop_pp=top1.drop_pp if top1 else None,
        drop_ci95_pp=top1.drop_ci95_pp if top1 else None,
        agreement=float((baseline == best).mean()),
    )


def stored_as(output: TensorInfo, scores: Scores) -> TensorInfo | None:
    """Return the integer tensor that an artifact's scores are read from; None where they are float.

    So are those that are made of an artifact's logits.

    A file with float ends may compute its scores in 8 bits all the same, as TFLite does: then all of them are
    multiples of 1/256.

    Args:
        output: The artifact's output tensor.
        scores: float32 [N, classes], what it gave.
    """
    if ScoreFunction.of(output.name) is not None:  # they are no multiples of anything
        return None
    if output.scale is not None:
        return output
    codes = scores * _CODES
    if not (codes == np.round(codes)).all() or np.isin(scores, (0, 1)).all():
        return None
    return TensorInfo(name=output.name, shape=output.shape, dtype="uint8", scale=1 / _CODES, zero_point=0)


def cross_entropy(scores: Scores, labels: NDArray[np.int64], *, output: OutputKind) -> float:
    """Return the mean cross entropy of scores with labels, in nats; probabilities are at least `KL_FLOOR`.

    Args:
        scores: float32 [N, classes].
        labels: int64 [N], class indices.
        output: Whether the scores are probabilities or logits.
    """
    total = 0.0
    for rows in _blocks(len(scores)):
        found = np.take_along_axis(_probabilities(scores[rows], output), labels[rows, None], 1)
        total -= float(np.log(np.maximum(found, KL_FLOOR)).sum())
    return total / len(scores)


def _confidence(scores: Scores, labels: NDArray[np.int64], output: OutputKind) -> Confidence:
    found = Confidence()
    for rows in _blocks(len(scores)):
        found.add(_probabilities(scores[rows], output), labels[rows])
    return found


class Paired:
    """Which images are right before and after, counted.

    Args:
        before: bool [N], of the baseline.
        after: bool [N], of the artifact.
    """

    def __init__(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        images = len(before)
        self.lost, self.gained = int((before & ~after).sum()), int((after & ~before).sum())
        self.baseline, self.share = float(before.mean()), float(after.mean())
        self.ci95 = wilson_ci(int(after.sum()), images)
        self.drop_pp = 100 * (self.lost - self.gained) / images
        self.drop_ci95_pp = paired_drop_ci(self.lost, self.gained, images)


def with_top1(measured: Accuracy, top1: Paired) -> Accuracy:
    """Add which images are right before and after."""
    return replace(
        measured,
        top1=top1.share,
        baseline_top1=top1.baseline,
        drop_pp=top1.drop_pp,
        drop_ci95_pp=top1.drop_ci95_pp,
        top1_ci95=top1.ci95,
        lost=top1.lost,
        gained=top1.gained,
        drop_p_value=mcnemar_p_value(top1.lost, top1.gained),
    )


def _with_labels(
    measured: Accuracy,
    baseline: Scores,
    scores: Scores,
    labels: NDArray[np.int64],
    *,
    output: OutputKind,
    there: NDArray[np.bool_],
) -> Accuracy:
    """Add what labels tell."""
    reference_rank, rank = _ranks(baseline, labels), _ranks(scores, labels)
    rank = np.where(there, rank, scores.shape[1])
    top5 = Paired(reference_rank < 5, rank < 5)
    before = _confidence(baseline, labels, output)
    after = _confidence(scores[there], labels[there], output)
    measured = replace(
        with_top1(measured, Paired(reference_rank < 1, rank < 1)),
        ece=after.ece,
        baseline_ece=before.ece,
        brier=after.brier,
        baseline_brier=before.brier,
    )
    if scores.shape[1] <= 5:
        return measured
    return replace(
        measured,
        top5=top5.share,
        baseline_top5=top5.baseline,
        top5_ci95=top5.ci95,
        lost_top5=top5.lost,
        gained_top5=top5.gained,
        drop_top5_pp=top5.drop_pp,
        drop_top5_ci95_pp=top5.drop_ci95_pp,
    )


def _blocks(images: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, images, _ROWS))


def _check_labels(labels: NDArray[np.int64], images: int, classes: int) -> None:
    if labels.shape != (images,):
        raise DataError(f"{labels.size} labels for {images} images", hint="give one label per image")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()}, but the model has {classes} classes",
            hint=f"labels must be class indices from 0 to {classes - 1}",
        )


def _check_finite(scores: Scores, error: type[EdgefxError], who: str) -> None:
    for rows in _blocks(len(scores)):
        broken = np.flatnonzero(~np.isfinite(scores[rows]).all(1))
        if broken.size:
            raise error(
                f"{who} gives NaN or infinite scores, first for image {rows.start + broken[0]}",
                hint="float16 overflow or broken weights: try the float32 target, or retrain",
            )


def _probabilities(scores: Scores, output: OutputKind) -> NDArray[np.float64]:
    values = scores.astype(np.float64)
    if output is OutputKind.PROBABILITIES:
        return values
    values = np.exp(values - values.max(1, keepdims=True))
    result: NDArray[np.float64] = values / values.sum(1, keepdims=True)
    return result


def _kl(reference: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return KL(reference || observed) in nats for each row."""
    p, q = np.maximum(reference, KL_FLOOR), np.maximum(observed, KL_FLOOR)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    result: NDArray[np.float64] = (p * np.log(p / q)).sum(1)
    return result


def _step(tensor: TensorInfo) -> float:
    assert tensor.scale is not None, "integers have a scale"
    return tensor.scale


def _rounded(values: NDArray[np.float64], tensor: TensorInfo) -> NDArray[np.float64]:
    """Round values as an integer tensor stores them; what it cannot hold becomes its lowest or highest."""
    step, zero, limits = _step(tensor), tensor.zero_point or 0, np.iinfo(tensor.dtype)
    codes = np.clip(np.round(values / step) + zero, limits.min, limits.max)
    result: NDArray[np.float64] = (codes - zero) * step
    return result


def _rounded_kl(
    reference: NDArray[np.float64], observed: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """Return the generalized KL divergence in nats of scores rounded to `step`, for each row.

    ``sum(p log(p / q) - p + q)`` is KL where both add up to one, is never negative, and is zero only for
    equal scores. Normalizing instead would let half a step for each of 1000 classes outweigh the answer.

    Source: I. Csiszar, "Why least squares and maximum entropy? An axiomatic approach to inference for linear
    inverse problems", Annals of Statistics 19 (1991) 2032-2066, where it is the I-divergence.
    """
    p, q = np.maximum(reference, step / 2), np.maximum(observed, step / 2)
    result: NDArray[np.float64] = (p * np.log(p / q) - p + q).sum(1)
    return result


def _ranks(scores: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes come before each label's; ties go to the lower index, as in argmax."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    result: NDArray[np.int64] = before.sum(1, dtype=np.int64)
    return result
