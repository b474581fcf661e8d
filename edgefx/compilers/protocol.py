"""What a compiler offers: a module of `edgefx.compilers` with one object, ``COMPILER``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgefx.compilation import Arena, LayerPlacement, NpuEstimate
from edgefx.npus import NpuOptions
from edgefx.protocols import Session
from edgefx.types import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a compiler says of what it made.

    Attributes:
        estimate: Of time and memory, where the chip has an NPU.
        placements: Where each layer is computed, likewise.
        arena: The memory that an interpreter works in, where there is one.
    """

    estimate: NpuEstimate | None = None
    placements: tuple[LayerPlacement, ...] = ()
    arena: Arena | None = None


class Compiler(Protocol):
    """From an integer artifact to one for a chip: what of it is estimated is marked so."""

    def check(self) -> str:
        """Return the compiler's name and version.

        Raises:
            MissingDependencyError, NotSetUpError: It is not installed.
        """

    def configure(self, chip: str, options: NpuOptions) -> NpuOptions:
        """Return the options that mean something for a chip, with every default written out.

        Raises:
            UnknownNameError: One of them has no such name for this chip.
        """

    def compile(self, content: bytes, out: Path, chip: str, options: NpuOptions) -> Compiled:
        """Compile an artifact.

        Args:
            content: The artifact's file, without edgefx's metadata.
            out: The file to write; it appears complete, or not at all.
            chip: Its name, that of the target.
            options: From `configure`.

        Raises:
            ConversionError: The compiler refused it.
            OutputError: `out` cannot be written.
            DiskFullError: No space is left.
        """


@runtime_checkable
class Native(Compiler, Protocol):
    """A compiler that makes machine code, which runs here where this machine is one that it is for."""

    def answers(self, path: Path, chip: str, stored: NDArray[np.int8]) -> NDArray[np.int8] | None:
        """Run what was compiled.

        Args:
            path: Its file.
            chip: The name that it was compiled for.
            stored: Images as the artifact stores them, [N, H, W, C].

        Returns:
            What it answers, as stored, [N, classes]; None where this machine cannot run it.

        Raises:
            ConversionError: It does not run.
        """


@runtime_checkable
class Interpreting(Compiler, Protocol):
    """A compiler with an interpreter that runs here what runs on the chip."""

    def open_session(self, path: Path, described: Artifact) -> AbstractContextManager[Session]:
        """Open the artifact that is compiled, for inference on this machine's CPU.

        Args:
            path: Its file.
            described: Its description.

        Raises:
            ArtifactError: The interpreter refuses it.
        """
