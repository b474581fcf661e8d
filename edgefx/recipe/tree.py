"""A recipe's text as a tree whose every node knows where it was written. Standard library only."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from edgefx.errors import Block, UsageError

_LINE_END = re.compile(r"\r\n|\r|\n")
_WIDTH = 96  # of an excerpt; longer lines are cut around the caret
_SHOWN = 60  # characters of a value that a message quotes


@dataclass(frozen=True, repr=False)
class Source:
    """A text that a recipe, or a part of it, was written in.

    Attributes:
        name: As shown: a path, or an option of the command line.
        text: All of it.
        folder: What relative paths in it are relative to.
        is_file: Whether positions have a line; those in an option have a column only.
    """

    name: str
    text: str
    folder: Path = Path()
    is_file: bool = True

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    def position(self, index: int) -> tuple[int, int]:
        """Return line and column, from 1, of the character at `index`."""
        line = bisect.bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return line `number` (from 1) without its end."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (exclusive) of a source."""

    source: Source
    start: int
    end: int

    @property
    def place(self) -> str:
        """`file:line:column`, as editors and terminals make a link of."""
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}" if self.source.is_file else self.source.name

    def excerpt(self) -> tuple[str, str]:
        """Return the line as written and, below it, the carets; both start with the line's number."""
        line, column = self.source.position(self.start)
        text = "".join(character if character.isprintable() else " " for character in self.source.line(line))
        begin = column - 1
        length = max(1, min(self.end - self.start, len(text) - begin))
        cut = max(0, min(begin - _WIDTH // 2, len(text) - _WIDTH))
        shown = text[cut : cut + _WIDTH]
        gutter = f"{line} | " if self.source.is_file else "| "
        before = " " * (len(gutter) - 2) + "| " + " " * (begin - cut)
        return f"{gutter}{shown}", before + "^" * max(1, min(length, _WIDTH - (begin - cut)))


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong with a recipe.

    Attributes:
        message: What, without a final full stop.
        span: Where; None for what has no place in a text.
        hint: What to do.
    """

    message: str
    span: Span | None = None
    hint: str = ""

    def lines(self) -> list[str]:
        """Return the message with its place, the excerpt and the hint."""
        if self.span is None:
            return [self.message, *([f"hint: {self.hint}"] if self.hint else [])]
        excerpt = [f"  {line}" for line in self.span.excerpt()]
        hint = [f"  hint: {self.hint}"] if self.hint else []
        return [f"{self.span.place}: {self.message}", *excerpt, *hint]


class RecipeError(UsageError):
    """A recipe with mistakes, all of them at once.

    Args:
        diagnostics: At least one.
    """

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = _in_order(diagnostics)
        first = self.diagnostics[0]
        if len(self.diagnostics) == 1:
            place = f"{first.span.place}: " if first.span else ""
            excerpt = first.span.excerpt() if first.span else ()
            super().__init__(place + first.message, hint=first.hint, details=excerpt)
            return
        blocks = [Block.of(diagnostic.lines()) for diagnostic in self.diagnostics]
        where = f"{first.span.source.name}: " if first.span else ""
        super().__init__(f"{where}{len(blocks)} mistakes", details=blocks)


def _in_order(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return each diagnostic once, by source in the order of their first mention, then by position."""
    sources = list(dict.fromkeys(one.span.source if one.span else None for one in diagnostics))

    def place(one: Diagnostic) -> tuple[int, int]:
        source = one.span.source if one.span else None
        return sources.index(source), one.span.start if one.span else 0

    return tuple(sorted(dict.fromkeys(diagnostics), key=place))


@dataclass(frozen=True, eq=False, repr=False)
class Scalar:
    """A single value.

    Attributes:
        value: What it means.
        text: What is written, without quotes.
        plain: Whether it is written without quotes, so that its type follows from its text.
        span: Where.
        from_environment: Whether the text begins with the value of an environment variable.
        broken: Whether a variable in it could not be replaced, which has been said.
    """

    value: str | int | float | bool | None
    text: str
    plain: bool
    span: Span
    from_environment: bool = False
    broken: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """A key's place, and its value."""

    key: Span
    value: Node


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """A mapping; keys are text, whatever they look like."""

    entries: Mapping[str, Entry]
    span: Span

    def get(self, key: str) -> Node | None:
        """Return a key's value, or None."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def with_entry(self, key: str, entry: Entry) -> Map:
        """Return a copy with one key set; a key that is there keeps its place in the order."""
        return Map({**self.entries, key: entry}, self.span)

    def without(self, *keys: str) -> Map:
        """Return a copy without some keys."""
        return Map({key: entry for key, entry in self.entries.items() if key not in keys}, self.span)


Node: TypeAlias = Scalar | Sequence | Map
KeyPath: TypeAlias = tuple[str | int, ...]


def at(node: Node | None, *path: str | int) -> Node | None:
    """Return the node below `node` at a path of keys and indices, or None."""
    for step in path:
        if isinstance(node, Map) and isinstance(step, str):
            node = node.get(step)
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


def scalars(node: Node) -> Iterator[Scalar]:
    """Yield every scalar below a node."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item)
    else:
        for entry in node.entries.values():
            yield from scalars(entry.value)


def quoted(text: str) -> str:
    """Return a value as a message quotes it: short, on one line, printable."""
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 3] + "..."
    return "'" + "".join(character if character.isprintable() else "?" for character in text) + "'"
