"""Training's decisions that need no framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import DataError, UsageError
from edgefx.qat import schedule
from edgefx.quantization import QatSettings
from edgefx.types import ImageSet, ModelTask, QatMode, Resize

SETTINGS = QatSettings(batch_size=4, epochs=10)
SUPERVISED = replace(SETTINGS, mode=QatMode.SUPERVISED)


def image_set(count: int, labels: list[int] | None = None) -> ImageSet:
    generator = np.random.default_rng(0)
    return ImageSet(
        pixels=generator.integers(0, 256, (count, 32, 48, 3), dtype=np.uint8),
        labels=None if labels is None else np.array(labels),
        paths=tuple(Path(f"{number}.png") for number in range(count)),
        sha256="none",
        resize=Resize.STRETCH,
    )


def check(settings: QatSettings, images: ImageSet, *, task: ModelTask = ModelTask.CLASSIFICATION) -> None:
    schedule.check(settings, images, task=task, classes=3)


def test_split_leaves_no_image_out_and_uses_none_twice() -> None:
    split = schedule.split(image_set(40), SETTINGS)
    together = np.sort(np.concatenate([split.training, split.validation]))
    np.testing.assert_array_equal(together, np.arange(40))
    assert len(split.validation) == 6, "0.15 of 40"


def test_split_takes_the_same_share_of_each_class() -> None:
    labels = [0] * 40 + [1] * 40 + [2] * 20
    split = schedule.split(image_set(100, labels), replace(SETTINGS, validation_split=0.2))
    counts = np.bincount(np.array(labels)[split.validation])
    np.testing.assert_array_equal(counts, [8, 8, 4])


def test_the_same_seed_divides_alike_and_another_does_not() -> None:
    images = image_set(60)
    first, again = (schedule.split(images, SETTINGS).validation for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, schedule.split(images, replace(SETTINGS, seed=1)).validation)


def test_an_epoch_shows_every_image_in_batches_of_one_size() -> None:
    batches = list(schedule.batches(10, SETTINGS, epoch=0))
    assert [len(batch.images) for batch in batches] == [4, 4, 4]
    shown = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(np.sort(shown[:10]), np.arange(10))
    np.testing.assert_array_equal(shown[10:], shown[:2])


def test_epochs_differ_and_each_can_be_repeated() -> None:
    """A resumed training sees what an uninterrupted one would have seen."""
    orders = [
        np.concatenate([batch.images for batch in schedule.batches(50, SETTINGS, epoch=epoch)])
        for epoch in (0, 1, 1)
    ]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[1], orders[2])


def test_more_images_to_a_batch_than_there_are() -> None:
    batches = list(schedule.batches(3, SETTINGS, epoch=0))
    assert [len(batch.images) for batch in batches] == [3]
    assert schedule.steps_per_epoch(3, SETTINGS) == 1


def test_gathered_gradients_make_fewer_steps() -> None:
    assert schedule.steps_per_epoch(17, SETTINGS) == 5
    assert schedule.steps_per_epoch(17, replace(SETTINGS, accumulate=2)) == 3


def test_variants_are_flips_and_small_shifts_of_whole_pixels() -> None:
    image = image_set(1).pixels[0]
    variants = [schedule.augmented(image, v, seed=0, number=3) for v in range(schedule.VARIANTS)]
    np.testing.assert_array_equal(variants[0], image)
    np.testing.assert_array_equal(variants[1], image[:, ::-1])
    for number, variant in enumerate(variants[2:], start=2):
        assert variant.shape == image.shape
        assert variant.dtype == np.uint8
        source = image[:, ::-1] if number % 2 else image
        assert _is_shifted(source, variant, limits=(2, 3)), number
    again = schedule.augmented(image, 5, seed=0, number=3)
    np.testing.assert_array_equal(again, variants[5])
    assert not np.array_equal(schedule.augmented(image, 5, seed=0, number=4), variants[5])


def _is_shifted(source: NDArray[np.uint8], found: NDArray[np.uint8], limits: tuple[int, int]) -> bool:
    """Whether the inner pixels of `found` are those of `source`, moved by no more than the limits."""
    down, right = limits
    inner = found[down:-down, right:-right]
    height, width = inner.shape[:2]
    return any(
        np.array_equal(inner, source[row : row + height, column : column + width])
        for row in range(2 * down + 1)
        for column in range(2 * right + 1)
    )


def test_the_rate_rises_then_falls_to_almost_zero() -> None:
    rates = [schedule.rate(step, 100, SETTINGS) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert int(np.argmax(rates)) == 10, "a tenth of the steps is warm-up"
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[0] < 0.1
    assert rates[-1] < 0.01


def test_one_step_is_enough_for_a_rate() -> None:
    assert 0 < schedule.rate(0, 1, SETTINGS) <= 1


def test_sizes_share_the_first_half_of_the_epochs() -> None:
    settings = replace(SETTINGS, sizes=(16, 24), epochs=8)
    assert [schedule.size_of_epoch(epoch, settings) for epoch in range(8)] == [16, 16, 24, 24] + [None] * 4
    assert schedule.size_of_epoch(0, SETTINGS) is None


def test_training_stops_when_nothing_gets_better() -> None:
    assert not schedule.is_over([3.0, 2.0, 1.0], 2)
    assert not schedule.is_over([3.0, 1.0, 2.0], 2)
    assert schedule.is_over([3.0, 1.0, 2.0, 1.5], 2)
    assert not schedule.is_over([3.0, 4.0], 2), "two epochs are allowed to fail, one did"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch size"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"validation_split": 1.0}, "validation split"),
        ({"label_smoothing": 1.5}, "label smoothing"),
        ({"sizes": (4,)}, "sizes"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(replace(SETTINGS, **change), image_set(40))  # type: ignore[arg-type]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="8 images are too few") as caught:
        check(SETTINGS, image_set(8))
    assert "--train" in caught.value.hint
    check(SETTINGS, image_set(10))


def test_supervised_training_needs_labels_of_the_models_classes() -> None:
    with pytest.raises(DataError, match="these have no labels") as caught:
        check(SUPERVISED, image_set(40))
    assert "--qat distill" in caught.value.hint
    with pytest.raises(DataError, match="have class 3, the model has classes 0 to 2"):
        check(SUPERVISED, image_set(40, [0, 1, 2, 3] * 10))
    check(SUPERVISED, image_set(40, [0, 1, 2, 1] * 10))


def test_supervised_training_of_quantities_needs_them() -> None:
    with pytest.raises(DataError, match=r"of a regression, in labels\.csv") as caught:
        check(SUPERVISED, image_set(40, [0, 1] * 20), task=ModelTask.REGRESSION)
    assert "--qat distill" in caught.value.hint
    values = np.zeros((40, 1), np.float32)
    check(SUPERVISED, replace(image_set(40), values=values), task=ModelTask.REGRESSION)


def test_distillation_does_not_look_at_labels() -> None:
    check(SETTINGS, image_set(40, [0, 1, 2, 900] * 10))
