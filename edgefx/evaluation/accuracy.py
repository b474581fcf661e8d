"""Run an artifact over images and compare it with the float baseline, image by image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ArtifactError, DataError, EdgefxError, ModelError
from edgefx.evaluation.statistics import paired_drop_ci
from edgefx.protocols import Session, Task
from edgefx.results import Accuracy
from edgefx.types import OutputKind
from edgefx.views import ClassComparison

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores

CHUNK = 16  # images per call: artifacts take one at a time, this only paces the progress bar
KL_FLOOR = 1e-7  # lowest probability that KL distinguishes from zero, as Keras's epsilon
_ROWS = 4096  # rows compared at a time, so that ImageNet's 50 000 x 1000 scores need little memory


def run(session: Session, pixels: Pixels, *, task: Task | None = None) -> tuple[Scores, float]:
    """Infer all images.

    Args:
        session: An open artifact.
        pixels: uint8 [N, H, W, 3], raw RGB.
        task: Advanced by the number of images done.

    Returns:
        Scores float32 [N, classes] and the throughput in images per second.
    """
    if not len(pixels):
        raise DataError("no evaluation images", hint="give a folder with images")
    scores: Scores | None = None
    seconds = 0.0
    for start in range(0, len(pixels), CHUNK):
        part = np.asarray(pixels[start : start + CHUNK])
        begun = time.perf_counter()
        result = session.infer(part)
        seconds += time.perf_counter() - begun
        if scores is None:
            scores = np.empty((len(pixels), result.shape[1]), np.float32)
        scores[start : start + len(part)] = result
        if task is not None:
            task.advance(len(part))
    assert scores is not None
    return scores, len(pixels) / max(seconds, 1e-9)


def compare(
    baseline: Scores,
    scores: Scores,
    labels: NDArray[np.int64] | None,
    *,
    output: OutputKind,
    images_per_s: float,
) -> Accuracy:
    """Compare an artifact's scores with the baseline's on the same images.

    Where scores tie, the lower class index wins, as in `numpy.argmax`; INT8 outputs tie often. Logits
    become probabilities by softmax. For KL both distributions are clipped to at least `KL_FLOOR` and
    normalized, since an INT8 output rounds small probabilities to zero, where KL would be infinite.

    Args:
        baseline: float32 [N, classes] of the float Keras model.
        scores: float32 [N, classes] of the artifact.
        labels: int64 [N], or None when unlabelled.
        output: Whether both hold probabilities or logits.
        images_per_s: From `run`.

    Raises:
        ArtifactError: The artifact's scores have another shape than the baseline's, or are not finite.
        ModelError: The baseline's scores are not finite.
        DataError: No images, or labels that do not fit the scores.
    """
    if baseline.shape != scores.shape:
        raise ArtifactError(
            f"the artifact gives scores of shape {scores.shape}, the baseline {baseline.shape}",
            hint="compare an artifact with the model it was made from, on the same images",
        )
    images, classes = baseline.shape
    if not images:
        raise DataError("no evaluation images", hint="give a folder with images")
    if labels is not None:
        _check_labels(labels, images, classes)
    _check_finite(baseline, ModelError, "the float baseline")
    _check_finite(scores, ArtifactError, "the artifact")

    agree, kl, worst = 0, 0.0, 0.0
    for rows in _blocks(images):
        reference = _probabilities(baseline[rows], output)
        observed = _probabilities(scores[rows], output)
        agree += int((baseline[rows].argmax(1) == scores[rows].argmax(1)).sum())
        kl += float(_kl(reference, observed).sum())
        worst = max(worst, float(np.abs(reference - observed).max()))
    top1 = top5 = baseline_top1 = baseline_top5 = drop_pp = interval = None
    if labels is not None:
        reference_rank, rank = _ranks(baseline, labels), _ranks(scores, labels)
        right_before, right = reference_rank == 0, rank == 0
        lost, gained = int((right_before & ~right).sum()), int((right & ~right_before).sum())
        baseline_top1, top1 = float(right_before.mean()), float(right.mean())
        drop_pp = 100 * (lost - gained) / images
        interval = paired_drop_ci(lost, gained, images)
        if classes > 5:
            baseline_top5, top5 = float((reference_rank < 5).mean()), float((rank < 5).mean())
    return Accuracy(
        images=images,
        top1=top1,
        top5=top5,
        baseline_top1=baseline_top1,
        baseline_top5=baseline_top5,
        drop_pp=drop_pp,
        drop_ci95_pp=interval,
        agreement=agree / images,
        mean_kl=kl / images,
        max_abs_dp=worst,
        images_per_s=images_per_s,
    )


def compare_classes(
    baseline: NDArray[np.int64], best: NDArray[np.int64], labels: NDArray[np.int64] | None
) -> ClassComparison:
    """Compare an artifact's best classes with the float model's, where the model's scores are not known.

    Args:
        baseline: int64 [N], the float model's best class of each image.
        best: int64 [N], the artifact's.
        labels: int64 [N], or None when unlabelled.
    """
    top1 = baseline_top1 = drop_pp = interval = None
    if labels is not None:
        right_before, right = baseline == labels, best == labels
        lost, gained = int((right_before & ~right).sum()), int((right & ~right_before).sum())
        baseline_top1, top1 = float(right_before.mean()), float(right.mean())
        drop_pp = 100 * (lost - gained) / len(labels)
        interval = paired_drop_ci(lost, gained, len(labels))
    return ClassComparison(
        images=len(best),
        top1=top1,
        baseline_top1=baseline_top1,
        drop_pp=drop_pp,
        drop_ci95_pp=interval,
        agreement=float((baseline == best).mean()),
    )


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


def _ranks(scores: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes come before each label's; ties go to the lower index, as in argmax."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    result: NDArray[np.int64] = before.sum(1, dtype=np.int64)
    return result
