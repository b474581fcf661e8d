"""A `Recipe` as a document of plain values that gives the same recipe again: what a lock file records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefx.recipe.schema import Recipe

_PATHS = (("calibration", "images"), ("evaluate", "images"), ("quantize", "train"))
_NAMES_OR_PATHS = (("model", "source"), ("model", "weights"))


def document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe with every default written out and every input path absolute."""
    result = recipe.model_dump(mode="json")
    # What a target does not say is not the same as what it says to be nothing.
    result["targets"] = [section.model_dump(mode="json", exclude_unset=True) for section in recipe.targets]
    for section, key in (*_PATHS, *_NAMES_OR_PATHS):
        values = result.get(section)
        if not values or not values.get(key):
            continue
        path = Path(values[key])
        if (section, key) in _PATHS or path.exists():
            values[key] = str(path.absolute())
    return result
