"""`edgefx doctor`: is this machine ready, and if not, what fixes it."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option
from edgefx.errors import ExitCode
from edgefx.packages import PackageState, module_of, satisfies, states
from edgefx.results import Environment

_LOW_DISK_MB = 2_000  # a run of B0 keeps about 1 GB of intermediates
_LOW_MEMORY_MB = 2_500  # what a run of B0 may take
_INT8_FEATURES = ("AVX512-VNNI", "AVX-VNNI", "AVX-VNNI-INT8", "AMX-INT8", "NEON-dotprod", "NEON-i8mm")


@dataclass(frozen=True, kw_only=True)
class TargetState:
    """Whether a target can be compiled for here."""

    target: str
    ready: bool
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What `edgefx doctor` found.

    Attributes:
        environment: This machine.
        memory_available_mb: Memory that a run can have now.
        disk_free_mb: Free space by folder: the current one and the temporary one.
        packages: Everything edgefx uses.
        targets: What they make possible.
        problems: What must be cured; empty when all is fine.
        advice: What should be known, but stops nothing.
        fix: The command that installs what is missing, or "".
        deep: Whether the packages were really imported.
    """

    environment: Environment
    memory_available_mb: int
    disk_free_mb: dict[str, int]
    packages: tuple[PackageState, ...]
    targets: tuple[TargetState, ...]
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    fix: str
    deep: bool


@click.command(epilog="Example: edgefx doctor --deep")
@click.option("--deep", is_flag=True, help="Also import every package, which takes about half a minute.")
@json_option
@pass_app
def command(app: App, deep: bool, as_json: bool) -> int:
    """Check this machine: versions, CPU features, what each target needs, and what is missing.

    The exit code is 0 when everything is there, 3 when something is missing.
    """
    packages = states()
    if deep:
        with app.native_log():
            packages = tuple(imported(app, package) for package in packages)
    result = _examine(packages, deep=deep)
    if as_json:
        from edgefx.report.json import dumps

        app.write(dumps(result))
    else:
        _render(app, result)
    return int(ExitCode.MISSING_DEPENDENCY if result.problems else ExitCode.OK)


def imported(app: App, package: PackageState) -> PackageState:
    """Import a package; a broken installation shows only now."""
    import edgefx.targets.openvino_offline  # noqa: F401 - some packages report usage when imported

    if package.problem:
        return package
    start = time.monotonic()
    try:
        with app.task(f"import {package.module}"):
            import_module(package.module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a broken package raises is the finding
        reason = (str(error).strip().splitlines() or [""])[0]
        return replace(package, problem=f"cannot be imported: {type(error).__name__}: {reason}")
    return replace(package, import_s=round(time.monotonic() - start, 2))


def _examine(packages: tuple[PackageState, ...], *, deep: bool) -> Doctor:
    import psutil

    from edgefx.benchmark.devices.host import environment

    machine = environment()
    memory = int(psutil.virtual_memory().available / 1e6)
    disk = {
        str(folder): int(shutil.disk_usage(folder).free / 1e6)
        for folder in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir())))
    }
    broken = [package for package in packages if package.problem]
    problems = [f"{package.distribution}: {package.problem}" for package in broken]
    problems += _python_problem() + _installation_problems()
    fix = ""
    if broken:
        fix = "pip install " + " ".join(f"'{package.requirement}'" for package in broken)
    return Doctor(
        environment=machine,
        memory_available_mb=memory,
        disk_free_mb=disk,
        packages=packages,
        targets=_targets(packages),
        problems=tuple(problems),
        advice=tuple(_advice(machine, memory, disk)),
        fix=fix,
        deep=deep,
    )


def _targets(packages: tuple[PackageState, ...]) -> tuple[TargetState, ...]:
    from edgefx.targets import TARGETS

    broken = {package.module for package in packages if package.problem}
    found = []
    for row in TARGETS.values():
        missing = tuple(name for name in row.packages if module_of(name) in broken)
        found.append(TargetState(target=row.name, ready=not missing, missing=missing))
    return tuple(found)


def _python_problem() -> list[str]:
    from importlib import metadata

    try:
        wanted = str(metadata.metadata("edgefx").json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        return ["edgefx is not installed: run pip install . in its folder"]
    have = ".".join(str(part) for part in sys.version_info[:3])
    return [] if satisfies(have, wanted) else [f"Python {have}: edgefx needs {wanted}"]


def _installation_problems() -> list[str]:
    from edgefx.resources import folder

    problems = []
    for name in ("recipes", "calibration"):
        try:
            folder(name)
        except FileNotFoundError as error:
            problems.append(str(error))
    return problems


def _advice(machine: Environment, memory_mb: int, disk: dict[str, int]) -> list[str]:
    advice = []
    if machine.cpu_features and not any(name in _INT8_FEATURES for name in machine.cpu_features):
        advice.append(
            "this CPU has no INT8 dot-product instructions (AVX-VNNI, NEON dotprod): INT8 may be slower than"
            " float here, and latency measured here says little of an edge device that has them"
        )
    if memory_mb < _LOW_MEMORY_MB:
        advice.append(f"{memory_mb} MB of memory are available; a run of b0 may take {_LOW_MEMORY_MB} MB")
    advice += [
        f"{free} MB are free in {folder}; a run may need {_LOW_DISK_MB} MB"
        for folder, free in disk.items()
        if free < _LOW_DISK_MB
    ]
    return advice


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
    if not result.deep:
        packages.columns.pop()
    for package in result.packages:
        wanted = package.requirement[len(package.distribution) :] or "any"
        cells = [package.distribution, package.version or "-", wanted, ", ".join(package.needed_for)]
        if result.deep:
            cells.append("-" if package.import_s is None else f"{package.import_s:.1f} s")
        packages.add_row(*cells, style="bold red" if package.problem else None)
    app.print(packages, Text())
    lines = []
    ready = [state.target for state in result.targets if state.ready]
    lines.append(("targets ready", f"{len(ready)} of {len(result.targets)}"))
    lines += [
        ("not ready", f"{state.target}: needs {', '.join(state.missing)}")
        for state in result.targets
        if not state.ready
    ]
    lines += [("problem", problem) for problem in result.problems]
    lines += [("advice", advice) for advice in result.advice]
    if result.fix:
        lines.append(("to fix", result.fix))
    app.print(Facts(lines))
