"""A training's state on disk after each epoch: complete or absent, and only for the same training."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import UsageError
from edgefx.quantization import QatSettings
from edgefx.storage.atomic import replacing
from edgefx.storage.regular import open_regular
from edgefx.training import TrainingEpoch
from edgefx.types import ImageSet

if TYPE_CHECKING:
    from edgefx.types import ModelSpec

    Arrays = list[NDArray[Any]]

NAME = "qat-checkpoint.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """All that a training needs to go on.

    Attributes:
        epochs: Those that are done, the start first.
        variables: Weights, biases and scales.
        optimizers: Variables of the optimizers.
        best: Weights, biases and scales of the best epoch.
    """

    epochs: tuple[TrainingEpoch, ...]
    variables: Arrays
    optimizers: Arrays
    best: Arrays


def fingerprint(
    spec: ModelSpec, images: ImageSet, settings: QatSettings, start: Sequence[NDArray[Any]]
) -> str:
    """Return a hash of what a training is about; the patience may change between two parts of it."""
    digest = hashlib.sha256()
    described = asdict(replace(settings, patience=1))
    digest.update(json.dumps([spec.sha256, images.sha256, len(images), described], default=str).encode())
    for array in start:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save(folder: Path, state: State, *, identity: str) -> Path:
    """Write the state completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / NAME
    notes = json.dumps({"identity": identity, "epochs": [asdict(epoch) for epoch in state.epochs]})
    arrays: dict[str, Any] = {"notes": np.array(notes)}
    for kind in ("variables", "optimizers", "best"):
        arrays |= {f"{kind}/{number:05}": value for number, value in enumerate(getattr(state, kind))}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as made, made.open("wb") as stream:
        np.savez(stream, **arrays)
    return path


def load(folder: Path, *, identity: str) -> State | None:
    """Read a state back; None where there is none.

    Raises:
        UsageError: The checkpoint is damaged, or of another model, other images or other settings.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
            notes = json.loads(str(file["notes"]))
            parts = {
                kind: [file[name] for name in sorted(file.files) if name.startswith(f"{kind}/")]
                for kind in ("variables", "optimizers", "best")
            }
            epochs = tuple(TrainingEpoch(**epoch) for epoch in notes["epochs"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: damaged checkpoint", hint="delete it, or train without --resume"
        ) from error
    if notes["identity"] != identity:
        raise UsageError(
            f"{path}: the checkpoint belongs to another model, other images or other settings",
            hint="resume with the options that the training was begun with, or train without --resume",
        )
    return State(epochs=epochs, **parts)
