"""What a compiler offers: a module of `edgefx.compilers` with one object, ``COMPILER``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgefx.npus import NpuRow
from edgefx.shipments import NpuEstimate


class Compiler(Protocol):
    """From an integer artifact to one for an NPU, with estimates: nothing is run, and nothing measured."""

    def check(self) -> str:
        """Return the compiler's name and version.

        Raises:
            MissingDependencyError: It is not installed.
        """

    def configure(
        self, row: NpuRow, *, system_config: str | None, memory_mode: str | None
    ) -> tuple[str, str]:
        """Return the system configuration and the memory mode to compile for, by default those of the row.

        Raises:
            UnknownNameError: There is none of that name for this NPU.
        """

    def compile(
        self, content: bytes, out: Path, row: NpuRow, *, system_config: str, memory_mode: str
    ) -> NpuEstimate:
        """Compile an artifact.

        Args:
            content: The artifact's file, without edgefx's metadata.
            out: The file to write; it appears complete, or not at all.
            row: The NPU.
            system_config: From `configure`.
            memory_mode: From `configure`.

        Raises:
            ConversionError: The compiler refused it.
            OutputError: `out` cannot be written.
            DiskFullError: No space is left.
        """
