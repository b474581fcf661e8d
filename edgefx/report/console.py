"""The Rich console that every report is printed on: text is shown as it is, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edgefx.harmless import visible


class PlainConsole(Console):
    """A console without markup and emoji codes, which shows control characters instead of sending them.

    Nothing that edgefx prints has a line break inside a text: one that is there came with somebody's name,
    and would forge a line of the report. It is shown like any other control character. No line of a text or
    of a table ends in blanks, which get in the way of copying.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, control characters shown; see `rich.console.Console.render`."""
        segments = self._render_shown(renderable, options)
        return _trimmed(segments) if isinstance(renderable, (Text, Table)) else segments

    def _render_shown(self, renderable: RenderableType, options: ConsoleOptions | None) -> Iterator[Segment]:
        if isinstance(renderable, str):
            renderable = visible(renderable)
        elif isinstance(renderable, Text):
            renderable = shown(renderable)
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text, keep="\n")
            yield segment if text == segment.text else Segment(text, segment.style)


def _trimmed(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Leave the blanks out that stand before the end of a line."""
    held: list[Segment] = []  # blanks of which it is not known yet what follows
    for segment in segments:
        text = re.sub(" +\n", "\n", segment.text)
        if text.startswith("\n"):
            held = []
        body = text.rstrip(" ")
        if body or segment.control:
            yield from held
            yield segment if body == segment.text else Segment(body, segment.style)
            held = []
        if len(body) < len(text):
            held.append(Segment(text[len(body) :], segment.style))
    yield from held


def shown(text: Text) -> Text:
    """Return a text whose control characters are visible; its styles stay where they are."""
    plain = visible(text.plain)
    if plain == text.plain:
        return text
    result = text.copy()
    result.plain = plain  # as long as before
    return result
