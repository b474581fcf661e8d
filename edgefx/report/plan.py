"""A plan as a tree: what a run would do, in the order of its stages, and what of it is cached."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from edgefx.views import PlanView


def render(shown: PlanView, console: Console) -> None:
    """Print a tree."""
    head = Text.assemble((shown.name or shown.model, "bold"), (f"  {shown.model}" if shown.name else ""))
    tree = Tree(Text.assemble(head, "  ->  ", shown.output), guide_style="dim", highlight=False)
    branches: dict[str, Tree] = {}
    for step in shown.steps:
        branch = tree
        if step.target:
            if step.target not in branches:
                branches[step.target] = tree.add(Text(step.target, style="bold"))
            branch = branches[step.target]
        state = {True: ("  cached", "green"), False: ("  to do", "yellow"), None: ("", "")}[step.cached]
        branch.add(Text.assemble((f"{step.stage}  ", "cyan"), step.what, state))
    console.print(tree, highlight=False)
