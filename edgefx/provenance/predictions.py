"""Each image's best class, per target: what `edgefx diff` compares image by image.

``predictions.json`` is one JSON document: the images (relative to their folder), their labels, and for the
float baseline and for every target a list of class indices in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import DataError

if TYPE_CHECKING:
    from edgefx.run.imageset import Images

NAME = "predictions.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The best class of each evaluation image.

    Attributes:
        images: Files, relative to the folder of evaluation images.
        labels: The class index of each; None when unlabelled.
        baseline: Of the float Keras model.
        targets: Of each target's artifact.
    """

    images: tuple[str, ...]
    labels: tuple[int, ...] | None
    baseline: tuple[int, ...]
    targets: Mapping[str, tuple[int, ...]]


def write(
    out: Path, *, images: Images, baseline: Sequence[int], targets: Mapping[str, Sequence[int]]
) -> None:
    """Write ``predictions.json`` into the folder `out`, completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    from edgefx.report import write_text

    root = images.dataset.root
    document = {
        "schema_version": _VERSION,
        "images": [path.relative_to(root).as_posix() for path in images.paths],
        "labels": images.labels,
        "baseline": baseline,
        "targets": dict(targets),
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items())
    write_text(out / NAME, f"{{\n{lines}\n}}\n")


def remove(out: Path) -> None:
    """Remove the predictions of an earlier run, where this one has none.

    Raises:
        OSError: The folder cannot be written.
    """
    (out / NAME).unlink(missing_ok=True)


def read(path: Path) -> Predictions:
    """Read ``predictions.json``.

    Raises:
        DataError: It is missing, or not what `write` writes.
    """
    from edgefx.report.json import from_json

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["schema_version"]
        found = from_json(Predictions, document)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no predictions of edgefx: {str(error).splitlines()[0]}") from error
    if version != _VERSION:
        raise DataError(f"{path}: predictions of version {version}, this edgefx reads version {_VERSION}")
    return found
