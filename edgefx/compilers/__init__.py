"""Compilers: from an artifact to one for a chip. `load` imports the one that a chip needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from edgefx.compilers.protocol import Compiler
    from edgefx.npus import NpuRow
    from edgefx.targets import TargetRow


def load(row: NpuRow | TargetRow) -> Compiler:
    """Import the compiler behind a row; of targets, those of `edgefx.targets.COMPILED` have one."""
    return cast("Compiler", import_module(row.compiler).COMPILER)
