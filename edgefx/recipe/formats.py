"""What a text of a recipe must be where JSON Schema only says "text": paths, models, targets, limits.

Each function returns the value, or raises what is wrong with it. Nothing heavy is imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from edgefx.errors import EdgefxError, UnknownNameError
from edgefx.recipe.tree import Scalar, quoted

_NAMED_WEIGHTS = ("imagenet", "random", "packaged")


def _input_path(node: Scalar, _key: str) -> object:
    path = resolved_path(node)
    if not _is(path, "dir"):
        if _is(path, "file"):
            raise EdgefxError(f"{quoted(node.text)}: is a file", hint="give the folder that it is in")
        raise EdgefxError(f"{quoted(node.text)}: no such folder", hint=_looked(node, path))
    return str(path)


def resolved_path(node: Scalar) -> Path:
    """Return the path that a value of a recipe means.

    It is relative to the file that it is written in; relative to the working folder when it is given on the
    command line, or begins with the value of an environment variable.

    Raises:
        EdgefxError: There can be no such path.
    """
    try:
        path = Path(node.text).expanduser()
    except RuntimeError as error:  # an unknown user, or none
        raise EdgefxError(f"{quoted(node.text)}: no such home folder", hint="write it out") from error
    return path if node.from_environment else node.span.source.folder / path


def _is(path: Path, kind: str) -> bool:
    try:
        return {"dir": path.is_dir, "file": path.is_file, "any": path.exists}[kind]()
    except (OSError, ValueError) as error:
        raise EdgefxError(f"{quoted(str(path))} cannot be a path: {error}") from error


def _looked(node: Scalar, path: Path) -> str:
    return "check the path" if Path(node.text).is_absolute() else f"looked for {path.absolute()}"


def _model(node: Scalar, _key: str) -> object:
    from edgefx.models.hub import is_address
    from edgefx.models.zoo import FAMILIES, known

    if known(node.text) is not None or is_address(node.text):
        return node.text
    path = resolved_path(node)
    if _is(path, "any"):
        return str(path)
    if path.suffix or "/" in node.text:
        raise EdgefxError(f"{quoted(node.text)}: no such model file", hint=_looked(node, path))
    raise UnknownNameError("model", node.text, FAMILIES, hint="(or give the path of a file)")


def _weights(node: Scalar, _key: str) -> object:
    path = resolved_path(node)
    return node.text if node.text in _NAMED_WEIGHTS or not _is(path, "file") else str(path)


def _target(node: Scalar, _key: str) -> object:
    from edgefx.targets import ALL, matching, why_unknown

    for pattern in node.text.split(","):
        if not matching(pattern):
            name = pattern.strip()
            what = "no target matches" if set(name) & set("*?[") else "unknown target"
            close = difflib.get_close_matches(name.lower(), ALL, n=2, cutoff=0.5)
            known = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(ALL)}"
            if name.lower().startswith("tflm-"):
                known += f" {why_unknown(name)}"
            raise EdgefxError(f"{what} {quoted(name)}", hint=known)
    return node.text


def _drop(node: Scalar, key: str) -> object:
    from edgefx.units import split_drop

    split_drop(node.text, option=f"{key}:")
    return node.text


def _milliseconds(node: Scalar, key: str) -> object:
    from edgefx.units import parse_ms

    parse_ms(node.text, option=f"{key}:")
    return node.text


def _size(node: Scalar, key: str) -> object:
    from edgefx.units import parse_size

    parse_size(node.text, option=f"{key}:")
    return node.text


def _io_dtype(node: Scalar, key: str) -> object:
    from edgefx.units import parse_io_dtypes

    parse_io_dtypes(node.text, option=f"{key}:")
    return node.text


def _task(node: Scalar, key: str) -> object:
    from edgefx.units import parse_tasks

    parse_tasks(node.text, option=f"{key}:")
    return node.text


def _input_size(node: Scalar, key: str) -> object:
    from edgefx.units import parse_size_of_input

    parse_size_of_input(node.text, option=f"{key}:")
    return int(node.text) if node.text.isdigit() else node.text


def _share(node: Scalar, key: str) -> object:
    from edgefx.units import parse_share

    parse_share(node.text, option=f"{key}:")
    return node.text


def _prune(node: Scalar, key: str) -> object:
    from edgefx.units import parse_prune

    parse_prune(node.text, option=f"{key}:")
    return node.text


def _cluster(node: Scalar, key: str) -> object:
    from edgefx.units import parse_cluster

    values, _ = parse_cluster(node.text, option=f"{key}:")
    return node.text if values is None else values


def _points(node: Scalar, key: str) -> object:
    from edgefx.units import parse_points

    parse_points(node.text, option=f"{key}:")
    return node.text


def _output_path(node: Scalar, _key: str) -> object:
    """Return a path relative to the working folder: what a run makes is not put beside its recipe."""
    if "\0" in node.text:
        raise EdgefxError(f"{quoted(node.text)} cannot be a path", hint="take the null character out")
    try:
        return str(Path(node.text).expanduser())
    except RuntimeError as error:
        raise EdgefxError(f"{quoted(node.text)}: no such home folder", hint="write it out") from error


def _report_path(node: Scalar, key: str) -> object:
    from edgefx.destinations import known, parse

    if parse(node.text) is None:
        raise EdgefxError(
            f"{quoted(node.text)}: the suffix names no format of reports", hint=f"known: {known()}"
        )
    return _output_path(node, key)


def _hardware(node: Scalar, _key: str) -> object:
    """Return the name of a class of hardware, or the path of a profile, which is read only by the plan."""
    from edgefx.storage.hardware import SUFFIX
    from edgefx.system.cpu import PROFILE_SUFFIXES
    from edgefx.vocabulary import NATIVE, Hardware

    if node.text in {NATIVE, *Hardware}:
        return node.text
    path = resolved_path(node)
    if path.suffix not in (SUFFIX, *PROFILE_SUFFIXES):
        raise UnknownNameError(
            "hardware",
            node.text,
            [NATIVE, *Hardware],
            hint="(or the path of a profile, a .json or .yaml file)",
        )
    if not _is(path, "file"):
        raise EdgefxError(f"{quoted(node.text)}: no such profile", hint=_looked(node, path))
    return str(path)


def _condition(node: Scalar, key: str) -> object:
    from edgefx.recipe.conditions import of_device

    of_device(key, node.text, option=key)
    return node.text


def _run_condition(node: Scalar, key: str) -> object:
    from edgefx.recipe.conditions import of_run

    of_run(node.text, option=key)
    return node.text


FORMATS: dict[str, Callable[[Scalar, str], object]] = {
    "path": _input_path,
    "model": _model,
    "weights": _weights,
    "target": _target,
    "hardware": _hardware,
    "drop": _drop,
    "milliseconds": _milliseconds,
    "size": _size,
    "input-size": _input_size,
    "io-dtype": _io_dtype,
    "task": _task,
    "share": _share,
    "prune": _prune,
    "cluster": _cluster,
    "points": _points,
    "condition": _condition,
    "run-condition": _run_condition,
    "output-path": _output_path,
    "report-path": _report_path,
}
