"""The names of the classes, from a text file: `--labels`. Standard library only."""

from __future__ import annotations

from pathlib import Path

from edgefx import harmless
from edgefx.errors import DataError
from edgefx.storage.regular import read_bytes
from edgefx.types import ModelSpec, ModelTask

_MOST_BYTES = 64 * 10**6
_FORM = "write one name a line, in the order of the model's scores"


def read(path: Path, spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of a model's classes, by index.

    Args:
        path: A text file in UTF-8 with a name on each line; empty lines at its end do not count.
        spec: The model.

    Raises:
        DataError: It cannot be read, a line is empty, a name is there twice, or there are more or fewer names
            than the model has classes.
    """
    try:
        text = read_bytes(path, limit_bytes=_MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint=_FORM) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8", hint=_FORM) from error
    found = tuple(harmless.line(one.strip()) for one in text.rstrip().splitlines())
    if spec.outputs:
        raise DataError(
            f"{path}: {spec.source} has several outputs, and one list of names does not say of which it is",
            hint="compile one of them: --head NAME",
        )
    if not spec.task.classifies and spec.task is not ModelTask.MULTILABEL:
        raise DataError(
            f"{path}: names are of classes, and {spec.source} has none: its task is {spec.task}",
            hint="leave --labels out",
        )
    if len(found) != spec.classes:
        raise DataError(f"{path}: {len(found)} names, but the model has {spec.classes} classes", hint=_FORM)
    seen: set[str] = set()
    for number, name in enumerate(found, 1):
        if not name or name in seen:
            what = f"'{name}' is there twice" if name else "it is empty"
            raise DataError(f"{path}, line {number}: {what}", hint=_FORM)
        seen.add(name)
    return found
