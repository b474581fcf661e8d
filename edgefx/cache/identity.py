"""What a model is by content: the part of its stages' keys that says which model it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefx.cache.entry import Json
    from edgefx.recipe.schema import ModelSection
    from edgefx.storage.hashes import FileHashes


def model(section: ModelSection, *, seed: int, hashes: FileHashes) -> dict[str, Json]:
    """Identify a model by content.

    Raises:
        OSError: Its file cannot be read; loading it says why.
    """
    from edgefx.models import hub, zoo
    from edgefx.models.formats import PYTORCH

    options: dict[str, Json] = {
        "classes": section.classes,
        "input_size": section.input_size,
        "task": section.task,
        "head": section.head,
        "pixels": section.pixels,
        "threshold": section.threshold,
    }
    if section.custom_objects is not None:
        options["custom_objects"] = hashes.sha256(section.custom_objects)
    family = zoo.known(section.source)
    if family is None:
        path = hub.located(section.source)
        return {**options, "suffix": path.suffix, "content": hashes.content(path)}
    weights = section.weights or family.weights[0]
    if weights == zoo.RANDOM:
        content = f"seed {seed}"
    elif weights == zoo.PACKAGED:
        content = hashes.sha256(zoo.DIGITS_WEIGHTS)
    elif weights == zoo.IMAGENET:
        content = "as published: Keras checks the hash of what it downloads"
    else:
        path = Path(weights)
        weights, content = "file", hashes.content(path)
        if path.suffix.lower() in PYTORCH:  # which say by their name what they were trained with
            options["variant"] = [path.name, _content_of(path.with_name("config.json"), hashes)]
    return {**options, "family": family.name, "weights": weights, "content": content}


def _content_of(path: Path, hashes: FileHashes) -> str | None:
    return hashes.content(path) if path.is_file() else None
