"""YAML -> `Recipe`, or an error that names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgefx import resources
from edgefx.errors import UnknownNameError, UsageError
from edgefx.recipe.schema import QatSection, Recipe


def shipped() -> dict[str, Path]:
    """Return the recipes that come with edgefx, by name."""
    return {path.stem: path for path in sorted(resources.folder("recipes").glob("*.yaml"))}


def find(name_or_path: str) -> Path:
    """Resolve a recipe's path, or the name of a shipped recipe, to a file.

    Raises:
        UsageError: There is no such recipe; names the nearest shipped one.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"{path}: no such recipe file", hint=f"shipped recipes: {', '.join(shipped())}")
        return path
    if name_or_path not in shipped():
        raise UnknownNameError("recipe", name_or_path, shipped(), hint="(or give the path of a .yaml file)")
    return shipped()[name_or_path]


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file; relative paths in it are relative to the file.

    Args:
        path: A YAML file.
        overrides: Top-level keys that replace the file's.

    Raises:
        UsageError: The file is not YAML, or not a recipe; every wrong key is named.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a YAML file: {_one_line(error)}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys, such as 'model:' and 'targets:'")
    recipe = parse({**document, **(overrides or {})}, where=str(path))
    return _relative_to(recipe, path.parent, given=set(overrides or ()))


def parse(document: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a mapping; `where` is named in errors.

    Raises:
        UsageError: Names every wrong key at once.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise UsageError(f"{where}: not a valid recipe", details=lines) from error


def _relative_to(recipe: Recipe, base: Path, *, given: set[str]) -> Recipe:
    """Anchor the recipe's relative input paths at its folder; what the command line gave stays as it is."""
    changes: dict[str, Any] = {}
    if recipe.calibration and recipe.calibration.images and "calibration" not in given:
        images = base / recipe.calibration.images
        changes["calibration"] = recipe.calibration.model_copy(update={"images": images})
    if isinstance(recipe.quantize, QatSection) and recipe.quantize.train and "quantize" not in given:
        changes["quantize"] = recipe.quantize.model_copy(update={"train": base / recipe.quantize.train})
    if recipe.evaluate and recipe.evaluate.images and "evaluate" not in given:
        images = base / recipe.evaluate.images
        changes["evaluate"] = recipe.evaluate.model_copy(update={"images": images})
    if "model" not in given and (base / recipe.model.source).exists():
        changes["model"] = recipe.model.model_copy(update={"source": str(base / recipe.model.source)})
    return recipe.model_copy(update=changes)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
