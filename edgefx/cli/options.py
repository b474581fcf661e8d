"""Options and arguments that several commands take; each means the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgefx.cli.context import App
from edgefx.errors import UsageError
from edgefx.vocabulary import Effort, Resize

calib_option = click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Typical images that set the INT8 ranges; labels are not needed.",
)
samples_option = click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Calibrate on this many images.  [default: 100, or half of a small folder]",
)
effort_option = click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    default=Effort.BALANCED.value,
    show_default=True,
    help="Time spent on INT8 accuracy: at most 1, 3 or 15 times the runtime's own converter.",
)


def _without_cache(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    App.of(ctx).use_cache = not value


no_cache_option = click.option(
    "--no-cache",
    is_flag=True,
    expose_value=False,
    callback=_without_cache,
    help="Compute everything now, and keep nothing for later runs.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of a table."
)
report_option = click.option(
    "--report",
    "report_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Also write the report to FILE, by its suffix .md, .json or .txt; may be repeated.",
)
resize_option = click.option(
    "--resize",
    type=click.Choice([resize.value for resize in Resize]),
    default=Resize.STRETCH.value,
    show_default=True,
    help="How an image of any shape becomes the input.",
)
rounds_option = click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Timed inferences per artifact.",
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="S", help="Seed of every sample."
)
skip_bad_option = click.option(
    "--skip-bad-images", is_flag=True, help="Leave corrupt images out, and say how many."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Runtime threads.  [default: all cores]"
)


resume_option = click.option(
    "--resume", is_flag=True, help="Let training go on from the checkpoint in the output folder."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, as a tree, and what is cached; do nothing."
)


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options that change what a recipe says."""
    function = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Another value for a key of the recipe, e.g. quantize.effort=high; VALUE is YAML; may be "
        "repeated. Relative paths in it are relative to the working folder.",
    )(function)
    return click.option(
        "-t",
        "--target",
        "targets",
        multiple=True,
        metavar="NAME",
        help="Instead of the recipe's targets; may be repeated, a comma list or a glob.",
    )(function)


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
