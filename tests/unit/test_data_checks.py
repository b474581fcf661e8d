"""Calibration images that are not what the model will see, as real files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgefx.data import images
from edgefx.data.checks import answers_check, pixel_checks, spread, stability_check
from edgefx.data.digits import calibration_folder, evaluation_folder
from edgefx.data.folders import scan
from edgefx.data.stability import halves, unsteady
from edgefx.errors import DataError
from edgefx.types import ImageSet, Resize
from tests.contract.conftest import RecordedProgress

Array = NDArray[np.uint8]
Folder = Callable[..., ImageSet]
PIXELS = 24


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Write arrays as images of a new folder and decode it as a run does."""
    number = iter(range(10))

    def make(*arrays: Array) -> ImageSet:
        root = tmp_path / f"set{next(number)}"
        root.mkdir()
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(root / f"{index:02}.png")
        return decoded(root)

    return make


def decoded(root: Path) -> ImageSet:
    return images.decode(
        scan(root),
        height=PIXELS,
        width=PIXELS,
        resize=Resize.STRETCH,
        skip_bad=False,
        progress=RecordedProgress(),
        role="calibration",
    )


def photo(seed: int, *, size: int = PIXELS, grey: bool = False) -> Array:
    """Smooth colours and noise, with neither end of the range used much."""
    generator = np.random.default_rng(seed)
    base = generator.uniform(60, 200, (1, 1, 1 if grey else 3))
    noise = generator.normal(0, 20, (size, size, 1 if grey else 3))
    result: Array = np.clip(base + noise, 0, 255).astype(np.uint8).repeat(3 if grey else 1, axis=2)
    return result


def uniform(value: int) -> Array:
    return np.full((PIXELS, PIXELS, 3), value, np.uint8)


def poor(calibration: ImageSet, evaluation: ImageSet | None = None) -> dict[str, str]:
    return {
        check.name: f"{check.measured}; {check.advice}"
        for check in pixel_checks(calibration, evaluation)
        if not check.passed
    }


def test_good_images_pass(folder: Folder) -> None:
    good = folder(*(photo(seed) for seed in range(6)))
    assert poor(good, folder(*(photo(seed) for seed in range(9, 12)))) == {}
    assert poor(good) == {}


def test_the_embedded_digits_pass_beside_their_evaluation_images() -> None:
    # They are grey, white on black and tiny, and so are the images that the model will see.
    assert poor(decoded(calibration_folder()), decoded(evaluation_folder())) == {}


def test_duplicates_are_found_whatever_their_names_and_files(folder: Folder) -> None:
    calibration = folder(photo(1), photo(2), photo(1), photo(3))
    found = poor(calibration)
    assert list(found) == ["duplicates"]
    assert "1 of 4" in found["duplicates"]
    assert "02.png" in found["duplicates"]
    Image.fromarray(photo(2)).save(calibration.paths[3].with_suffix(".bmp"))
    assert "2 of 5" in poor(decoded(calibration.paths[0].parent))["duplicates"]


def test_blank_images_are_named(folder: Folder) -> None:
    found = poor(folder(photo(1), uniform(0), uniform(255), uniform(99), photo(2)))
    assert "3 of 5" in found["blank images"]
    assert "01.png is black" in found["blank images"]
    assert "02.png is white" in found["blank images"]


def test_nothing_but_blank_images_is_an_error(folder: Folder) -> None:
    with pytest.raises(DataError, match="all 2 calibration images are blank") as caught:
        poor(folder(uniform(100), uniform(120)))
    assert "is one grey" in caught.value.details[0]


def test_saturation_counts_where_the_evaluation_images_have_less(folder: Folder) -> None:
    clipped = [np.where(photo(seed) > 130, 255, photo(seed)).astype(np.uint8) for seed in range(8)]
    calibration = folder(*clipped)
    assert "of the values are 0 or 255" in poor(calibration)["saturation"]
    assert "saturation" in poor(calibration, folder(photo(1), photo(2)))
    assert "saturation" not in poor(calibration, folder(*clipped[:3]))


def test_grey_images_count_where_the_evaluation_images_have_colours(folder: Folder) -> None:
    calibration = folder(*(photo(seed, grey=True) for seed in range(3)))
    assert "colour" in poor(calibration, folder(photo(1), photo(2)))
    assert poor(calibration, folder(photo(5, grey=True))) == {}
    assert poor(calibration) == {}
    assert poor(folder(photo(1), photo(2, grey=True)), folder(photo(3))) == {}


def test_another_kind_of_images_is_noticed(folder: Folder) -> None:
    colours = folder(photo(1), photo(2), photo(3))
    assert "another kind" in poor(colours, folder(photo(5, grey=True)))["colour"]
    scan_like = photo(6, grey=True)
    scan_like[: PIXELS // 2] = 255
    assert "another kind" in poor(folder(photo(1, grey=True)), folder(scan_like))["saturation"]


def test_one_class_is_too_few_where_there_are_more(folder: Folder) -> None:
    def labelled(labels: list[int], first: int) -> ImageSet:
        made = folder(*(photo(first + number) for number in range(len(labels))))
        return replace(made, labels=np.array(labels))

    evaluation = labelled([0, 1, 2], 0)
    assert (
        "images of 1 class, the evaluation images of 3"
        in poor(labelled([1, 1, 1], 10), evaluation)["classes"]
    )
    assert poor(labelled([0, 1, 2], 20), evaluation) == {}
    assert poor(labelled([1], 30), evaluation) == {}  # one image has one class
    assert poor(folder(photo(40), photo(41)), evaluation) == {}


def test_unlabelled_images_of_one_class_are_noticed_by_the_models_answers(folder: Folder) -> None:
    calibration = folder(*(photo(seed) for seed in range(3)))
    evaluation = replace(folder(*(photo(seed) for seed in range(9))), labels=np.arange(9) % 3)
    (check,) = answers_check(np.full(20, 2), calibration, evaluation)
    assert not check.passed
    assert "takes 100% of the images for one class; the largest class has 33%" in check.measured
    for answers in (np.arange(20) % 3, np.full(5, 2)):  # of all classes; too few to tell
        (check,) = answers_check(answers, calibration, evaluation)
        assert check.passed
    (check,) = answers_check(np.full(20, 2), calibration, replace(evaluation, labels=np.full(9, 2)))
    assert check.passed  # what is evaluated is of one class too
    # Nothing to compare with, or labels that tell more than answers do.
    assert answers_check(np.full(20, 2), calibration, None) == ()
    assert answers_check(np.full(20, 2), replace(calibration, labels=np.zeros(3, int)), evaluation) == ()


def test_thumbnails_count_where_the_evaluation_images_are_larger(folder: Folder) -> None:
    calibration = folder(*(photo(seed, size=8) for seed in range(3)))
    assert "3.0 x" in poor(calibration)["resolution"]
    assert "resolution" in poor(calibration, folder(photo(1), photo(2)))
    assert poor(calibration, folder(photo(1, size=8))) == {}
    assert poor(folder(photo(1, size=13))) == {}


def test_a_sample_is_spread_over_the_set() -> None:
    pixels = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    chosen = spread(pixels, 5).ravel().tolist()
    assert chosen == [0, 24, 49, 74, 99]
    assert spread(pixels, 100) is pixels


# ------------------------------------------------------------------------------------------------ stability


def test_ranges_differ_when_an_end_moves_by_more_than_the_tolerance() -> None:
    first = {"a": (0.0, 10.0), "b": (-1.0, 1.0), "c": (0.0, 0.0), "d": (0.0, 0.0)}
    second = {"a": (0.0, 10.9), "b": (-1.0, 1.3), "c": (0.0, 0.0), "d": (0.0, 1.0), "e": (5.0, 6.0)}
    assert unsteady(first, second, tolerance=0.1) == 0.5  # b and d
    assert unsteady(first, second, tolerance=0.05) == 0.75
    assert unsteady(first, first, tolerance=0.0) == 0.0
    assert unsteady({}, second, tolerance=0.1) == 0.0


def test_halves_alternate_so_that_both_hold_every_class() -> None:
    values = np.array([[[0, 1]], [[0, 3]], [[0, 1]], [[0, 3]]], np.float32)
    first, second = halves(values)
    assert first == {"0": (0.0, 1.0)}
    assert second == {"0": (0.0, 3.0)}


def test_few_unlike_images_are_unsteady_and_many_are_not() -> None:
    generator = np.random.default_rng(0)
    highs = generator.lognormal(0, 0.3, (100, 50, 1)).astype(np.float32)
    values = np.concatenate([-0.3 * highs, highs], axis=2)
    few, many = stability_check(values[:6]), stability_check(values)
    assert not few.passed
    assert "add typical" in few.advice
    assert many.passed
    assert not stability_check(values[:1]).passed
