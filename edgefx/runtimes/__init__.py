"""The runtimes: one package each, with the same file names; `load` imports the one that a target needs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgefx.errors import UsageError
from edgefx.targets import TARGETS, TargetRow, row_for_artifact

if TYPE_CHECKING:
    from edgefx.runtimes.protocol import Introspectable, Runtime, Trainable


def load(row: TargetRow) -> Runtime:
    """Import the runtime behind a row."""
    return cast("Runtime", import_module(f"{row.module}.runtime").RUNTIME)


def introspectable(row: TargetRow) -> Introspectable:
    """Import the runtime behind a row, to read its artifacts back in terms of the canonical graph.

    Raises:
        UsageError: Its artifacts cannot be read back.
    """
    from edgefx.runtimes.protocol import Introspectable

    runtime = load(row)
    if not isinstance(runtime, Introspectable):
        raise UsageError(f"what {row.name} quantizes cannot be read back", hint="choose another target")
    return runtime


def trainable() -> Trainable:
    """Import the runtime whose integer kernels training imitates."""
    from edgefx.runtimes.protocol import Trainable

    runtime = load(TARGETS["tflite-int8"])
    assert isinstance(runtime, Trainable)
    return runtime


def for_artifact(path: Path) -> Runtime:
    """Return the runtime that reads `path`, by its suffix.

    Raises:
        ArtifactError: No runtime reads such a file.
    """
    return load(row_for_artifact(path))
