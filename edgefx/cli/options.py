"""Options and arguments that several commands take; each means the same everywhere."""

from __future__ import annotations

from pathlib import Path

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of a table."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Intra-op threads (default: all cores)."
)


def existing_file(value: Path) -> Path:
    """Check that a path given on the command line exists.

    Raises:
        UsageError: It does not.
    """
    from edgefx.errors import UsageError

    if not value.exists():
        raise UsageError(f"{value}: no such file or folder", hint="check the path")
    return value
