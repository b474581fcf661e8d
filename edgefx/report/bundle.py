"""The results of `edgefx bundle` and `edgefx verify`, and how they are shown."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgefx.report.terminal import Facts
from edgefx.report.text import counted, size
from edgefx.shipments import Bundle, VerifiedBundle


def render_bundle(made: Bundle, console: Console) -> None:
    """Print what was put into a bundle."""
    rows: list[tuple[str, str | Text]] = [
        ("size", f"{size(made.size_bytes)}, {counted(len(made.files), 'file')}"),
        ("sha256", made.sha256),
        ("targets", ", ".join(made.targets)),
        ("signed", "yes" if made.signed else "no"),
    ]
    if made.oci is not None:
        rows.append(("OCI layout", f"{made.oci.path}:{made.oci.tag}, {made.oci.digest}"))
    rows += [(one.layout, f"{one.name}, version {one.version}: {one.path}") for one in made.served]
    if made.doubtful:
        rows.append(("warning", f"gates failed, or could not be judged: {', '.join(made.doubtful)}"))
    console.print(Text(str(made.path), style="bold"))
    console.print(Facts(rows), highlight=False)


def render_verified(checked: VerifiedBundle, console: Console) -> None:
    """Print what was found of a bundle that is intact."""
    signature = (
        f"good, by {checked.signer}"
        if checked.signature_checked
        else "not checked: give --key or --root"
        if checked.signed
        else "none"
    )
    rows: list[tuple[str, str | Text]] = [
        ("intact", f"every byte of {counted(len(checked.files), 'file')}, {size(checked.size_bytes)}"),
        ("made by", f"edgefx {checked.edgefx} on {checked.created}"),
        ("signature", signature),
    ]
    console.print(Text(str(checked.path), style="bold"))
    console.print(Facts(rows), highlight=False)
