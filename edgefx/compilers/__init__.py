"""Compilers: from an artifact to one for an NPU. `load` imports the one that a chip needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from edgefx.npus import NPUS
from edgefx.targets import TargetRow

if TYPE_CHECKING:
    from edgefx.compilers.protocol import Compiler
    from edgefx.npus import NpuRow


def load(row: NpuRow) -> Compiler:
    """Import the compiler behind a row."""
    return cast("Compiler", import_module(row.module).COMPILER)


def npu_of(row: TargetRow) -> NpuRow | None:
    """Return the NPU that a target is compiled for; None for a target of a runtime."""
    return NPUS.get(row.name)
