"""What a shell completes the values of options and arguments to. Nothing heavy is imported."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def targets(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a comma list of targets."""
    from edgefx.targets import ALL

    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{name}", help=row.summary)
        for name, row in ALL.items()
        if name.startswith(last)
    ]


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model of the zoo; a path is left to the shell."""
    from edgefx.models.zoo import FAMILIES

    found = {name: row for name, row in FAMILIES.items() if _begins(name, incomplete)}
    names = [CompletionItem(name, help=row.summary) for name, row in found.items()]
    return names or [CompletionItem(incomplete, type="file")]


def recipes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a recipe that ships with edgefx; a path is left to the shell."""
    from edgefx.recipe.load import shipped

    names = [CompletionItem(name) for name in shipped() if _begins(name, incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def weights(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of weights; a path is left to the shell."""
    names = [CompletionItem(name) for name in ("imagenet", "random") if _begins(name, incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def _begins(name: str, incomplete: str) -> bool:
    return name.startswith(incomplete.lower())
