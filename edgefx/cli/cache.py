"""`edgefx cache`: what is kept from run to run, and how to get rid of it."""

from __future__ import annotations

import re

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.group import LazyGroup
from edgefx.cli.options import json_option
from edgefx.errors import OutputError, UsageError

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_COMMANDS = {
    "info": ("edgefx.cli.cache:info", "Show where the cache is and what it holds."),
    "clean": ("edgefx.cli.cache:clean", "Remove results from the cache."),
}


@click.group(
    cls=LazyGroup,
    commands_table=_COMMANDS,
    epilog="""\b
Examples:
  edgefx cache info --json
  edgefx cache clean --older-than 30d
""",
)
def command() -> None:
    """Look at or clean the cache of stage results.

    What a run has computed is kept, so that another run repeats only what has changed. EDGEFX_CACHE_DIR says
    where (by default the platform's cache folder), EDGEFX_CACHE_SIZE how much (10GB; 0 turns it off); the
    least recently used results go first. Removing the folder is safe at any time.
    """


@click.command(epilog="Example: edgefx cache info --json")
@json_option
@pass_app
def info(app: App, *, as_json: bool) -> None:
    """Show where the cache is and what it holds."""
    from edgefx.cache import usage
    from edgefx.cache.settings import from_environment
    from edgefx.report.cache import render_info

    result = usage.info(from_environment(), app)
    if as_json:
        app.write_json(result)
    else:
        render_info(result, app.stdout)


@click.command(
    epilog="""\b
Examples:
  edgefx cache clean --older-than 30d
  edgefx cache clean --all
"""
)
@click.option(
    "--older-than", metavar="AGE", help="Remove what has not been used for AGE, such as 12h, 30d or 4w."
)
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
@json_option
@pass_app
def clean(app: App, *, older_than: str | None, everything: bool, as_json: bool) -> None:
    """Remove results from the cache; give --older-than or --all."""
    from edgefx.cache.settings import from_environment
    from edgefx.report.text import size
    from edgefx.views import Cleaned

    if (older_than is None) is not everything:
        raise UsageError("say what to remove: --older-than AGE or --all", hint="for example --older-than 30d")
    settings = from_environment()
    try:
        removed, freed = settings.store(app.warn).clean(
            unused_for_s=0.0 if older_than is None else _age(older_than)
        )
        if everything:
            settings.hashes().remove()
    except OSError as error:
        raise OutputError(
            f"{settings.folder}: cannot be written: {error.strerror}", hint="check its permissions"
        ) from error
    result = Cleaned(folder=settings.folder, removed=removed, freed_bytes=freed)
    if as_json:
        app.write_json(result)
    else:
        plural = "entry" if removed == 1 else "entries"
        app.write(f"removed {removed} {plural}, {size(freed)}")


def _age(text: str) -> float:
    """Parse an age in seconds.

    Raises:
        UsageError: No number with a unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", text.lower())
    if match is None:
        raise UsageError(
            f"--older-than '{text}': not an age",
            hint="minutes, hours, days or weeks: 30m, 12h, 30d, 4w",
        )
    return float(match[1]) * _SECONDS[match[2]]
