"""Check decoded calibration images: is what sets the INT8 ranges like what the model will see?

Where a property may be normal for the task (scans are grey, digits are white on black), the evaluation images
are the witness: only calibration images that differ from them are worth a warning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.data.calibration import verdict
from edgefx.data.folders import first_names
from edgefx.data.stability import Extremes, halves, unsteady
from edgefx.errors import DataError
from edgefx.results import Check
from edgefx.types import ImageSet

if TYPE_CHECKING:
    from edgefx.types import Pixels

SAMPLE = 64  # images of a large set that a statistic looks at
_UNIFORM = 8  # levels between the darkest and the brightest value; JPEG adds a few to a blank frame
_FEW = 0.1  # share of a set's images
_FEW_CLASSES = 0.5  # share of the evaluated classes
_ONE_CLASS = 0.9  # share of unlabelled images that are taken for the same class
_ANSWERS = 10  # images, of which chance alone makes so many equal too seldom to matter
_GREY = 2.0  # mean difference between the colour channels, levels
_SATURATED = 0.25  # share of values at 0 or 255; 0.02 to 0.04 in photographs
_SMALL = 2.0  # an image enlarged more than this has no detail of the input's resolution left
# Ends that differ by a tenth of the range between halves err by about a twentieth over all images. With 32
# images 12 to 20 % of the tensors of B0, V2-B0 and the digits model do, with 16 images 22 to 31 %, with 8
# images 34 to 44 %.
_TOLERANCE = 0.1
_UNSTEADY = 0.25


def pixel_checks(calibration: ImageSet, evaluation: ImageSet | None) -> tuple[Check, ...]:
    """Check duplicates, blank images, saturation, colour, resolution and classes.

    Args:
        calibration: Decoded calibration images.
        evaluation: Decoded evaluation images, if there are any, to compare with.

    Raises:
        DataError: Every calibration image is blank.
    """
    return (
        _duplicates(calibration),
        _blank(calibration),
        _saturation(calibration, evaluation),
        _colour(calibration, evaluation),
        _resolution(calibration, evaluation),
        _classes(calibration, evaluation),
    )


def stability_check(values: Extremes) -> Check:
    """Check whether two halves of the images give the same activation ranges.

    Args:
        values: The extremes of `edgefx.data.stability.observe`.
    """
    name = "range stability"
    if len(values) < 2:
        return verdict(name, "one image has no halves", "nothing says how far the ranges are off: add images")
    if not values.shape[1]:
        return verdict(name, "not measured: the model has no layers that edgefx knows", "")
    share = unsteady(*halves(values), tolerance=_TOLERANCE)
    return verdict(
        name,
        f"{share:.0%} of the activation ranges differ by more than {_TOLERANCE:.0%} between two halves",
        "these images are too few or too unlike each other: add typical ones" if share > _UNSTEADY else "",
    )


def answers_check(
    answers: NDArray[np.int64], calibration: ImageSet, evaluation: ImageSet | None
) -> tuple[Check, ...]:
    """Check that the float model does not take unlabelled calibration images for one class only.

    Args:
        answers: Of `edgefx.data.stability.observe`.
        calibration: The images; where they have labels, `pixel_checks` has looked at those.
        evaluation: The evaluation images, if there are any: their labels say how the classes are spread.
    """
    if calibration.labels is not None or evaluation is None or evaluation.labels is None:
        return ()
    share = float(np.bincount(answers).max()) / len(answers)
    usual = float(np.bincount(evaluation.labels).max()) / len(evaluation.labels)
    return (
        verdict(
            "classes answered",
            f"the float model takes {share:.0%} of the images for one class; the largest class has"
            f" {usual:.0%} of the evaluation images",
            "activations that other classes cause are unknown: calibrate on images of all classes"
            if share > _ONE_CLASS >= usual and len(answers) >= _ANSWERS
            else "",
        ),
    )


def spread(pixels: Pixels, count: int = SAMPLE) -> Pixels:
    """Return at most `count` images, evenly spaced over the set."""
    return pixels if len(pixels) <= count else pixels[np.linspace(0, len(pixels) - 1, count).astype(int)]


def _duplicates(images: ImageSet) -> Check:
    seen: dict[bytes, Path] = {}
    found = []
    for path, pixels in zip(images.paths, images.pixels, strict=True):
        content = hashlib.sha256(pixels.tobytes()).digest()
        if content in seen:
            found.append(f"{path} = {seen[content]}")
        else:
            seen[content] = path
    if not found:
        return verdict("duplicates", "none", "")
    return verdict(
        "duplicates",
        f"{len(found)} of {len(images)} images repeat another one ({_some(found)})",
        "copies count twice and add nothing: remove them",
    )


def _blank(images: ImageSet) -> Check:
    blank = []
    for path, pixels in zip(images.paths, images.pixels, strict=True):
        low, high = int(pixels.min()), int(pixels.max())
        if high - low <= _UNIFORM:
            what = "black" if high <= _UNIFORM else "white" if low >= 255 - _UNIFORM else "one grey"
            blank.append(f"{path} is {what}")
    if not blank:
        return verdict("blank images", "none", "")
    if len(blank) == len(images):
        raise DataError(
            f"all {len(images)} calibration images are blank: they say nothing of the activations",
            hint="calibrate on typical images",
            details=first_names(blank),
        )
    return verdict(
        "blank images",
        f"{len(blank)} of {len(images)} images have no content ({_some(blank)})",
        "they pull the ranges towards those of an empty scene: remove them",
    )


def _saturation(calibration: ImageSet, evaluation: ImageSet | None) -> Check:
    share = _saturated(calibration)
    usual = _saturated(evaluation) if evaluation is not None else 0.0
    measured = f"{share:.1%} of the values are 0 or 255"
    if evaluation is not None:
        measured += f", {usual:.1%} in the evaluation images"
    advice = ""
    if share > _SATURATED and share > 2 * usual:
        advice = "real images leave the ranges of clipped ones: calibrate on images as the camera gives them"
    elif usual > _SATURATED and usual > 2 * share:
        advice = "these are of another kind than what is evaluated, half black or white: use its kind"
    return verdict("saturation", measured, advice)


def _colour(calibration: ImageSet, evaluation: ImageSet | None) -> Check:
    coloured = float(_coloured(calibration).mean())
    measured = f"{coloured:.0%} of the images have colours"
    if evaluation is None:
        return verdict("colour", measured, "")
    others = float(_coloured(evaluation).mean())
    advice = ""
    if not coloured and others > _FEW:
        advice = "the ranges of colour filters are unknown: calibrate on images in colour"
    elif coloured > 1 - _FEW and others < _FEW:
        advice = "these are of another kind than what is evaluated, which is grey: calibrate on its kind"
    return verdict("colour", f"{measured}, {others:.0%} of the evaluation images", advice)


def _classes(calibration: ImageSet, evaluation: ImageSet | None) -> Check:
    """Check that not all calibration images are of one class while the model has to tell several apart."""
    if calibration.labels is None or evaluation is None or evaluation.labels is None:
        return verdict("classes", "not compared: there are no labels", "")
    ours, others = len(np.unique(calibration.labels)), len(np.unique(evaluation.labels))
    return verdict(
        "classes",
        f"images of {ours} class{'es' if ours > 1 else ''}, the evaluation images of {others}",
        "activations that other classes cause are unknown: calibrate on images of all classes"
        if ours < _FEW_CLASSES * others and len(calibration) >= others
        else "",
    )


def _resolution(calibration: ImageSet, evaluation: ImageSet | None) -> Check:
    factor = _enlarged(calibration)
    usual = _enlarged(evaluation) if evaluation is not None else 0.0
    return verdict(
        "resolution",
        f"half of the images are enlarged {factor:.1f} x or more"
        if factor > 1
        else "images are as large as the input",
        "enlarged images lack the detail that the model will see: give them in the camera's resolution"
        if factor > _SMALL and factor > _SMALL * usual
        else "",
    )


def _saturated(images: ImageSet) -> float:
    pixels = spread(images.pixels)
    return float(((pixels == 0) | (pixels == 255)).mean())


def _coloured(images: ImageSet) -> NDArray[np.bool_]:
    pixels = spread(images.pixels)
    differences = pixels.max(axis=3).astype(np.int16) - pixels.min(axis=3)
    coloured: NDArray[np.bool_] = differences.mean(axis=(1, 2)) >= _GREY
    return coloured


def _enlarged(images: ImageSet) -> float:
    """Return by how much the median image was enlarged, along the side that was enlarged less."""
    from PIL import Image

    height, width = images.pixels.shape[1:3]
    chosen = images.paths if len(images) <= SAMPLE else images.paths[:: len(images) // SAMPLE]
    factors = []
    for path in chosen:
        with Image.open(path) as image:  # the header only
            factors.append(min(width / image.width, height / image.height))
    return float(np.median(factors))


def _some(lines: Sequence[str], shown: int = 2) -> str:
    more = len(lines) - shown
    return "; ".join(lines[:shown]) + (f"; + {more} more" if more > 0 else "")
