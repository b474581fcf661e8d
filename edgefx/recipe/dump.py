"""`Recipe` -> YAML that `load` makes the same recipe of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from edgefx.recipe.schema import Recipe
from edgefx.recipe.yaml_text import resolve


class _Dumper(yaml.SafeDumper):
    """Quotes what `yaml_text` would not read as text, besides what YAML 1.1 would not."""

    def represent_text(self, text: str) -> yaml.Node:
        escaped = text.replace("${", "$${")
        try:
            plain = isinstance(resolve(escaped), str)
        except ValueError:
            plain = False
        style = None if plain else "'"
        if not escaped.isprintable():
            style = '"'  # the only one that has escapes
        return self.represent_scalar("tag:yaml.org,2002:str", escaped, style=style)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(recipe: Recipe, *, folder: Path | None = None, everything: bool = False) -> str:
    """Write a recipe as YAML.

    Args:
        recipe: The recipe.
        folder: Where the text is going to be; input paths are written relative to it. None leaves them alone.
        everything: Also write keys that have their defaults.
    """
    document = to_document(recipe, everything=everything)
    if folder is not None:
        _relocate(document, lambda text: relative(Path(text), folder))
    return dump(document)


def to_lock(recipe: Recipe) -> dict[str, Any]:
    """Return what a lock file records: every key, targets as mappings, paths that hold from any folder."""
    document = to_document(recipe, everything=True)
    document["targets"] = [{"target": one} if isinstance(one, str) else one for one in document["targets"]]
    _relocate(document, lambda text: str(Path(text).absolute()))
    return document


def to_document(recipe: Recipe, *, everything: bool = False) -> dict[str, Any]:
    """Return a recipe's keys and values as JSON has them, in the order of the schema."""
    document = recipe.model_dump(mode="json", exclude_defaults=not everything)
    document = {"version": recipe.version, **document}
    if "quantize" in document:
        document["quantize"] = {"method": recipe.quantize.method, **document["quantize"]}
    # Of a target, null says something: it takes a budget or a limit away.
    targets = [section.model_dump(mode="json", exclude_unset=True) for section in recipe.targets]
    document["targets"] = [said["target"] if list(said) == ["target"] else said for said in targets]
    if not everything:
        for name in ("evaluate", "benchmark"):
            if getattr(recipe, name) is None:
                document[name] = None
        if list(document["model"]) == ["source"]:
            document["model"] = document["model"]["source"]
    return document


def dump(document: Mapping[str, Any]) -> str:
    """Write keys and values as YAML."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _relocate(document: dict[str, Any], move: Callable[[str], str]) -> None:
    """Change every input path of a document."""
    for section, key in (("calibration", "images"), ("evaluate", "images"), ("quantize", "train")):
        value = document.get(section)
        if isinstance(value, dict) and value.get(key):
            value[key] = move(value[key])
    model = document["model"]
    if isinstance(model, dict):
        if Path(model["source"]).exists():
            model["source"] = move(model["source"])
        if model.get("weights") and Path(model["weights"]).is_file():
            model["weights"] = move(model["weights"])
        for key in ("custom_objects", "labels"):
            if model.get(key):
                model[key] = move(model[key])
    elif Path(model).exists():
        document["model"] = move(model)


def relative(path: Path, folder: Path) -> str:
    """Return a relative path as seen from a folder; an absolute one as it is.

    Symbolic links stay as they were named, wherever that leads to the same place.
    """
    if path.is_absolute():
        return str(path)
    text = os.path.relpath(path, folder)
    if (folder / text).resolve() == path.resolve():
        return text
    return os.path.relpath(path.resolve(), folder.resolve())
