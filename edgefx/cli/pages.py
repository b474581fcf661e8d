"""Options of the commands that draw pages, and explain on them what answers rest on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgefx.vocabulary import MOST_EXPLAINED


def explain_option(show: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the option that has changed images explained.

    Args:
        show: How that is shown, the beginning of a sentence.
    """
    return click.option(
        "--explain",
        type=click.IntRange(0, MOST_EXPLAINED),
        default=0,
        show_default=True,
        metavar="N",
        help=f"{show} which parts of at most N images that change their class the float model and the "
        f"artifacts go by. N is at most {MOST_EXPLAINED}; each takes 50 inferences of each of them.",
    )


def plot_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the option that names a page to write.

    Args:
        what: What it shows.
    """
    return click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.html", help=what)
