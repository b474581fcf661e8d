"""The pieces of a Markdown report: each escapes whatever text it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgefx.harmless import markdown


def heading(text: str) -> str:
    """Return a heading of the third level."""
    return f"### {markdown(text)}"


def paragraph(text: str) -> str:
    """Return a paragraph of one line."""
    return markdown(text)


def item(label: str, text: str) -> str:
    """Return a line of a list."""
    return f"- **{markdown(label)}**: {markdown(text)}"


def verdict(label: str, text: str) -> str:
    """Return a line of a list that begins with a verdict."""
    return f"- **{markdown(label)}** {markdown(text)}"


def table(titles: Sequence[str], left: Sequence[bool], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; empty cells hold a dash.

    Args:
        titles: Headings.
        left: By column, whether it is aligned to the left.
        rows: The cells.
    """
    return [
        f"| {' | '.join(map(markdown, titles))} |",
        f"| {' | '.join(':--' if is_left else '--:' for is_left in left)} |",
        *(f"| {' | '.join(markdown(cell) or '-' for cell in row)} |" for row in rows),
    ]
