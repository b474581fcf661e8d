"""What a compiler offers: a module of `edgefx.compilers` with one object, ``COMPILER``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgefx.compilation import LayerPlacement, NpuEstimate
from edgefx.npus import NpuOptions, NpuRow


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a compiler says of what it made.

    Attributes:
        estimate: Of time and memory.
        placements: Where each layer is computed.
    """

    estimate: NpuEstimate
    placements: tuple[LayerPlacement, ...]


class Compiler(Protocol):
    """From an integer artifact to one for an NPU, with estimates: nothing is run, and nothing measured."""

    def check(self) -> str:
        """Return the compiler's name and version.

        Raises:
            MissingDependencyError: It is not installed.
        """

    def configure(self, row: NpuRow, options: NpuOptions) -> NpuOptions:
        """Return the options with every default of the row written out.

        Raises:
            UnknownNameError: One of them has no such name for this NPU.
        """

    def compile(self, content: bytes, out: Path, row: NpuRow, options: NpuOptions) -> Compiled:
        """Compile an artifact.

        Args:
            content: The artifact's file, without edgefx's metadata.
            out: The file to write; it appears complete, or not at all.
            row: The NPU.
            options: From `configure`.

        Raises:
            ConversionError: The compiler refused it.
            OutputError: `out` cannot be written.
            DiskFullError: No space is left.
        """
