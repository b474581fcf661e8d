"""``${NAME}`` and ``${NAME:-default}`` in the values of a recipe file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from edgefx.recipe.tree import Diagnostic, Entry, Map, Node, Scalar, Sequence, Span, quoted
from edgefx.recipe.yaml_text import resolve

_VARIABLE = re.compile(
    r"\$\$\{"  # an escape: $${ stands for ${
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<malformed>\$\{)"
)


def interpolate(node: Node, environ: Mapping[str, str], found: list[Diagnostic]) -> Node:
    """Return the tree with variables replaced; options of the command line are the shell's to expand.

    A default also stands in for a variable that is empty, as in a shell. What a plain value means is decided
    after the replacement: ``${THREADS:-2}`` is a number.

    Args:
        node: The tree.
        environ: The variables.
        found: Gets what is wrong.
    """
    if isinstance(node, Map):
        return Map(
            {
                key: Entry(entry.key, interpolate(entry.value, environ, found))
                for key, entry in node.entries.items()
            },
            node.span,
        )
    if isinstance(node, Sequence):
        return replace(node, items=tuple(interpolate(item, environ, found) for item in node.items))
    if "${" not in node.text or not node.span.source.is_file:
        return node
    return _interpolated(node, environ, found)


def _interpolated(node: Scalar, environ: Mapping[str, str], found: list[Diagnostic]) -> Scalar:
    from_environment = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal from_environment
        if match[0] == "$${":
            return "${"
        span = _within(node, match[0])
        if match["malformed"]:
            found.append(
                Diagnostic(
                    "'${' without a variable's name and '}'",
                    span,
                    "write ${NAME} or ${NAME:-default}; $${ for a literal ${",
                )
            )
            return ""
        name, default = match["name"], match["default"]
        value = environ.get(name, "")
        if value:
            from_environment |= match.start() == 0
            return value
        if default is None:
            what = "is empty" if name in environ else "is not set"
            found.append(
                Diagnostic(
                    f"the environment variable {name} {what}",
                    span,
                    f"set it, override the key with --set, or give a default: ${{{name}:-value}}",
                )
            )
        return default or ""

    before = len(found)
    text = _VARIABLE.sub(value_of, node.text)
    value: str | int | float | bool | None = text
    if node.plain and len(found) == before:
        try:
            value = resolve(text)
        except ValueError as error:
            found.append(Diagnostic(f"{error}, in {quoted(text)}", node.span))
    broken = len(found) > before
    return replace(node, value=value, text=text, from_environment=from_environment, broken=broken)


def _within(node: Scalar, part: str) -> Span:
    """Return where `part` stands in a scalar; all of it where escapes or folded lines hide that."""
    written = node.span.source.text[node.span.start : node.span.end]
    offset = written.find(part)
    if offset < 0:
        return node.span
    start = node.span.start + offset
    return Span(node.span.source, start, start + len(part))
