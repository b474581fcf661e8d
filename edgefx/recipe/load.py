"""A recipe file -> `Recipe`, or all of its mistakes, each with its place.

The way of a file: text -> tree (`yaml_text`) -> with what it extends and what the command line says
(`compose`) -> variables replaced (`environment`) -> one tree for each run of the matrix (`expand`) -> held
against the schema (`check`) and itself (`crosscheck`) -> `Recipe`. Only the last step imports Pydantic.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import UnknownNameError, UsageError
from edgefx.recipe.options import BY_PATH, Wording
from edgefx.system import resources

if TYPE_CHECKING:
    from edgefx.recipe.compose import Setting
    from edgefx.recipe.schema import Recipe

_METHODS = ("ptq", "qat", "none")  # Pydantic names the section's kind in the place of a mistake
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class NamedRecipe:
    """One run of a recipe file.

    Attributes:
        name: Name of its combination in the matrix, "" without a matrix; also its folder inside the output.
        recipe: What to do.
        wording: How messages name what it says.
    """

    name: str
    recipe: Recipe
    wording: Wording = BY_PATH


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One run of a recipe file, free of mistakes: keys and values, input paths resolved.

    Attributes:
        name: As in `NamedRecipe`.
        document: What `Recipe` is made of.
    """

    name: str
    document: Mapping[str, Any]


def shipped() -> dict[str, Path]:
    """Return the recipes that come with edgefx, by name."""
    return {path.stem: path for path in sorted(resources.folder("recipes").glob("*.yaml"))}


def find(name_or_path: str, folder: Path = Path()) -> Path:
    """Resolve a recipe's path, or the name of a shipped recipe, to a file.

    Args:
        name_or_path: What a user wrote.
        folder: What a relative path is relative to.

    Raises:
        UsageError: There is no such recipe; names the nearest shipped one.
    """
    if name_or_path.endswith(_SUFFIXES):
        path = folder / name_or_path
        try:
            exists = path.is_file()
        except (OSError, ValueError):
            exists = False
        if not exists:
            raise UsageError(f"{path}: no such recipe file", hint=f"shipped recipes: {', '.join(shipped())}")
        return path
    if name_or_path not in shipped():
        raise UnknownNameError("recipe", name_or_path, shipped(), hint="(or give the path of a .yaml file)")
    return shipped()[name_or_path]


def load(path: Path, settings: Iterable[Setting] = (), *, targets: Sequence[str] = ()) -> Recipe:
    """Read a recipe file that describes one run; see `load_runs`.

    Raises:
        UsageError: Also when it has a matrix.
    """
    runs = load_runs(path, settings, targets=targets)
    if len(runs) != 1 or runs[0].name:
        raise UsageError(f"{path}: has a matrix of {len(runs)} runs", hint="run it with: edgefx run")
    return runs[0].recipe


def load_runs(
    path: Path, settings: Iterable[Setting] = (), *, targets: Sequence[str] = ()
) -> tuple[NamedRecipe, ...]:
    """Read a recipe file: one recipe, or one for each combination of its matrix.

    Args:
        path: A YAML file.
        settings: Values of the command line, which replace the file's.
        targets: Globs that replace the recipe's targets; what the recipe says of single targets still holds.

    Raises:
        RecipeError: All mistakes of the file, and of those that it extends.
        UsageError: A file cannot be read.
    """
    return tuple(
        NamedRecipe(name=one.name, recipe=_in_folder(parse(one.document, where=str(path)), one.name))
        for one in check(path, settings, targets=targets)
    )


def check(
    path: Path, settings: Iterable[Setting] = (), *, targets: Sequence[str] = ()
) -> tuple[Checked, ...]:
    """Look for the mistakes of a recipe file, without importing what takes time; see `load_runs`.

    Raises:
        RecipeError: All mistakes.
        UsageError: A file cannot be read.
    """
    from edgefx.recipe import compose
    from edgefx.recipe.check import Checker
    from edgefx.recipe.crosscheck import CrossChecker
    from edgefx.recipe.environment import interpolate
    from edgefx.recipe.expand import expand
    from edgefx.recipe.formats import resolved_path
    from edgefx.recipe.tree import Diagnostic, Map, RecipeError, Scalar, at

    tree = compose.apply(compose.read_tree(path, find), settings)
    found: list[Diagnostic] = []
    whole = interpolate(tree, os.environ, found)
    assert isinstance(whole, Map)
    narrow = at(whole, "matrix", "targets") is not None
    checked = []
    checker = Checker()
    for name, one in expand(whole):
        run = compose.only(one, tuple(targets), narrow=narrow)
        if run is None:
            continue
        document = checker.check(run)
        folders = {}
        for key in ("calibration.images", "evaluate.images", "quantize.train"):
            node = at(run, *key.split("."))
            if isinstance(node, Scalar) and at_path(document, key) is not None:
                folders[key] = resolved_path(node)
        found += CrossChecker(run, folders, has_model="model" in document).check()
        checked.append(Checked(name=name, document=document))
    if checker.found or found:
        raise RecipeError([*checker.found, *found])
    if not checked:
        raise UsageError(
            f"{path}: no run of its matrix has a target that matches {', '.join(targets)}",
            hint="see: edgefx recipe show",
        )
    return tuple(checked)


def at_path(document: Mapping[str, Any], dotted: str) -> Any:
    """Return the value of a dotted key, or None."""
    value: Any = document
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def parse(document: Mapping[str, Any], *, where: str, wording: Wording = BY_PATH) -> Recipe:
    """Validate a mapping; `where` is named in errors, and its keys as `wording` says.

    Raises:
        UsageError: Names every wrong key at once.
    """
    from pydantic import ValidationError

    from edgefx.recipe.schema import Recipe

    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"] if part not in _METHODS)
            lines.append(f"{wording.name(key)}: {item['msg']}")
        raise UsageError(f"{where}: not a valid recipe", details=lines) from error


def _in_folder(recipe: Recipe, name: str) -> Recipe:
    """Give each run of a matrix a folder of its own."""
    return recipe.model_copy(update={"output": recipe.output / name}) if name else recipe
