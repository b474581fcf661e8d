"""One tree out of several: ``extends``, and options of the command line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx.errors import UsageError
from edgefx.recipe.environment import interpolate
from edgefx.recipe.tree import (
    Diagnostic,
    Entry,
    Map,
    Node,
    RecipeError,
    Scalar,
    Sequence,
    Source,
    Span,
    quoted,
)
from edgefx.recipe.yaml_text import MAX_CHARACTERS, parse
from edgefx.storage.regular import open_regular

OF_THE_FILE = ("extends", "version")


@dataclass(frozen=True, eq=False)
class Setting:
    """A value given on the command line for a key of the recipe.

    Attributes:
        path: The key.
        key: Where the key is written.
        value: The value.
    """

    path: tuple[str, ...]
    key: Span
    value: Node


# --------------------------------------------------------------------------------------------- files, extends


def read(path: Path, *, shown: str | None = None) -> Source:
    """Read a recipe file.

    Raises:
        UsageError: It is not there, too large, or not UTF-8.
    """
    name = shown or str(path)
    try:
        with open_regular(path) as file:
            content = file.read(4 * MAX_CHARACTERS + 1)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:  # a null character in the path
        raise UsageError(f"{name}: not a path: {error}", hint="check the path") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start].decode("utf-8-sig", errors="replace")
        source = Source(name, good, path.parent)
        line, column = source.position(len(good))
        raise UsageError(
            f"{name}:{line}:{column}: not a UTF-8 text: byte 0x{content[error.start]:02x}",
            hint="save the file as UTF-8",
        ) from error
    return Source(name, text, path.parent)


def read_tree(path: Path, find: Callable[[str, Path], Path], *, below: tuple[Path, ...] = ()) -> Map:
    """Read a recipe and those that it extends.

    Args:
        path: The recipe.
        find: Turns what ``extends`` says, in a file of some folder, into a path.
        below: The recipes that extend this one.

    Raises:
        RecipeError: One is not a mapping, is of another version, or they extend each other in a circle.
    """
    source = read(path)
    tree = parse(source)
    if not isinstance(tree, Map):
        raise RecipeError(
            [Diagnostic("a recipe is a mapping of keys", tree.span, "such as 'version: 1' and 'model: b0'")]
        )
    _check_version(tree, source)
    entry = tree.entries.get("extends")
    if entry is None:
        return tree
    found: list[Diagnostic] = []
    value = interpolate(entry.value, os.environ, found)
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        found.append(Diagnostic("'extends' takes the path of one recipe", value.span, "extends: base.yaml"))
    if found:
        raise RecipeError(found)
    assert isinstance(value, Scalar)
    try:
        base_path = find(value.text, Path() if value.from_environment else source.folder)
    except UsageError as error:
        is_path = value.text.endswith((".yaml", ".yml"))
        hint = "a path is relative to this file" if is_path else error.hint
        raise RecipeError([Diagnostic(error.message, value.span, hint)]) from error
    chain = (*below, path)
    real = [one.resolve() for one in chain]
    if base_path.resolve() in real:
        names = [str(one) for one in chain[real.index(base_path.resolve()) :]] + [str(base_path)]
        message = f"recipes extend each other in a circle: {' -> '.join(names)}"
        raise RecipeError([Diagnostic(message, value.span, "take one of these 'extends' out")])
    return merge(read_tree(base_path, find, below=chain), tree.without("extends"))


def _check_version(tree: Map, source: Source) -> None:
    version = tree.get("version")
    if version is None:
        first = next(iter(tree.entries.values()), None)
        span = first.key if first else Span(source, 0, 1)
        raise RecipeError([Diagnostic("the key 'version' is missing", span, "begin with: version: 1")])
    if not isinstance(version, Scalar) or isinstance(version.value, bool) or version.value != 1:
        shown = quoted(version.text) if isinstance(version, Scalar) else "this"
        raise RecipeError(
            [
                Diagnostic(
                    f"{shown} is not a version of recipes that this edgefx reads", version.span, "version: 1"
                )
            ]
        )


def merge(base: Map, over: Map) -> Map:
    """Return `base` with what `over` says: mappings are merged, everything else is replaced.

    A section of another ``method`` replaces the whole section: its keys mean something else.
    """
    result = base
    for key, entry in over.entries.items():
        below, above = base.get(key), entry.value
        if key == "model" and isinstance(above, Map):
            below = _as_section(below)
        if isinstance(below, Map) and isinstance(above, Map) and not _differ(below, above, "method"):
            entry = Entry(entry.key, merge(below, above))  # noqa: PLW2901 - the merged one
        result = result.with_entry(key, entry)
    return Map(result.entries, over.span)


def _differ(one: Map, other: Map, key: str) -> bool:
    texts = [node.text for node in (one.get(key), other.get(key)) if isinstance(node, Scalar)]
    return len(texts) == 2 and texts[0] != texts[1]


def _as_section(model: Node | None) -> Node | None:
    """A model's name alone stands for a section of which only the source is given."""
    if isinstance(model, Scalar) and isinstance(model.value, str):
        return Map({"source": Entry(model.span, model)}, model.span)
    return model


# ------------------------------------------------------------------------------------------------- settings


def setting(argument: str) -> Setting:
    """Parse the argument of ``--set``: a dotted key, and a value in YAML.

    Raises:
        UsageError: It is not ``key=value``, or the value is not YAML.
    """
    key, equals, _ = argument.partition("=")
    source = Source("--set", argument, is_file=False)
    span = Span(source, 0, max(1, len(key)))
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise RecipeError(
            [Diagnostic("not a key and a value", span, "for example --set gates.max_drop=0.5pp")]
        )
    if path[0] in OF_THE_FILE:
        raise RecipeError([Diagnostic(f"{quoted(path[0])} belongs to the file", span, "write it there")])
    return Setting(path, span, parse(source, start=len(key) + 1))


def option(name: str, path: tuple[str, ...], value: str) -> Setting:
    """Make a setting of an option that stands for one key."""
    source = Source(name, value, is_file=False)
    span = Span(source, 0, max(1, len(value)))
    return Setting(path, span, Scalar(value, value, plain=False, span=span))


def apply(tree: Map, settings: Iterable[Setting]) -> Map:
    """Return the tree with each setting in it.

    Raises:
        RecipeError: A key leads through a value that has no keys; all of these at once.
    """
    found: list[Diagnostic] = []
    for one in settings:
        changed = _assigned(tree, one.path, one, found)
        assert isinstance(changed, Map)
        tree = changed
    if found:
        raise RecipeError(found)
    return tree


def _assigned(node: Node | None, path: tuple[str, ...], one: Setting, found: list[Diagnostic]) -> Node:
    if not path:
        return one.value
    head, *rest = path
    if one.path[0] == "model" and len(path) == len(one.path) - 1:
        node = _as_section(node)
    if isinstance(node, Sequence) and head.isdecimal() and int(head) < len(node.items):
        items = list(node.items)
        items[int(head)] = _assigned(items[int(head)], tuple(rest), one, found)
        return replace(node, items=tuple(items))
    if node is None or (isinstance(node, Scalar) and node.value is None):
        node = Map({}, one.key)
    if not isinstance(node, Map):
        what = "has no such item" if isinstance(node, Sequence) else "is a value without keys"
        above = ".".join(one.path[: len(one.path) - len(path)])
        found.append(Diagnostic(f"{quoted(above)} {what}", one.key, f"its value is {_shown(node)}"))
        return node
    return node.with_entry(head, Entry(one.key, _assigned(node.get(head), tuple(rest), one, found)))


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return quoted(node.text)
    return f"a list of {len(node.items)}" if isinstance(node, Sequence) else "a mapping"


def only(tree: Map, patterns: tuple[str, ...], *, narrow: bool) -> Map | None:
    """Replace the targets by some globs; what the recipe says of single targets holds for those left.

    Args:
        tree: One run.
        patterns: Names and globs.
        narrow: Take only targets that the recipe has; None when none is left.
    """
    from edgefx import targets

    if not patterns:
        return tree
    wanted = [option("--target", ("targets",), pattern).value for pattern in patterns]
    span = wanted[0].span
    names = _matching(patterns)
    given = tree.get("targets")
    items = given.items if isinstance(given, Sequence) else (given,) if given else ()
    sections: list[Node] = []
    present: set[str] = set()
    for item in items:
        pattern = item.get("target") if isinstance(item, Map) else item
        if not isinstance(pattern, Scalar):
            continue
        here = [name for name in _matching((pattern.text,)) if name in names]
        present.update(here)
        if isinstance(item, Map) and here:
            text = ",".join(here)
            sections.append(
                item.with_entry("target", Entry(pattern.span, replace(pattern, value=text, text=text)))
            )
    if narrow:
        if not present:
            return None
        wanted = [Scalar(name, name, plain=True, span=span) for name in targets.ALL if name in present]
    return tree.with_entry("targets", Entry(span, Sequence((*wanted, *sections), span)))


def _matching(patterns: tuple[str, ...]) -> list[str]:
    """Return the targets that globs match; what matches none is left for the check to refuse."""
    from edgefx import targets

    found: list[str] = []
    for part in (part for pattern in patterns for part in pattern.split(",")):
        with contextlib.suppress(UsageError):
            found += [row.name for row in targets.select((part,)) if row.name not in found]
    return found
