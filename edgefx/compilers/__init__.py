"""Compilers: from an artifact to one for an NPU. `load` imports the one that an NPU needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from edgefx.compilers.protocol import Compiler
    from edgefx.npus import NpuRow


def load(row: NpuRow) -> Compiler:
    """Import the compiler behind a row."""
    return cast("Compiler", import_module(row.module).COMPILER)
