"""Run an artifact over images: an image without an answer is counted, and takes no other down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgefx.errors import ArtifactError, DataError
from edgefx.protocols import Session, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores

CHUNK = 16  # images per call: artifacts take one at a time, this only paces the progress bar
MOST_FAILED = 0.1  # share of the images above which it is the artifact that fails, and no image
_NOT_FINITE = "NaN or infinite scores"
HINT = "float16 overflow or broken weights: try the float32 target, or retrain"


@dataclass(frozen=True, kw_only=True, eq=False)
class Inferred:
    """What an artifact answers.

    Attributes:
        scores: float32 [N, classes]; rows of zeros where there is no answer.
        images_per_s: The throughput.
        failed: bool [N], which images got no answer.
        reasons: Why, by their places.
    """

    scores: Scores
    images_per_s: float
    failed: NDArray[np.bool_]
    reasons: dict[int, str]


def run(session: Session, pixels: Pixels, *, task: Task | None = None) -> Inferred:
    """Infer all images.

    Args:
        session: An open artifact.
        pixels: uint8 [N, H, W, 3], raw RGB.
        task: Advanced by the number of images done.

    Raises:
        ArtifactError: More than a tenth of the images get no answer, or none of the first ones does.
        DataError: There are no images.
    """
    if not len(pixels):
        raise DataError("no evaluation images", hint="give a folder with images")
    found: list[Scores] = []
    reasons: dict[int, str] = {}
    seconds = 0.0
    for start in range(0, len(pixels), CHUNK):
        part = np.asarray(pixels[start : start + CHUNK])
        begun = time.perf_counter()
        scores, failed = answered(session, part)
        seconds += time.perf_counter() - begun
        found.append(scores)
        reasons |= {start + place: reason for place, reason in failed.items()}
        if start == 0 and len(failed) == len(part):
            break
        if task is not None:
            task.advance(len(part))
    return of_parts(found, reasons, len(pixels) / max(seconds, 1e-9))


def of_parts(parts: Sequence[Scores], reasons: dict[int, str], images_per_s: float) -> Inferred:
    """Put the answers to all images together.

    Args:
        parts: From `answered`.
        reasons: Likewise, by place among all.
        images_per_s: The throughput.

    Raises:
        ArtifactError: More than a tenth of the images have no answer.
    """
    width = max(part.shape[1] for part in parts)
    scores = np.concatenate(
        [part if part.shape[1] == width else np.zeros((len(part), width), np.float32) for part in parts]
    )
    if len(reasons) > MOST_FAILED * len(scores):
        first, reason = next(iter(reasons.items()))
        raise ArtifactError(
            f"the artifact gives no answer to {len(reasons)} of {len(scores)} images, first to image {first}:"
            f" {reason}",
            hint=HINT,
        )
    failed = np.zeros(len(scores), np.bool_)
    failed[list(reasons)] = True
    return Inferred(scores=scores, images_per_s=images_per_s, failed=failed, reasons=reasons)


def answered(session: Session, part: Pixels) -> tuple[Scores, dict[int, str]]:
    """Infer some images; where one of them fails, each alone.

    Args:
        session: An open artifact.
        part: uint8 [N, H, W, 3], raw RGB.

    Returns:
        Scores float32 [N, classes], rows of zeros where there are none; and why there are none, by place.
    """
    reasons: dict[int, str] = {}
    try:
        scores = session.infer(part)
    except ArtifactError:
        rows = [_alone(session, part[place : place + 1], place, reasons) for place in range(len(part))]
        width = max((row.shape[1] for row in rows if row is not None), default=1)
        empty = np.zeros((1, width), np.float32)
        scores = np.concatenate([empty if row is None else row for row in rows])
    broken = np.flatnonzero(~np.isfinite(scores).all(1))
    if broken.size:
        scores = scores.copy()
        scores[broken] = 0
        reasons |= dict.fromkeys(broken.tolist(), _NOT_FINITE)
    return scores, reasons


def _alone(session: Session, image: Pixels, place: int, reasons: dict[int, str]) -> Scores | None:
    try:
        return session.infer(image)
    except ArtifactError as error:
        reasons[place] = error.message
        return None


def told(reasons: dict[int, str], names: Sequence[str], *, images: int) -> str:
    """Say which images got no answer, why, and what to try; "" where all did.

    Args:
        reasons: By place.
        names: Of all images.
        images: How many they are.
    """
    if not reasons:
        return ""
    examples = "; ".join(f"{names[place]}: {reason}" for place, reason in list(reasons.items())[:3])
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"{len(reasons)} of {images} images got no answer, and count as wrong: {examples}{more}; a gate"
        f" refuses that: error_rate <= 0 (max_error_rate: 0 in a recipe); {HINT}"
    )
