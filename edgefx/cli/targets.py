"""`edgefx targets`: what can be compiled for."""

from __future__ import annotations

from dataclasses import dataclass

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option
from edgefx.targets import ALL, TARGETS, TargetRow


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
    laid_out_by: str = ""  # what decides on this machine which operations are in INT8, where anything does


@dataclass(frozen=True, kw_only=True)
class PassListing:
    """One pass of a target's quantization in `edgefx targets --passes`."""

    target: str
    name: str
    efforts: tuple[str, ...]
    summary: str
    left_out_where: tuple[str, ...]


@click.command(epilog="Examples: edgefx targets --json | edgefx targets --passes")
@click.option("--passes", is_flag=True, help="Show what each --effort does for the INT8 targets, in order.")
@json_option
@pass_app
def command(app: App, passes: bool, as_json: bool) -> None:
    """List the targets that can be compiled for, and whether this machine has what they need.

    A target is RUNTIME-PRECISION, or an NPU, for which the artifact of a runtime is compiled once more.
    `--target` of `edgefx compile` takes names, comma lists and globs such as 'openvino-*' or 'ethos-u55-*';
    the glob '*' means the targets of runtimes.

    onnx-int8 and openvino-int8 compute in INT8 what is faster in it on a class of CPU, as a measured profile
    or a built-in table says: the last lines name the one for the CPU of this machine.
    """
    if passes:
        _show_passes(app, as_json=as_json)
        return
    from edgefx.runtimes.hardware import placements
    from edgefx.storage.hardware import shipped
    from edgefx.system import cpu

    hardware = cpu.detect()
    bases = placements(hardware, shipped(hardware))
    rows = [_listing(row, bases.get(row.name, "")) for row in ALL.values()]
    if as_json:
        app.write_json(rows)
        return
    from rich.text import Text

    from edgefx.report.terminal import Facts
    from edgefx.report.terminal import table as new_table

    titles = ("target", "file", "--calib", "input/output", "here", "what it is")
    table = new_table(*titles, left=titles)
    for column in (*table.columns[:3], table.columns[4]):
        column.no_wrap = True
    for row in rows:
        table.add_row(
            row.target,
            row.file,
            "needed" if row.needs_calibration else "-",
            ", ".join(row.io_dtypes),
            "yes" if row.available else "no",
            row.summary,
            style=None if row.available else "dim",
        )
    told = [(name, f"laid out for {hardware} by {basis}") for name, basis in bases.items()]
    app.print(table, Text(), Facts(told))
    if not all(row.available for row in rows):
        app.note("some targets lack packages; the commands that install them: edgefx doctor")


def _listing(row: TargetRow, laid_out_by: str) -> TargetListing:
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
        laid_out_by=laid_out_by,
    )


def _show_passes(app: App, *, as_json: bool) -> None:
    from edgefx.report.terminal import table as new_table
    from edgefx.vocabulary import Effort

    rows = [one for row in TARGETS.values() for one in _passes(row)]
    if as_json:
        app.write_json(rows)
        return
    for target in dict.fromkeys(row.target for row in rows):
        titles = (target, *Effort, "what it does")
        table = new_table(*titles, left=(target, titles[-1]))
        for row in rows:
            if row.target == target:
                but = f" Not where {' or '.join(row.left_out_where)}." if row.left_out_where else ""
                marks = ["yes" if effort in row.efforts else "-" for effort in Effort]
                table.add_row(row.name, *marks, row.summary + but)
        app.print(table)


def _passes(row: TargetRow) -> list[PassListing]:
    """Return the passes of a target in the order in which they are carried out."""
    from edgefx import runtimes

    by_effort = runtimes.load(row).passes(row.precision)
    longest = sorted(by_effort.values(), key=len, reverse=True)
    every = dict.fromkeys(one for passes in longest for one in passes)
    order = {one.name: place for place, one in enumerate(longest[0])} if longest else {}
    return [
        PassListing(
            target=row.name,
            name=one.name,
            efforts=tuple(effort for effort, passes in by_effort.items() if one in passes),
            summary=one.summary,
            left_out_where=tuple(sorted(one.without)),
        )
        for one in sorted(every, key=lambda one: order[one.name])
    ]
