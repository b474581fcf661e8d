"""`edgefx targets`: what can be compiled for."""

from __future__ import annotations

from dataclasses import dataclass

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option
from edgefx.targets import TARGETS, TargetRow


@dataclass(frozen=True, kw_only=True)
class TargetListing:
    """One row of `edgefx targets`."""

    target: str
    runtime: str
    precision: str
    file: str
    needs_calibration: bool
    io_dtypes: tuple[str, ...]
    available: bool
    missing: tuple[str, ...]
    summary: str


@click.command(epilog="Example: edgefx targets --json")
@json_option
@pass_app
def command(app: App, as_json: bool) -> None:
    """List the targets that can be compiled for, and whether this machine has what they need.

    A target is RUNTIME-PRECISION; `--target` of `edgefx compile` takes names, comma lists and globs such as
    'openvino-*'.
    """
    rows = [_listing(row) for row in TARGETS.values()]
    if as_json:
        app.write_json(rows)
        return
    from edgefx.report.terminal import table as new_table

    titles = ("target", "file", "calibration", "input/output", "here", "what it is")
    table = new_table(*titles, left=titles)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in rows:
        table.add_row(
            row.target,
            row.file,
            "needed" if row.needs_calibration else "-",
            ", ".join(row.io_dtypes),
            "yes" if row.available else f"no: {', '.join(row.missing)}",
            row.summary,
            style=None if row.available else "dim",
        )
    app.print(table)
    if not all(row.available for row in rows):
        app.note("some targets lack packages; the commands that install them: edgefx doctor")


def _listing(row: TargetRow) -> TargetListing:
    from edgefx.system.packages import is_installed

    missing = tuple(package for package in row.packages if not is_installed(package))
    return TargetListing(
        target=row.name,
        runtime=row.runtime,
        precision=row.precision,
        file=".xml + .bin" if row.suffix == ".xml" else row.suffix,
        needs_calibration=row.needs_calibration,
        io_dtypes=tuple(row.io_dtypes),
        available=not missing,
        missing=missing,
        summary=row.summary,
    )
