"""The float model's best classes that a run has kept: a baseline where there is no TensorFlow.

A device that holds an artifact, images and the output folder of the run that made it can thus tell whether it
answers there as the float model does. Scores are not kept, so that only classes can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import DataError, UsageError
from edgefx.provenance import lock as locks
from edgefx.provenance import predictions
from edgefx.storage.hashes import hash_file

if TYPE_CHECKING:
    from edgefx.types import Dataset

_SAME = "give the folder of images that its accuracy was measured on"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a run knows of its float model.

    Attributes:
        folder: The run's output folder.
        best: Image, relative to the folder of images -> index of the model's best class.
        hashes: Image -> SHA-256 of its file; empty where the run has no lock file.
        resize: How the run made an image the input; "" where the run has no lock file.
        threshold: The probability above which its model's score counted as a yes.
    """

    folder: Path
    best: Mapping[str, int]
    hashes: Mapping[str, str]
    resize: str
    threshold: float = 0.5


def is_run(baseline: str) -> bool:
    """Whether a baseline is a run, by what its output folder or the file named holds, and not a model."""
    path = Path(baseline)
    return path.suffix == ".json" or (path / predictions.NAME).is_file() or (path / locks.NAME).is_file()


def of_run(baseline: str) -> Answers:
    """Read what a run has kept.

    Args:
        baseline: Its output folder, or a file in it.

    Raises:
        UsageError: The run has kept no answers, since it measured no accuracy, or its lock file is damaged.
        DataError: Its answers are damaged.
    """
    path = Path(baseline)
    folder = path if path.is_dir() else path.parent
    if not (folder / predictions.NAME).is_file():
        raise UsageError(
            f"{baseline}: there are no answers of a float model: no {predictions.NAME}",
            hint="give the output folder of a run that measured the accuracy of a classifier"
            " (edgefx compile --eval IMAGES)",
        )
    kept = predictions.read(folder / predictions.NAME)
    if len(kept.images) != len(kept.baseline):
        raise DataError(
            f"{folder / predictions.NAME}: {len(kept.baseline)} answers for {len(kept.images)} images"
        )
    hashes, resize, threshold = {}, "", 0.5
    if (folder / locks.NAME).is_file():
        lock = locks.read(folder)
        locked = lock.images("evaluation")
        hashes = {file.path: file.sha256 for file in locked.files} if locked else {}
        section = lock.recipe.get("data")
        resize = str(section.get("resize", "")) if isinstance(section, Mapping) else ""
        model = lock.recipe.get("model")
        said = model.get("threshold") if isinstance(model, Mapping) else None
        threshold = float(said) if isinstance(said, (int, float)) else 0.5
    return Answers(
        folder=folder,
        best=dict(zip(kept.images, kept.baseline, strict=True)),
        hashes=hashes,
        resize=resize,
        threshold=threshold,
    )


def shared(answers: Answers, dataset: Dataset, *, classes: int) -> Dataset:
    """Return those images that the run knows the answer for.

    Args:
        answers: What the run knows.
        dataset: Images.
        classes: The number of classes of what is compared with the run.

    Raises:
        UsageError: The run's model has other classes.
        DataError: The run knows no image, or some are other images of the same name.
    """
    known = {
        name: item
        for name, item in zip(
            names([item.path for item in dataset.items], dataset.root), dataset.items, strict=True
        )
        if name in answers.best
    }
    if not known:
        raise DataError(
            f"{answers.folder} knows none of the {len(dataset.items)} images of {dataset.root}", hint=_SAME
        )
    highest = max(answers.best.values())
    if highest >= classes:
        raise UsageError(
            f"the model of {answers.folder} has a class {highest}, the artifact {classes} classes from 0",
            hint="give the run that the artifact came from",
        )
    other = [name for name, item in known.items() if not _is_same(answers, name, item.path)]
    if other:
        raise DataError(
            f"{len(other)} of {len(known)} images of {dataset.root} are not those that {answers.folder} was"
            " measured on, though they have the same names",
            hint=_SAME,
            details=other,
        )
    return replace(dataset, items=tuple(known.values()))


def names(paths: Iterable[Path], root: Path) -> tuple[str, ...]:
    """Return how a run names the images of a folder."""
    return tuple(path.relative_to(root).as_posix() for path in paths)


def _is_same(answers: Answers, name: str, path: Path) -> bool:
    return name not in answers.hashes or hash_file(path) == answers.hashes[name]
