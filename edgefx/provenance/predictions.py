"""Each image's best class, per target: what `edgefx diff` compares image by image.

``predictions.json`` is one JSON document: the images (relative to their folder), their labels, the names of
the classes where these are known, and for the float baseline and for every target a list of class indices in
the same order, and one of their probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgefx.errors import DataError
from edgefx.harmless import line
from edgefx.storage.regular import read_bytes

NAME = "predictions.json"
VERSION = 1
_MOST_BYTES = 256 * 10**6  # a hundred times what a run with 50,000 images writes


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The best class of each evaluation image.

    Attributes:
        images: Files, relative to the folder of evaluation images.
        labels: The class index of each; None when unlabelled.
        baseline: Best classes of the float Keras model.
        targets: Best classes of each target's artifact; None where it was measured on other images only.
        class_names: Names by index; empty where they are unknown.
        baseline_confidence: The baseline's probabilities of its best classes; empty in files of an earlier
            version.
        confidence: Those of each target's artifact, likewise.
    """

    images: tuple[str, ...]
    labels: tuple[int, ...] | None
    baseline: tuple[int, ...]
    targets: Mapping[str, tuple[int | None, ...]]
    class_names: tuple[str, ...] = ()
    baseline_confidence: tuple[float, ...] = ()
    confidence: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


def read(path: Path) -> Predictions:
    """Read ``predictions.json``.

    Raises:
        DataError: It is missing, or not what a run writes.
    """
    from edgefx.storage.serde import from_json, loads

    try:
        document = loads(read_bytes(path, limit_bytes=_MOST_BYTES))
        version = document["schema_version"]
        found = from_json(Predictions, document)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = line(str(error).partition("\n")[0])
        raise DataError(f"{path}: no predictions of edgefx: {reason}") from error
    if version != VERSION:
        raise DataError(
            f"{path}: predictions of version {line(str(version), most=40)},"
            f" this edgefx reads version {VERSION}"
        )
    answers = {"labels": found.labels, "baseline": found.baseline, **found.targets}
    for name, classes in answers.items():
        if classes is not None:
            _check_count(path, name, len(classes), "classes", found)
        if any(index is not None and index < 0 for index in classes or ()):
            raise DataError(f"{path}: no predictions of edgefx: {name} has a class below 0")
    sure = {"baseline_confidence": found.baseline_confidence, **found.confidence}
    for name, shares in sure.items():
        if shares:
            _check_count(path, name, len(shares), "probabilities", found)
        if any(share is not None and not 0 <= share <= 1 for share in shares):
            raise DataError(f"{path}: no predictions of edgefx: {name} has a probability outside 0 to 1")
    return found


def _check_count(path: Path, name: str, count: int, what: str, found: Predictions) -> None:
    if count != len(found.images):
        raise DataError(
            f"{path}: no predictions of edgefx: {name} has {count} {what} for {len(found.images)} images"
        )
