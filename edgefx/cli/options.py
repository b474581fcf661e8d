"""Options and arguments that several commands take; each means the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgefx.errors import UsageError

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of a table."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Runtime threads.  [default: all cores]"
)


def existing(path: Path) -> Path:
    """Check that a path given on the command line exists.

    Raises:
        UsageError: It does not.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", hint="check the path")
    return path


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
