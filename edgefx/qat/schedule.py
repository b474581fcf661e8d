"""Training's decisions that need no framework: split, order, augmentation, learning rate, when to stop.

All of it follows from the seed and the number of the epoch, so that a training that was killed and resumed
sees the same images in the same order as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import DataError, UsageError
from edgefx.quantization import QatSettings
from edgefx.types import ImageSet, ModelTask, QatMode

if TYPE_CHECKING:
    from edgefx.types import Pixels

VARIANTS = 8  # of each image under augmentation: one as it is, the others flipped and shifted
_SHIFT = 1 / 16  # of height and width, at most; tuned: ablations qat.schedule.SHIFT
_FEWEST = 8  # images to train on
_OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Split:
    """Which images are trained on, and which choose the best epoch; indices into the image set."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def check(settings: QatSettings, images: ImageSet, *, task: ModelTask, classes: int) -> None:
    """Refuse settings and images that cannot be trained with.

    Args:
        settings: How to train.
        images: To train on.
        task: What the model answers.
        classes: Its number of classes, or of values.

    Raises:
        UsageError: A setting is out of range.
        DataError: Labels are missing, do not fit the model, or there are too few images.
    """
    limits = (
        (settings.epochs >= 1, "epochs must be 1 or more"),
        (settings.batch_size >= 1, "the batch size must be 1 or more"),
        (settings.accumulate >= 1, "at least one gradient makes a step"),
        (settings.learning_rate > 0, "the learning rate must be more than 0"),
        (0 <= settings.warm_up < 1, "the warm-up is a share of the steps, from 0 to less than 1"),
        (0 <= settings.label_smoothing < 1, "label smoothing is a share, from 0 to less than 1"),
        (0 < settings.validation_split < 1, "the validation split is a share between 0 and 1"),
        (settings.patience >= 1, "patience must be 1 or more epochs"),
        (settings.features >= 0, "the weight of the features must be 0 or more"),
        (settings.optimizer in _OPTIMIZERS, f"the optimizer is one of: {', '.join(_OPTIMIZERS)}"),
        (all(size >= 8 for size in settings.sizes), "image sizes must be 8 pixels or more"),
    )
    for holds, message in limits:
        if not holds:
            raise UsageError(f"quantization-aware training: {message}")
    if len(images) - _validation_count(settings, len(images)) < _FEWEST:
        raise DataError(
            f"{len(images)} images are too few to train on: {_FEWEST} and those for validation are needed",
            hint="give more images with --train, or use post-training quantization alone",
        )
    if settings.mode is QatMode.SUPERVISED:
        if task.classifies:
            _check_labels(images, classes)
        elif images.values is None:
            raise DataError(
                f"supervised training needs what is right for each image: of a {task}, in labels.csv",
                hint="put one into the folder, or learn from the float model: --qat distill",
            )


def _check_labels(images: ImageSet, classes: int) -> None:
    if images.labels is None:
        raise DataError(
            "supervised training needs labelled images, these have no labels",
            hint="give a folder with a sub-folder per class, or learn from the float model: --qat distill",
        )
    worst = int(images.labels.max())
    if worst >= classes or int(images.labels.min()) < 0:
        raise DataError(
            f"the training images have class {worst}, the model has classes 0 to {classes - 1}",
            hint="give images of the model's classes, or learn from the float model: --qat distill",
        )


def _validation_count(settings: QatSettings, images: int) -> int:
    return max(1, round(settings.validation_split * images))


def split(images: ImageSet, settings: QatSettings) -> Split:
    """Divide images by chance, the same share of each class where there are labels."""
    generator = np.random.default_rng(settings.seed)
    order = generator.permutation(len(images))
    count = _validation_count(settings, len(images))
    if images.labels is None:
        return Split(training=np.sort(order[count:]), validation=np.sort(order[:count]))
    # Classes in turn: every class has its share of the first `count`.
    labels = images.labels[order]
    turn = np.empty(len(labels), np.float64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turn[places] = (np.arange(len(places)) + 0.5) / len(places)
    order = order[np.argsort(turn, kind="stable")]
    return Split(training=np.sort(order[count:]), validation=np.sort(order[:count]))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images of one gradient: indices into the training images, and the variant of each."""

    images: NDArray[np.int64]
    variants: NDArray[np.int64]


def batches(count: int, settings: QatSettings, *, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: all images in random order; the last batch is filled with the first.

    Args:
        count: Number of training images.
        settings: Batch size, seed, and whether to augment.
        epoch: From 0.
    """
    generator = np.random.default_rng((settings.seed, epoch))
    order = generator.permutation(count)
    variants = generator.integers(VARIANTS, size=count) if settings.augment else np.zeros(count, np.int64)
    size = min(settings.batch_size, count)
    for start in range(0, count, size):
        places = np.arange(start, start + size) % count  # one shape of batch: TensorFlow traces it once
        yield Batch(images=order[places], variants=variants[places])


def steps_per_epoch(count: int, settings: QatSettings) -> int:
    """Return the steps of the optimizer in an epoch."""
    return math.ceil(math.ceil(count / min(settings.batch_size, count)) / settings.accumulate)


def augmented(image: Pixels, variant: int, *, seed: int, number: int) -> Pixels:
    """Return a variant of an image: flipped, and shifted with its border repeated; whole pixels stay whole.

    Args:
        image: uint8 [H, W, 3].
        variant: 0 is the image itself.
        seed: Seed of the shifts.
        number: The image's number; every image is shifted differently.
    """
    if variant == 0:
        return image
    height, width = image.shape[:2]
    if variant % 2:
        image = image[:, ::-1]
    if variant > 1:
        generator = np.random.default_rng((seed, number, variant))
        limits = [max(1, round(_SHIFT * size)) for size in (height, width)]
        down, right = (int(generator.integers(-limit, limit + 1)) for limit in limits)
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        image = image[rows][:, columns]
    return np.ascontiguousarray(image)


def rate(step: int, steps: int, settings: QatSettings) -> float:
    """Return the learning rate as a share of its highest: linear warm-up, then a cosine down to zero.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without restarts.

    Args:
        step: From 0.
        steps: Number of steps of the whole training.
        settings: Length of the warm-up.
    """
    rising = max(1, round(settings.warm_up * steps))
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def size_of_epoch(epoch: int, settings: QatSettings) -> int | None:
    """Return the image size of an epoch under progressive resizing; None is the model's own.

    The sizes share the first half of the epochs evenly.
    """
    if not settings.sizes:
        return None
    stage = epoch * 2 * len(settings.sizes) // max(settings.epochs, 1)
    return settings.sizes[stage] if stage < len(settings.sizes) else None


def is_over(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than the ones before."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
