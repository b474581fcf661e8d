"""The result of `edgefx rollout check`, and how it is shown."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgefx.report.terminal import Facts
from edgefx.report.text import size
from edgefx.shipments import RolloutReport, RolloutStage, VerifiedBundle


def render_rollout(found: RolloutReport, console: Console) -> None:
    """Print what is planned, and what speaks against it."""
    verdict = ("NOT READY", "bold red") if found.problems else ("READY", "bold green")
    rows: list[tuple[str, str | Text]] = [
        ("target", found.target),
        ("bundle", _bundle(found.bundle)),
        ("rollback", _bundle(found.rollback)),
        ("stages", ", then ".join(map(_stage, found.stages))),
        ("gates", "; ".join(found.gates) or "none"),
    ]
    if found.compare:
        rows.append(("compare", f"{_percent(found.compare)} of the devices keep the old artifact"))
    rows += [("problem", Text(one, style="red")) for one in found.problems]
    rows += [("warning", one) for one in found.warnings]
    console.print(Text.assemble((found.name, "bold"), "  ", verdict))
    console.print(Facts(rows), highlight=False)


def _bundle(checked: VerifiedBundle) -> str:
    signature = f"signed by {checked.signer}" if checked.signature_checked else "signature not checked"
    return f"{checked.path}, {size(checked.size_bytes)}, every byte intact, {signature}"


def _stage(stage: RolloutStage) -> str:
    share = _percent(stage.share)
    return share if stage.hours is None else f"{share} for {stage.hours:g} h"


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
