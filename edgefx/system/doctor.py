"""Is this machine ready, and if not, what fixes it: `edgefx doctor`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path

from edgefx.protocols import Progress
from edgefx.results import Environment
from edgefx.system import cpu
from edgefx.system.host import available_bytes, environment
from edgefx.system.packages import extras, is_installed, module_of, satisfies
from edgefx.system.resources import folder
from edgefx.targets import ALL
from edgefx.views import Doctor, ExtraState, PackageState, TargetState

_LOW_DISK_MB = 2_000  # a run of B0 keeps about 1 GB of intermediates
_LOW_MEMORY_MB = 2_500  # what a run of B0 may take
_INT8_FEATURES = ("AVX512-VNNI", "AVX-VNNI", "AVX-VNNI-INT8", "AMX-INT8", "NEON-dotprod", "NEON-i8mm")


def imported(package: PackageState, progress: Progress) -> PackageState:
    """Import a package, which shows whether its installation is whole.

    Args:
        package: The package, as `edgefx.system.packages.states` found it.
        progress: Where the import is reported.

    Returns:
        The same package with the time that the import took, or with the reason why it failed.
    """
    if package.problem:
        return package
    start = time.monotonic()
    try:
        with progress.task(f"import {package.module}"):
            import_module(package.module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a broken package raises is the finding
        reason = (str(error).strip().splitlines() or [""])[0]
        return replace(package, problem=f"cannot be imported: {type(error).__name__}: {reason}")
    return replace(package, import_s=round(time.monotonic() - start, 2))


def examine(packages: tuple[PackageState, ...], *, deep: bool, environments: Collection[str] = ()) -> Doctor:
    """Examine this machine.

    Args:
        packages: The packages that edgefx uses.
        deep: Whether they were really imported.
        environments: Compilers whose own environments were made.
    """
    machine = environment()
    memory = available_bytes() // 10**6
    disk = {
        str(place): int(shutil.disk_usage(place).free / 1e6)
        for place in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir())))
    }
    broken = [package for package in packages if package.faulty]
    problems = [f"{package.distribution}: {package.problem}" for package in broken]
    problems += _python_problem() + _installation_problems()
    targets = _targets(packages, environments)
    fix = ""
    if broken:
        fix = "pip install " + " ".join(f"'{package.requirement}'" for package in broken)
    return Doctor(
        environment=machine,
        memory_available_mb=memory,
        disk_free_mb=disk,
        packages=packages,
        extras=_extras(packages),
        targets=targets,
        problems=tuple(problems),
        advice=tuple(_advice(machine, memory, disk, targets)),
        fix=fix,
        deep=deep,
        hardware=cpu.detect(),
    )


def _targets(packages: tuple[PackageState, ...], environments: Collection[str]) -> tuple[TargetState, ...]:
    broken = {package.module for package in packages if package.problem}
    found = []
    for row in ALL.values():
        missing = tuple(name for name in row.packages if module_of(name) in broken or not is_installed(name))
        if row.environment and row.environment not in environments:
            missing += (f"edgefx setup {row.environment}",)
        runs = not broken.intersection(row.engine_packages) and all(map(is_installed, row.engine_packages))
        found.append(
            TargetState(
                target=row.name, ready=not missing, missing=missing, runs=runs and not row.is_compiled
            )
        )
    return tuple(found)


def _extras(packages: tuple[PackageState, ...]) -> tuple[ExtraState, ...]:
    broken = {package.distribution for package in packages if package.problem}
    return tuple(
        ExtraState(
            extra=extra,
            ready=broken.isdisjoint(members),
            missing=tuple(name for name in members if name in broken),
        )
        for extra, members in extras().items()
    )


def _python_problem() -> list[str]:
    try:
        wanted = str(metadata.metadata("edgefx").json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        return ["edgefx is not installed: run pip install . in its folder"]
    have = ".".join(str(part) for part in sys.version_info[:3])
    return [] if satisfies(have, wanted) else [f"Python {have}: edgefx needs {wanted}"]


def _installation_problems() -> list[str]:
    problems = []
    for name in ("recipes", "calibration"):
        try:
            folder(name)
        except FileNotFoundError as error:
            problems.append(str(error))
    return problems


def _advice(
    machine: Environment, memory_mb: int, disk: dict[str, int], targets: tuple[TargetState, ...]
) -> list[str]:
    advice = []
    if not any(target.runs for target in targets):
        advice.append(
            "no runtime is installed, so that nothing can be compiled or run; for TFLite: "
            "pip install 'edgefx[tflite]'"
        )
    if machine.cpu_features and not any(name in _INT8_FEATURES for name in machine.cpu_features):
        advice.append(
            "this CPU has no INT8 dot-product instructions (AVX-VNNI, NEON dotprod): INT8 may be slower than"
            " float here, and latency measured here says little of an edge device that has them"
        )
    if memory_mb < _LOW_MEMORY_MB:
        advice.append(f"{memory_mb} MB of memory are available; a run of b0 may take {_LOW_MEMORY_MB} MB")
    advice += [
        f"{free} MB are free in {place}; a run may need {_LOW_DISK_MB} MB"
        for place, free in disk.items()
        if free < _LOW_DISK_MB
    ]
    return advice
