"""Holds a recipe's tree against the JSON Schema of recipes, and finds all mistakes at once.

Pydantic, which the schema comes from, checks the result again; here nothing is imported that takes time, and
each mistake is shown where it was written. What JSON Schema cannot say is said by ``format``; see `formats`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from edgefx.errors import EdgefxError
from edgefx.recipe.formats import FORMATS
from edgefx.recipe.tree import Diagnostic, Map, Node, Scalar, Sequence, Span, quoted
from edgefx.system import resources

Schema: TypeAlias = Mapping[str, Any]
SCHEMA_NAME = "schema.json"

_MISSING = object()  # in place of a value that is wrong
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}
_SPOKEN = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def schema_file() -> Path:
    """Return the JSON Schema of recipe files."""
    return resources.folder("recipes") / SCHEMA_NAME


class Checker:
    """Checks trees.

    Attributes:
        found: What is wrong so far.
    """

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._schema: Schema = json.loads(schema_file().read_text(encoding="utf-8"))

    def check(self, tree: Map) -> dict[str, Any]:
        """Return the tree's values, input paths resolved; keys with mistakes are left out.

        Args:
            tree: With ``extends`` and ``matrix`` worked out.
        """
        for key in ("model", "targets"):
            if key not in tree.entries:
                first = next(iter(tree.entries.values()))
                hint = {"model": "model: b0", "targets": "targets: [tflite-int8]"}[key]
                self._say(f"the key '{key}' is missing", first.key, f"for example {hint}")
        value = self._value(tree, self._schema, "")
        assert isinstance(value, dict)
        return value

    def section(self, name: str) -> Schema:
        """Return the schema of a section by the name of its class."""
        found: Schema = self._schema["$defs"][name]
        return found

    def _say(self, message: str, span: Span, hint: str = "") -> object:
        self.found.append(Diagnostic(message, span, hint))
        return _MISSING

    # ---------------------------------------- by kind of schema

    def _value(self, node: Node, schema: Schema, key: str) -> object:
        """Return a node's value, or `_MISSING` after saying what is wrong with it."""
        if isinstance(node, Scalar) and node.broken:
            return _MISSING
        schema = self._resolved(schema)
        if "oneOf" in schema and "discriminator" in schema:
            return self._one_of_sections(node, schema, key)
        if "anyOf" in schema:
            fitting = [one for one in map(self._resolved, schema["anyOf"]) if _fits(node, one)]
            schema = fitting[0] if fitting else schema
        if "anyOf" in schema or not _fits(node, schema):
            return self._wrong_type(node, schema.get("anyOf", [schema]), key)
        if isinstance(node, Map):
            return self._object(node, schema, key)
        return (
            self._array(node, schema, key) if isinstance(node, Sequence) else self._scalar(node, schema, key)
        )

    def _resolved(self, schema: Schema) -> Schema:
        reference = schema.get("$ref")
        if reference is None:
            return schema
        return self.section(str(reference).rsplit("/", 1)[-1])

    def _one_of_sections(self, node: Node, schema: Schema, key: str) -> object:
        """Choose among sections by the key that tells them apart; the first section is the default."""
        if not isinstance(node, Map):
            return self._wrong_type(node, [{"type": "object"}], key)
        tag = str(schema["discriminator"]["propertyName"])
        mapping: Mapping[str, str] = schema["discriminator"]["mapping"]
        reference = schema["oneOf"][0]["$ref"]
        chosen = node.get(tag)
        if chosen is not None:
            names = list(mapping)
            if not isinstance(chosen, Scalar) or chosen.text not in mapping:
                return self._wrong_name(chosen, names, tag)
            reference = mapping[chosen.text]
        return self._object(node, self._resolved({"$ref": reference}), key)

    def _object(self, node: Map, schema: Schema, key: str) -> dict[str, object]:
        properties: Schema = schema.get("properties", {})
        others = schema.get("additionalProperties") or None  # of what keys the user names
        result: dict[str, object] = {}
        for name, entry in node.entries.items():
            if name not in properties and others is None:
                self._unknown_key(name, entry.key, properties, key)
                continue
            value = self._value(entry.value, properties.get(name, others), name)
            if value is not _MISSING:
                result[name] = value
        for name in schema.get("required", ()):
            if name not in node.entries and name != "version":
                self._say(f"the key '{name}' is missing{_inside(key)}", _first(node), f"add '{name}: ...'")
        return result

    def _array(self, node: Sequence, schema: Schema, key: str) -> object:
        if len(node.items) < schema.get("minItems", 0):
            return self._say(f"{quoted(key)} is empty", node.span, "name one at least")
        values = [self._value(item, schema.get("items", {}), key) for item in node.items]
        return [value for value in values if value is not _MISSING]

    def _scalar(self, node: Scalar, schema: Schema, key: str) -> object:
        allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
        if allowed is not None:
            known = any(node.value == one and type(node.value) is type(one) for one in allowed)
            return node.value if known else self._wrong_name(node, allowed, key)
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            problem = _out_of_bounds(node.value, schema)
            if problem and "format" not in schema:
                return self._say(f"{quoted(key)} must be {problem}, not {node.text}", node.span)
        if "minLength" in schema and not node.text.strip():
            return self._say(f"{quoted(key)} is empty", node.span, "give a value, or take the key out")
        form = FORMATS.get(str(schema.get("format")))
        if form is None:
            return node.value
        try:
            return form(node, key)
        except EdgefxError as error:
            return self._say(error.message, node.span, error.hint)

    # ---------------------------------------- what is said

    def _unknown_key(self, name: str, span: Span, properties: Schema, section: str) -> None:
        close = difflib.get_close_matches(name.lower(), properties, n=2, cutoff=0.6)
        elsewhere = [one for one in self._sections_with(name) if one != section]
        if elsewhere:
            hint = f"it belongs under {' or '.join(quoted(one) for one in elsewhere)}"
        elif close:
            hint = f"did you mean {' or '.join(quoted(one) for one in close)}?"
        else:
            hint = f"known: {', '.join(properties)}"
        self._say(f"unknown key {quoted(name)}{_inside(section)}", span, hint)

    def _sections_with(self, name: str) -> list[str]:
        """Return the sections of the recipe that have a key."""
        if not name:
            return []
        found = []
        for section, schema in self._schema["properties"].items():
            choices = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
            if any(name in self._resolved(one).get("properties", {}) for one in choices):
                found.append(section)
        return found

    def _wrong_name(self, node: Node, allowed: list[Any], key: str) -> object:
        names = [str(one) for one in allowed]
        if not isinstance(node, Scalar):
            return self._say(f"{quoted(key)} must be {_listed(names)}", node.span)
        close = difflib.get_close_matches(node.text.lower(), names, n=1, cutoff=0.6)
        hint = f"did you mean {quoted(close[0])}?" if close else ""
        return self._say(f"{quoted(key)} must be {_listed(names)}, not {quoted(node.text)}", node.span, hint)

    def _wrong_type(self, node: Node, schemas: list[Schema], key: str) -> object:
        resolved = [self._resolved(one) for one in schemas]
        wanted = list(dict.fromkeys(word for one in resolved for word in _expected(one)))
        names = [str(name) for one in resolved for name in one.get("enum", ())]
        if names and isinstance(node, Scalar):
            return self._wrong_name(node, names, key)
        hint = ""
        if isinstance(node, Scalar):
            types = {name for one in resolved for name in _types(one)}
            if "boolean" in types and node.text.lower() in _SPOKEN:
                hint = f"write {_SPOKEN[node.text.lower()]}"
            elif types & {"integer", "number"} and not node.plain:
                hint = "write it without quotes"
            elif "string" in types and node.value is not None:
                hint = f"quote it: '{node.text}'"
            elif node.text and resolved[0].get("properties"):
                hint = f"it has keys of its own: {', '.join(resolved[0]['properties'])}"
        span = node.span if isinstance(node, Scalar) else _first(node)
        return self._say(f"{quoted(key)} must be {_listed(wanted)}, not {_found(node)}", span, hint)


# ---------------------------------------------------------------------------------------------------- types


def _types(schema: Schema) -> tuple[str, ...]:
    if "type" in schema:
        types = schema["type"]
        return (types,) if isinstance(types, str) else tuple(types)
    return tuple(_WORDS) if not ({"const", "enum"} & schema.keys()) else ("string",)


def _fits(node: Node, schema: Schema) -> bool:
    """Whether a node is of the kind that a schema describes; its value may still be wrong."""
    types = _types(schema)
    if isinstance(node, Map):
        return "object" in types
    if isinstance(node, Sequence):
        return "array" in types
    value = node.value
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, (int, float)):
        # A number without its unit: what parses it says so.
        unit = schema.get("format") in ("drop", "size")
        return "number" in types or unit or ("integer" in types and isinstance(value, int))
    return "string" in types


def _expected(schema: Schema) -> list[str]:
    if "enum" in schema:
        return [str(one) for one in schema["enum"]]
    examples = schema.get("examples")
    if examples:
        return [f"a value such as {examples[0]}"]
    return [_WORDS[one] for one in _types(schema)]


def _found(node: Node) -> str:
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "empty" if node.value is None and not node.text else quoted(node.text)


def _out_of_bounds(value: float, schema: Schema) -> str:
    tests: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minimum", lambda limit: value >= limit, "{} or more"),
        ("exclusiveMinimum", lambda limit: value > limit, "more than {}"),
        ("maximum", lambda limit: value <= limit, "{} or less"),
        ("exclusiveMaximum", lambda limit: value < limit, "less than {}"),
    )
    broken = [
        text.format(schema[name]) for name, holds, text in tests if name in schema and not holds(schema[name])
    ]
    return " and ".join(broken)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _inside(section: str) -> str:
    return f" in {quoted(section)}" if section else ""


def _first(node: Node) -> Span:
    """Return the first key of a mapping, the first item of a list: a span within one line."""
    if isinstance(node, Map) and node.entries:
        return next(iter(node.entries.values())).key
    if isinstance(node, Sequence) and node.items:
        return _first(node.items[0])
    return node.span
