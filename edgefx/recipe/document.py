"""A `Recipe` as a document of plain values that gives the same recipe again: what a lock file records."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from edgefx.recipe.schema import GatesSection, Recipe, TargetSection
from edgefx.results import MaxDrop

if TYPE_CHECKING:
    from edgefx.cache.store import Json


def document(recipe: Recipe) -> dict[str, Json]:
    """Return a recipe with every default written out and every path absolute."""
    result = _section(recipe)
    model = _section(recipe.model)
    for name in ("source", "weights"):  # names, or paths
        path = Path(str(model[name] or ""))
        if model[name] and path.exists():
            model[name] = str(path.absolute())
    return {**result, "model": model}


def _section(section: BaseModel, *, only_given: bool = False) -> dict[str, Json]:
    # What a target does not say is not the same as what it says to be nothing.
    only_given = only_given or isinstance(section, TargetSection)
    return {
        name: _plain(name, value, only_given=only_given)
        for name, value in section
        if not only_given or name in section.model_fields_set
    }


def _plain(  # noqa: PLR0911 - one line per kind of value
    name: str, value: object, *, only_given: bool = False
) -> Json:
    if isinstance(value, BaseModel):
        return _section(value, only_given=only_given and isinstance(value, GatesSection))
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if name == "max_size" and isinstance(value, int):
        return f"{value}B"
    if isinstance(value, MaxDrop):
        return str(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Path):
        return str(value.absolute())
    assert value is None or isinstance(value, (bool, int, float, str)), f"{name}: {type(value).__name__}"
    return value
