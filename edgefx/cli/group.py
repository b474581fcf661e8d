"""A Click group whose commands are imported only when they are used, and the options all commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import click

from edgefx.cli.context import App
from edgefx.errors import UnknownNameError


class LazyGroup(click.Group):
    """A group over a table of name -> (import path, one-line help).

    Listing the commands (``--help``, completion, suggestions) imports none of them.
    """

    def __init__(self, *args: Any, commands_table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_table = commands_table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Return the names in the table's order, which is the order of a user's work."""
        return list(self.commands_table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command, and let it take the global options too (``edgefx compile m -v``)."""
        if cmd_name not in self.commands_table:
            return None
        if cmd_name not in self.commands:
            module, _, attribute = self.commands_table[cmd_name][0].partition(":")
            command = cast("click.Command", getattr(import_module(module), attribute))
            command.name = cmd_name
            command.params.extend(global_options(hidden=True))
            command.epilog = (
                f"{command.epilog or ''}\n\n"
                "Every command also takes -v, -q, --debug and --color: see edgefx --help."
            )
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one.

        Raises:
            UnknownNameError: There is no such command.
        """
        name = args[0]
        if name not in self.commands_table and not name.startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError("command", name, self.commands_table)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's one-line helps without importing the commands."""
        rows = [(name, self.commands_table[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def global_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return new instances of the options that work before and after the command's name."""

    def option(*names: str, apply: Callable[[App, Any], None], **kwargs: Any) -> click.Option:
        def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
            if value and not ctx.resilient_parsing:
                apply(App.of(ctx), value)

        # Eager: in effect before any other option can be refused.
        return click.Option(
            names, callback=callback, expose_value=False, is_eager=True, hidden=hidden, **kwargs
        )

    def louder(app: App, times: int) -> None:
        app.verbosity += times

    def quieter(app: App, times: int) -> None:
        app.verbosity -= times

    def debug(app: App, _value: bool) -> None:
        app.debug = True

    def color(app: App, value: str) -> None:
        app.color = value

    return [
        option(
            "-v",
            "--verbose",
            count=True,
            apply=louder,
            help="Say more on stderr: -v adds the warnings of libraries, -vv their messages, -vvv native "
            "logs.",
        ),
        option("-q", "--quiet", count=True, apply=quieter, help="Print only errors on stderr."),
        option("--debug", is_flag=True, apply=debug, help="Show the Python traceback of an error."),
        option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            apply=color,
            help="When to use colour; auto honours NO_COLOR and FORCE_COLOR.",
        ),
    ]
