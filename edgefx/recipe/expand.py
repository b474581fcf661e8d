"""``matrix``: one tree for each combination of values, with a name of its own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from edgefx.recipe.compose import OF_THE_FILE, Setting, apply
from edgefx.recipe.tree import Diagnostic, Map, Node, RecipeError, Scalar, Sequence, Span, at, quoted, scalars

MAX_RUNS = 256
_LABEL = re.compile(r"[^A-Za-z0-9._+-]+")
_LONGEST_LABEL = 40


def expand(tree: Map) -> tuple[tuple[str, Map], ...]:
    """Return one tree for each combination of the matrix, named; the tree itself, named "", without one.

    Each axis is a dotted key of the recipe with the values that it takes. ``exclude`` lists combinations to
    leave out: those that have all the values it names.

    Raises:
        RecipeError: An axis is not a list of values, or nothing or too much is left.
    """
    entry = tree.entries.get("matrix")
    if entry is None:
        return (("", tree),)
    tree = tree.without("matrix")
    matrix = entry.value
    if isinstance(matrix, Scalar) and matrix.value is None and not matrix.broken:
        return (("", tree),)
    if not isinstance(matrix, Map):
        raise RecipeError(
            [Diagnostic("a matrix is a mapping of keys to lists", matrix.span, "matrix: {model: [b0, b1]}")]
        )
    axes, excluded = _axes(matrix)
    count = 1
    for _, _, values in axes:
        count *= len(values)
    if count > MAX_RUNS:
        raise RecipeError([Diagnostic(f"{count} runs; {MAX_RUNS} at most", entry.key, "use fewer values")])
    runs: dict[str, Map] = {}
    for values in itertools.product(*(values for _, _, values in axes)):
        chosen = dict(zip((name for name, _, _ in axes), values, strict=True))
        if any(_matches(one, chosen) for one in excluded):
            continue
        settings = [
            Setting(tuple(name.split(".")), key, value)
            for (name, key, _), value in zip(axes, values, strict=True)
        ]
        name = "_".join(filter(None, (_label(value) for value in values))) or "run"
        unique = next(
            candidate
            for candidate in itertools.chain((name,), (f"{name}-{number}" for number in itertools.count(2)))
            if candidate not in runs
        )
        runs[unique] = apply(tree, settings)
    if not runs:
        raise RecipeError([Diagnostic("the matrix has no run left", entry.key, "exclude less")])
    return tuple(runs.items())


def _axes(matrix: Map) -> tuple[list[tuple[str, Span, tuple[Node, ...]]], list[Map]]:
    found: list[Diagnostic] = []
    axes: list[tuple[str, Span, tuple[Node, ...]]] = []
    for name, entry in matrix.entries.items():
        value = entry.value
        if not isinstance(value, Sequence) or not value.items:
            found.append(
                Diagnostic(f"{quoted(name)} needs a list of values", value.span, f"{name}: [first, second]")
            )
        elif name != "exclude":
            if not all(name.split(".")) or name in (*OF_THE_FILE, "matrix", "output"):
                found.append(Diagnostic(f"{quoted(name)} is no key that a matrix can vary", entry.key))
            axes.append((name, entry.key, value.items))
    names = {name for name, _, _ in axes}
    excluded = []
    exclude = matrix.get("exclude")
    for item in exclude.items if isinstance(exclude, Sequence) else ():
        if not isinstance(item, Map) or not item.entries:
            found.append(
                Diagnostic("'exclude' lists mappings of axes to values", item.span, "exclude: [{model: b0}]")
            )
            continue
        for key, entry in item.entries.items():
            if key not in names:
                hint = f"axes: {', '.join(names)}"
                found.append(Diagnostic(f"{quoted(key)} is no axis of the matrix", entry.key, hint))
        excluded.append(item)
    if not axes and not found:
        found.append(Diagnostic("the matrix has no axis", matrix.span, "matrix: {model: [b0, b1]}"))
    if found:
        raise RecipeError(found)
    return axes, excluded


def _matches(pattern: Map, chosen: dict[str, Node]) -> bool:
    return all(_plain(entry.value) == _plain(chosen[key]) for key, entry in pattern.entries.items())


def _plain(node: Node | None) -> object:
    """Return the values of a tree, without their places."""
    if isinstance(node, Map):
        return {key: _plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return node.value if node is not None else None


def _label(node: Node) -> str:
    """Return what a value contributes to the name of a run, which is also the name of a folder."""
    if isinstance(node, Map):
        named = at(node, "source") or at(node, "method") or at(node, "target")
        rest = [one.text for one in scalars(node) if one is not named]
        texts = [*([_stem(named.text)] if isinstance(named, Scalar) else []), *rest]
    else:
        texts = [_stem(one.text) for one in scalars(node)]
    return _LABEL.sub("-", "+".join(texts).replace("*", "any"))[:_LONGEST_LABEL].strip("-.+")


def _stem(text: str) -> str:
    return Path(text).stem if "/" in text or text.endswith((".keras", ".h5")) else text
