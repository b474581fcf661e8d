"""The result of `edgefx setup`, and how it is shown."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgefx.report.terminal import Facts
from edgefx.shipments import SetUp


def render_set_up(made: SetUp, console: Console) -> None:
    """Print where a compiler is, and what is in its environment."""
    rows: list[tuple[str, str | Text]] = [
        ("folder", str(made.path)),
        ("packages", ", ".join(f"{name} {version}" for name, version in made.packages.items())),
    ]
    state = "was set up already" if made.was_ready else "is set up"
    console.print(Text.assemble((made.name, "bold"), f"  {state}"))
    console.print(Facts(rows), highlight=False)
