"""Check how a bundle is to reach a fleet: `edgefx rollout check`. Standard library and PyYAML only.

edgefx updates no device. It says before anybody does whether both bundles are whole, whether the programs on
the devices can take either of them, and whether what is planned can be carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgefx.bundles import check
from edgefx.bundles.signature import Trust
from edgefx.errors import UnknownNameError, UsageError
from edgefx.harmless import line
from edgefx.recipe import conditions
from edgefx.shipments import RolloutReport, RolloutStage
from edgefx.storage.regular import read_bytes
from edgefx.targets import select
from edgefx.units import parse_share

VERSION = 1
_KEYS = ("version", "name", "target", "bundle", "rollback", "stages", "gates", "compare")
_STAGE_KEYS = ("share", "hours")
_MOST_STAGES = 100
_MOST_HOURS = 24.0 * 366
_EXAMPLE = """\
for example:
version: 1
name: flowers-42
target: tflite-int8
bundle: flowers-42.edgefx.zip
rollback: flowers-41.edgefx.zip
stages: [{share: 1%, hours: 24}, {share: 10%, hours: 24}, {share: 100%}]
gates: [p95_ms <= 20]"""
# What a program on the device is written for; both bundles must have the same.
_ENDS = ("shape", "dtype", "scale", "zero_point")


def run(path: Path, *, trust: Trust | None = None) -> RolloutReport:
    """Check a rollout.

    Args:
        path: The file that describes it; bundles are named by paths inside its folder.
        trust: By whom both bundles must be signed; None not to check that.

    Raises:
        UsageError: The file cannot be read, or describes no rollout; or there is no such bundle.
        BundleError: A bundle is damaged, was changed, or is not signed as asked for.
        MissingDependencyError: Checking a signature takes a package that is not installed.
    """
    plan = _read(path)
    target = _text(plan, "target", path)
    if [row.name for row in select([target])] != [target]:
        raise UsageError(f"{path}: target: '{line(target)}' is not one target", hint="name one")
    stages, gates = _stages(plan.get("stages"), path), _gates(plan.get("gates"), path)
    bundle, new = check.read(_inside(path, _text(plan, "bundle", path)), trust=trust)
    rollback, old = check.read(_inside(path, _text(plan, "rollback", path)), trust=trust)
    problems, warnings = _compared(new, old, target)
    if not gates:
        warnings.append("no gates: nothing says when devices are to go back")
    if stages[0].share == 1.0:
        warnings.append("all devices at once: a first stage of a few per cent would find what no test did")
    return RolloutReport(
        path=path,
        name=line(_text(plan, "name", path)),
        target=target,
        bundle=bundle,
        rollback=rollback,
        stages=stages,
        gates=gates,
        compare=_share(plan["compare"], path, "compare") if "compare" in plan else 0.0,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


# ---------------------------------------- the file


def _read(path: Path) -> Mapping[str, Any]:
    from edgefx.system import short_yaml

    try:
        plan = short_yaml.parse(read_bytes(path, limit_bytes=short_yaml.MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint=_EXAMPLE) from error
    except ValueError as error:
        raise UsageError(f"{path}: no YAML: {error}", hint=_EXAMPLE) from error
    if not isinstance(plan, dict):
        raise UsageError(f"{path}: describes no rollout", hint=_EXAMPLE)
    for key in plan:
        if key not in _KEYS:
            raise UnknownNameError(f"key of {path}", line(str(key)), _KEYS)
    if plan.get("version") != VERSION or isinstance(plan["version"], bool):
        raise UsageError(f"{path}: version: this edgefx reads version {VERSION}", hint=_EXAMPLE)
    return plan


def _text(plan: Mapping[str, Any], key: str, path: Path) -> str:
    value = plan.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{path}: {key}: a text is missing", hint=_EXAMPLE)
    return value


def _inside(path: Path, name: str) -> Path:
    """Return a bundle's path, which may not lead out of the folder that the file is in."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name:
        raise UsageError(
            f"{path}: '{line(name)}' leads out of the folder of this file",
            hint="put the bundles beside it, or below",
        )
    return path.parent / parts


def _stages(given: Any, path: Path) -> tuple[RolloutStage, ...]:
    """Read the stages, of ever more devices, the last one of all."""
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_STAGES:
        raise UsageError(f"{path}: stages: a list of 1 to {_MOST_STAGES} is missing", hint=_EXAMPLE)
    stages = tuple(_stage(one, path, number) for number, one in enumerate(given, 1))
    shares = [stage.share for stage in stages]
    if shares != sorted(set(shares)) or shares[-1] != 1.0:
        raise UsageError(
            f"{path}: stages: shares have to rise from stage to stage, up to 100% in the last", hint=_EXAMPLE
        )
    endless = next((number for number, one in enumerate(stages[:-1], 1) if one.hours is None), None)
    if endless is not None:
        raise UsageError(f"{path}: stages: number {endless} does not say how many hours it lasts")
    return stages


def _stage(given: Any, path: Path, number: int) -> RolloutStage:
    where = f"stages: number {number}"
    if not isinstance(given, dict) or "share" not in given:
        raise UsageError(f"{path}: {where}: a share is missing", hint=_EXAMPLE)
    for key in given:
        if key not in _STAGE_KEYS:
            raise UnknownNameError(f"key of {path}, {where}", line(str(key)), _STAGE_KEYS)
    hours = given.get("hours")
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int | float)):
        raise UsageError(f"{path}: {where}: hours: not a number")
    if hours is not None and not 0 < hours <= _MOST_HOURS:
        raise UsageError(f"{path}: {where}: hours: not between 0 and {_MOST_HOURS:.0f}")
    return RolloutStage(
        share=_share(given["share"], path, where), hours=None if hours is None else float(hours)
    )


def _share(given: Any, path: Path, where: str) -> float:
    share = parse_share(str(given), option=f"{path}: {where}: share")
    if share <= 0:
        raise UsageError(f"{path}: {where}: a share of no devices", hint="write 1%, or 0.01")
    return share


def _gates(given: Any, path: Path) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise UsageError(f"{path}: gates: not a list of conditions", hint=f"such as: {conditions.EXAMPLE}")
    for one in given:
        conditions.parse(one, option=f"{path}: gates")
    return tuple(line(one) for one in given)


# ---------------------------------------- the bundles


def _compared(
    new: Mapping[str, object], old: Mapping[str, object], target: str
) -> tuple[list[str], list[str]]:
    """Return what forbids the rollout, and what to know of it. Manifests may say anything."""
    problems: list[str] = []
    warnings: list[str] = []
    of_new, of_old = _of_target(new, target), _of_target(old, target)
    for which, found in (("the bundle", of_new), ("the rollback", of_old)):
        if found is None:
            problems.append(f"{which} has no artifact for {target}")
    if of_new is None or of_old is None:
        return problems, warnings
    verdict = of_new.get("verdict")
    if verdict == "FAIL":
        problems.append("the bundle's own gates failed when it was compiled")
    elif verdict != "PASS":
        warnings.append(f"the bundle's own gates: {'none' if verdict is None else line(str(verdict))}")
    for end in ("input", "output"):
        ends = [{key: _mapping(one.get(end)).get(key) for key in _ENDS} for one in (of_new, of_old)]
        problems += [
            f"the {end} has another {key.replace('_', ' ')} than the rollback's: programs on the devices "
            f"would take {line(str(ends[0][key]))} for {line(str(ends[1][key]))}"
            for key in _ENDS
            if ends[0][key] != ends[1][key]
        ]
    if _outputs(of_new) != _outputs(of_old):
        problems.append(
            "the outputs are not those of the rollback: programs on the devices would mix them up"
        )
    for field, what in (("color", "color"), ("pixel_range", "pixel range"), ("class_names", "class names")):
        if new.get(field) != old.get(field):
            problems.append(f"the {what} are not those of the rollback")
    if _hashes(new, of_new) == _hashes(old, of_old):
        warnings.append("the artifact is the same as that of the rollback")
    return problems, warnings


def _outputs(of_target: Mapping[str, object]) -> list[object]:
    """Return what a program must know of each of several outputs."""
    listed = of_target.get("outputs")
    outputs = [_mapping(one) for one in (listed if isinstance(listed, list) else [])]
    return [
        [one.get("task"), one.get("output_kind"), *(_mapping(one.get("tensor")).get(key) for key in _ENDS)]
        for one in outputs
    ]


def _of_target(manifest: Mapping[str, object], target: str) -> Mapping[str, object] | None:
    targets = manifest.get("targets")
    named = (_mapping(one) for one in (targets if isinstance(targets, list) else []))
    return next((one for one in named if one.get("target") == target), None)


def _hashes(manifest: Mapping[str, object], of_target: Mapping[str, object]) -> list[object]:
    listed, mine = manifest.get("files"), of_target.get("files")
    files = [_mapping(one) for one in (listed if isinstance(listed, list) else [])]
    names = mine if isinstance(mine, list) else []
    return [one.get("sha256") for one in files if one.get("path") in names]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
