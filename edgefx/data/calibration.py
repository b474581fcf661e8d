"""Choose images, keep calibration and evaluation apart, and say when calibration images are poor.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgefx.data.folders import digest, first_names
from edgefx.errors import DataError, UsageError
from edgefx.results import Check
from edgefx.types import Dataset, ImageItem

FEW = 32  # below this, ranges move by several percent between samples
_IMBALANCE = 4  # largest class over smallest class


def split(dataset: Dataset, *, samples: int, seed: int) -> tuple[Dataset, Dataset]:
    """Draw `samples` images for calibration; returns them and the rest, both in the data set's order.

    Labelled data is drawn in turn from every class, so that classes differ by at most one image while
    they last. The draw sorts by a hash of the seed and the file's relative path, so it depends on
    nothing else: not on the Python version, and little on images that are added or removed.

    Args:
        dataset: From `scan`.
        samples: How many to draw; all when there are fewer.
        seed: Another seed draws other images.

    Raises:
        UsageError: `samples` is below 1.
    """
    if samples < 1:
        raise UsageError(f"{samples} calibration samples", hint="at least 1 is needed; 100 or more is usual")

    rank = _Rank(dataset.root, seed)
    by_class: dict[int | None, list[ImageItem]] = defaultdict(list)
    for item in sorted(dataset.items, key=rank):
        by_class[item.label].append(item)
    # Rounds: the first of every class, then the second of every class, ... In a round that does not fit
    # whole, the hash decides which classes are drawn, not their order.
    rounds = sorted(
        (place, rank(item), item.path) for members in by_class.values() for place, item in enumerate(members)
    )
    drawn = {path for _, _, path in rounds[:samples]}
    return _subset(dataset, drawn, keep=True), _subset(dataset, drawn, keep=False)


def proportional(dataset: Dataset, *, samples: int, seed: int) -> Dataset:
    """Draw `samples` images that stand for all of them: each class has its share, to within one image.

    `split` draws as many of rare classes as of frequent ones, which suits ranges, and would weigh an
    accuracy anew. Here the images, sorted by class and within it by the hash of `split`, are taken at equal
    distances.

    Args:
        dataset: From `scan`.
        samples: How many to draw, at least 1; all when there are fewer.
        seed: Another seed draws other images.
    """
    rank, total = _Rank(dataset.root, seed), len(dataset.items)
    if samples >= total:
        return dataset
    ordered = sorted(
        dataset.items, key=lambda item: (-1 if item.label is None else item.label, rank(item), item.path)
    )
    drawn = {ordered[(2 * place + 1) * total // (2 * samples)].path for place in range(samples)}
    return _subset(dataset, drawn, keep=True)


def without(dataset: Dataset, paths: Iterable[Path]) -> Dataset:
    """Return `dataset` less the images at `paths`."""
    return _subset(dataset, set(paths), keep=False)


def content_overlap(calibration: Dataset, evaluation: Dataset) -> tuple[tuple[Path, Path], ...]:
    """Return (calibration file, evaluation file) for each evaluation file that is also a calibration file.

    Files are compared by their bytes, whatever their names; only files of equal size are read. The same
    picture encoded twice is not recognised.
    """
    sizes: dict[int, list[Path]] = defaultdict(list)
    for item in calibration.items:
        sizes[_size(item.path)].append(item.path)
    known: dict[int, dict[str, Path]] = {}
    found = []
    for item in evaluation.items:
        size = _size(item.path)
        if size <= 0 or size not in sizes:
            continue
        if size not in known:
            known[size] = {digest(path): path for path in reversed(sizes[size])}
        twin = known[size].get(digest(item.path))
        if twin is not None:
            found.append((twin, item.path))
    return tuple(found)


def require_disjoint(calibration: Dataset, evaluation: Dataset, *, purpose: str = "calibration") -> None:
    """Refuse evaluation images that also calibrate or train: the accuracy would be flattered.

    Raises:
        DataError: Names the images.
    """
    twins = content_overlap(calibration, evaluation)
    if twins:
        raise DataError(
            f"{len(twins)} of {len(evaluation.items)} evaluation images in {evaluation.root} are also "
            f"{purpose} images in {calibration.root}",
            hint=f"evaluate on images that are not for {purpose}, from another folder: --eval DIR",
            details=first_names(
                f"{second} = {first}" if first != second else str(second) for first, second in twins
            ),
        )


def listing_checks(calibration: Dataset, *, classes: int | None = None) -> tuple[Check, ...]:
    """Check what can be seen without decoding: how many images there are, and of which classes.

    Args:
        calibration: What `split` drew, or a whole folder.
        classes: The model's number of classes, if known; then missing classes are counted too.
    """
    count = len(calibration.items)
    plural = "s" if count != 1 else ""
    checks = [
        verdict(
            "size",
            f"{count} image{plural}",
            f"fewer than {FEW} give unsteady INT8 ranges: add typical images (100 or more is usual)"
            if count < FEW
            else "",
        )
    ]
    if not calibration.labelled:
        return tuple(checks)
    members = Counter(item.label for item in calibration.items)
    most, least = max(members.values()), min(members.values())
    fewest = _name(calibration, min(members, key=lambda label: (members[label], label or 0)))
    unbalanced = most >= _IMBALANCE * least and most > 1 and count >= _IMBALANCE * len(members)
    checks.append(
        verdict(
            "class balance",
            f"{least} to {most} images a class" + (f" (fewest: {fewest})" if unbalanced else ""),
            "the ranges follow the frequent classes: add images of the others" if unbalanced else "",
        )
    )
    known = classes or len(calibration.class_names) or len(members)
    missing = max(0, known - len(members))
    # With fewer images than classes (100 images for ImageNet) absent classes are the normal case.
    checks.append(
        verdict(
            "classes present",
            f"{len(members)} of {known}",
            "the activations of the others may be clipped: add images of every class"
            if missing and count >= 2 * known
            else "",
        )
    )
    return tuple(checks)


def verdict(name: str, measured: str, advice: str) -> Check:
    """Return a check, which passes when there is no advice to give."""
    return Check(name=name, passed=not advice, measured=measured, advice=advice)


class _Rank:
    """Orders images by a hash of the seed and the relative path."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._seed = seed

    def __call__(self, item: ImageItem) -> bytes:
        name = item.path.relative_to(self._root).as_posix()
        return hashlib.sha256(f"{self._seed}:{name}".encode(errors="surrogateescape")).digest()


def _name(dataset: Dataset, label: int | None) -> str:
    return dataset.class_names[label] if dataset.class_names and label is not None else f"class {label}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # decoding names the file and the reason


def _subset(dataset: Dataset, paths: set[Path], *, keep: bool) -> Dataset:
    items = tuple(item for item in dataset.items if (item.path in paths) is keep)
    return dataclasses.replace(dataset, items=items)
