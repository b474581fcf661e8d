"""The result of `edgefx check`, and how it is shown."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgefx.report.text import counted
from edgefx.shipments import CheckReport


def render(report: CheckReport, console: Console) -> None:
    """Print what each target does not take of a model, then what would be cheaper."""
    console.print(Text(report.model, style="bold"))
    for target in report.targets:
        broken = [one for one in report.findings if one.breaks and one.target == target]
        verdict = (
            ("taken as a whole", "green") if not broken else (counted(len(broken), "problem"), "bold red")
        )
        console.print(Text.assemble((target, "bold"), ": ", verdict))
    for one in report.findings:
        head = ("problem", "bold red") if one.breaks else ("advice", "cyan")
        where = f"layer {one.layer} ({one.operation}): " if one.layer else ""
        console.print(Text.assemble(head, f" {one.target}: {where}{one.reason}"))
        if one.remedy:
            console.print(Text.assemble(("  do", "dim"), f": {one.remedy}"))
    console.print(
        Text(f"{report.seconds:.1f} s after the model was loaded; nothing was calibrated", style="dim")
    )
