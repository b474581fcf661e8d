"""YAML text -> tree. Strict where YAML is surprising: see `parse`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

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

MAX_CHARACTERS = 256 * 1024
_MAX_DEPTH = 32
_MAX_NODES = 20_000  # with every alias counted as what it stands for
_MAX_DIGITS = 300
_MERGE = "<<"
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")

# The core schema of YAML 1.2 without its octal and hexadecimal numbers: `no`, `on` and `1:30` are text.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# What PyYAML says, and what is the usual cause.
_CAUSES = (
    ("character '\\t'", "indent with spaces, not tabs"),
    ("scanning an alias", "quote a value that begins with *, such as a glob: '*-int8'"),
    ("cannot start any token", "quote the value"),
    ("mapping values are not allowed", "check the indentation, or quote a value that holds ': '"),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("expected <block end>", "check the indentation: keys of one section start in the same column"),
    ("expected ',' or", "close the bracket; quote a value that holds brackets or ${...}"),
    ("end of stream", "close the quotes"),
)


def parse(source: Source, *, start: int = 0) -> Node:
    """Parse one YAML document into a tree.

    Refused, because they surprise or harm: a key twice in one mapping, tags, several documents, numbers that
    are not finite, very deep or very large documents, aliases that expand without end. Only ``true`` and
    ``false`` are booleans, ``1e-5`` is a number, and dates are text. Merge keys (``<<``) work.

    Args:
        source: The text.
        start: Where the document begins in it; nothing may follow that position, which then means null.

    Raises:
        RecipeError: The text is not such a document; duplicate keys are all named at once.
    """
    if len(source.text) > MAX_CHARACTERS:
        message = f"too large for a recipe: {len(source.text)} characters, {MAX_CHARACTERS} at most"
        raise RecipeError([Diagnostic(message, Span(source, 0, 1), "give the path of a recipe")])
    try:
        builder = _Builder(source)
        text = " " * start + source.text[start:]
        node = builder.build(yaml.parse(text, Loader=yaml.SafeLoader), empty_at=start)
    except yaml.reader.ReaderError as error:
        where = Span(source, int(error.position), int(error.position) + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise RecipeError(
            [Diagnostic(f"the character U+{code:04X} is not allowed in YAML", where, "remove it")]
        ) from error
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_explained(source, error)]) from error
    except RecursionError as error:
        raise RecipeError([Diagnostic("nested too deep", Span(source, 0, 1))]) from error
    if builder.diagnostics:
        raise RecipeError(builder.diagnostics)
    return node


def resolve(text: str) -> str | int | float | bool | None:
    """Return what a scalar without quotes means.

    Raises:
        ValueError: A number that is not finite, or has too many digits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits")
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{quoted(text)} is too large a number")
        return number
    return text


@dataclass(eq=False, repr=False)
class _Open:
    """A collection whose end has not been read yet."""

    start: int
    is_map: bool
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    merged: dict[str, Entry] = field(default_factory=dict)
    key: Scalar | None = None
    size: int = 1


class _Builder:
    """Builds the tree from PyYAML's events, without recursion."""

    def __init__(self, source: Source) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._source = source
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._root: Node | None = None

    def build(self, events: Iterator[Any], *, empty_at: int) -> Node:
        """Consume the events of one document; from a position on, but not at 0, it may be empty."""
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error("a second document in the file", self._span(event), "keep one")
            elif isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor, size=1)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._check_tag(event)
                is_map = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Open(self._span(event).start, is_map, event.anchor))
                if len(self._stack) > _MAX_DEPTH:
                    raise self._error("nested too deep", self._span(event), "a recipe has a few levels")
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close(event)
        if self._root is None and empty_at:
            return Scalar(None, "", plain=True, span=Span(self._source, empty_at, empty_at + 1))
        if self._root is None:
            raise self._error("the file is empty", Span(self._source, 0, 1), "see: edgefx recipe init")
        return self._root

    def _scalar(self, event: Any) -> Scalar:
        self._check_tag(event)
        plain = event.style is None and event.tag is None
        text, span = str(event.value), self._span(event)
        value: str | int | float | bool | None = text
        is_key = bool(self._stack) and self._stack[-1].is_map and self._stack[-1].key is None
        if plain and not is_key and "${" not in text:
            try:
                value = resolve(text)
            except ValueError as error:
                raise self._error(str(error), span, "") from error
        return Scalar(value, text, plain, span)

    def _alias(self, event: Any) -> None:
        name, span = str(event.anchor), self._span(event)
        if name not in self._anchors:
            if any(one.anchor == name for one in self._stack):
                raise self._error(f"the anchor {quoted(name)} holds itself", span, "write it out")
            raise self._error(
                f"no anchor {quoted(name)}", span, f"a value that begins with * must be quoted: '*{name}'"
            )
        node, size = self._anchors[name]
        self._add(node, None, size=size)

    def _close(self, event: Any) -> None:
        opened = self._stack.pop()
        end = event.end_mark.index
        if not end > event.start_mark.index:  # a block ends where the next token begins, lines below
            inner = [*opened.items, *(entry.value for entry in opened.entries.values())]
            last = [node.span.end for node in inner if node.span.source is self._source]
            end = max([opened.start + 1, *(value for value in last if value <= end)])
        span = Span(self._source, opened.start, end)
        if opened.is_map:
            node: Node = Map({**opened.merged, **opened.entries}, span)
        else:
            node = Sequence(tuple(opened.items), span)
        self._add(node, opened.anchor, size=opened.size)

    def _add(self, node: Node, anchor: str | None, *, size: int) -> None:
        """Put a finished node where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = node, size
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        parent.size += size
        if parent.size > _MAX_NODES:
            raise self._error(f"more than {_MAX_NODES} values", node.span, "use fewer aliases")
        if not parent.is_map:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise self._error("a key must be a word", node.span, "write it as 'key: value'")
            parent.key = node
        else:
            key, parent.key = parent.key, None
            self._enter(parent, key, node)

    def _enter(self, parent: _Open, key: Scalar, value: Node) -> None:
        if key.text == _MERGE and key.plain:
            self._merge(parent, value)
            return
        before = parent.entries.get(key.text)
        if before is not None:
            line = before.key.source.position(before.key.start)[0]
            self.diagnostics.append(
                Diagnostic(
                    f"the key {quoted(key.text)} is given twice", key.span, f"it is already in line {line}"
                )
            )
            return
        parent.entries[key.text] = Entry(key.span, value)

    def _merge(self, parent: _Open, value: Node) -> None:
        """Take over the entries of one mapping or several; keys written out win, then earlier mappings."""
        for node in value.items if isinstance(value, Sequence) else (value,):
            if not isinstance(node, Map):
                raise self._error("'<<' merges mappings only", node.span, "give an alias of a mapping")
            parent.merged = {**node.entries, **parent.merged}

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _STRING_TAGS:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise self._error(f"the tag {quoted(tag)} is not allowed", self._span(event), "remove it")

    def _span(self, event: Any) -> Span:
        start = event.start_mark.index
        return Span(self._source, start, max(start + 1, event.end_mark.index))

    def _error(self, message: str, span: Span, hint: str) -> RecipeError:
        return RecipeError([*self.diagnostics, Diagnostic(message, span, hint)])


def _explained(source: Source, error: yaml.MarkedYAMLError) -> Diagnostic:
    """Say where and what, in one line, and the usual cause."""
    # What is never closed is of interest where it opens.
    at_end = "stream" in (error.problem or "")
    mark = (at_end and error.context_mark) or error.problem_mark or error.context_mark
    index = min(mark.index, len(source.text)) if mark is not None else 0
    said = ", ".join(part for part in (error.context, error.problem) if part)
    hint = next((cause for sign, cause in _CAUSES if sign in said), "")
    return Diagnostic(f"not YAML: {' '.join(said.split())}", Span(source, index, index + 1), hint)
