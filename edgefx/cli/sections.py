"""A Click command whose help puts its options under headings: a page of sixty in one list is not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

_OTHERS = "Other options"


class SectionedCommand(click.Command):
    """A command with a table of heading -> the options below it, by their parameters' names.

    Options that no heading names, such as ``--help``, come last.
    """

    def __init__(self, *args: Any, sections: Mapping[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._titles = {name: title for title, names in sections.items() for name in names}
        self._sections = sections

    def sections(self, ctx: click.Context) -> Iterator[tuple[str, list[click.Option]]]:
        """Yield each heading with the options below it, in the command's order."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        for heading in (*self._sections, _OTHERS):
            yield heading, [one for one in options if self._titles.get(one.name or "", _OTHERS) == heading]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        for heading, options in self.sections(ctx):
            with formatter.section(heading):
                formatter.write_dl([row for one in options if (row := one.get_help_record(ctx))])
