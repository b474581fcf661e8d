"""`edgefx doctor`: is this machine ready, and if not, what fixes it."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option
from edgefx.errors import ExitCode
from edgefx.views import Doctor, ExtraState


@click.command(epilog="Example: edgefx doctor --deep")
@click.option("--deep", is_flag=True, help="Also import every package, which takes about half a minute.")
@json_option
@pass_app
def command(app: App, deep: bool, as_json: bool) -> int:
    """Check this machine: versions, CPU features, what each target needs, and what is missing.

    The exit code is 0 when edgefx can be used, 3 when a package that it cannot be without is missing, or one
    of an extra is installed and cannot be used. Extras that are not installed are listed and are no fault.
    """
    from edgefx.compilers import iree
    from edgefx.runtimes import hardware
    from edgefx.storage.hardware import shipped
    from edgefx.system import doctor
    from edgefx.system.packages import states

    packages = states()
    if deep:
        import edgefx.runtimes.openvino.offline  # noqa: F401 - some packages report usage when imported

        with app.native_log():
            packages = tuple(doctor.imported(package, app) for package in packages)
    made = [iree.ENVIRONMENT.name] if iree.ENVIRONMENT.is_ready else []
    result = doctor.examine(packages, deep=deep, environments=made)
    result = replace(result, placements=hardware.placements(result.hardware, shipped(result.hardware)))
    if as_json:
        app.write_json(result)
    else:
        _render(app, result)
    return int(ExitCode.MISSING_DEPENDENCY if result.problems else ExitCode.OK)


_RUNS = "; runs here"


def _lacks(state: ExtraState) -> str:
    return f"pip install 'edgefx[{state.extra}]' for: {', '.join(state.missing)}"


def _render(app: App, result: Doctor) -> None:
    from rich.text import Text

    from edgefx.report.terminal import Facts, table

    machine = result.environment
    disk = ", ".join(f"{free / 1e3:.1f} GB in {folder}" for folder, free in result.disk_free_mb.items())
    app.print(
        Facts(
            [
                ("edgefx", machine.edgefx),
                ("python", f"{machine.python} ({sys.executable})"),
                ("system", f"{machine.os}, {machine.machine}"),
                ("cpu", f"{machine.cpu}, {machine.cores} cores"),
                ("hardware", str(result.hardware)),
                *((name, f"laid out for it by {basis}") for name, basis in result.placements.items()),
                ("cpu features", ", ".join(machine.cpu_features) or "none that matter here"),
                (
                    "memory",
                    f"{machine.memory_mb / 1e3:.1f} GB, {result.memory_available_mb / 1e3:.1f} GB available",
                ),
                ("disk free", disk),
            ]
        ),
        Text(),
    )
    packages = table("package", "installed", "needs", "for", "import", left=("installed", "needs", "for"))
    packages.columns[0].overflow = "fold"
    packages.columns[0].max_width = 29  # of all names but one
    packages.columns[1].overflow = "fold"  # versions of pre-releases are long
    packages.columns[3].overflow = "fold"
    if not result.deep:
        packages.columns.pop()
    for package in result.packages:
        wanted = package.requirement[len(package.distribution) :] or "any"
        cells = [package.distribution, package.version or "-", wanted, ", ".join(package.needed_for)]
        if result.deep:
            cells.append("-" if package.import_s is None else f"{package.import_s:.1f} s")
        style = "bold red" if package.faulty else "dim" if package.problem else None
        packages.add_row(*cells, style=style)
    app.print(packages, Text())
    whole = [state.extra for state in result.extras if state.ready]
    lines = [("extras", ", ".join(whole) or "none")]
    lines += [("not installed", _lacks(state)) for state in result.extras if not state.ready]
    ready = [state.target for state in result.targets if state.ready]
    lines.append(("targets ready", f"{len(ready)} of {len(result.targets)}"))
    lines += [
        (
            "not ready",
            f"{state.target}: needs {', '.join(state.missing)}{'; runs here' if state.runs else ''}",
        )
        for state in result.targets
        if not state.ready
    ]
    lines += [("problem", problem) for problem in result.problems]
    lines += [("advice", advice) for advice in result.advice]
    if result.fix:
        lines.append(("to fix", result.fix))
    app.print(Facts(lines))
