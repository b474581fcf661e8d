"""Each image's best class, per target: what `edgefx diff` compares image by image.

``predictions.json`` is one JSON document: the images (relative to their folder), their labels, the names of
the classes where these are known, and for the float baseline and for every target a list of class indices in
the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    images: tuple[str, ...]
    labels: tuple[int, ...] | None
    baseline: tuple[int, ...]
    targets: Mapping[str, tuple[int | None, ...]]
    class_names: tuple[str, ...] = ()


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
        if classes is not None and len(classes) != len(found.images):
            raise DataError(
                f"{path}: no predictions of edgefx: {name} has {len(classes)} classes for"
                f" {len(found.images)} images"
            )
        if any(index is not None and index < 0 for index in classes or ()):
            raise DataError(f"{path}: no predictions of edgefx: {name} has a class below 0")
    return found
