"""TensorFlow Lite for Microcontrollers (TFLM): the package `tflite-micro`, its interpreter for PCs.

It computes on TFLM's reference kernels. The file stays as it is; what is added is what the interpreter tells:
that it runs the file, in which arena, and with what answers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgefx.compilation import Arena
from edgefx.compilers import arena
from edgefx.compilers.protocol import Compiled
from edgefx.errors import ArtifactError, ConversionError
from edgefx.harmless import line
from edgefx.npus import NPU_DEFAULTS, NpuOptions
from edgefx.protocols import Session
from edgefx.runtimes.session import BatchSession, ends_of_images
from edgefx.storage.atomic import write_artifact
from edgefx.system.packages import is_installed, missing
from edgefx.vocabulary import Optimise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Artifact

_PACKAGE, _DISTRIBUTION = "tflite_micro", "tflite-micro"
_MOST_ARENA = 1 << 30
_AMPLE_ARENA, _PER_BYTE = 64 << 20, 10  # of a PC, which need not be tight
_MARGIN = 10  # percent; kernels of a chip may take memory that the reference kernels do not
_ROUNDED = 1024  # bytes
_UNKNOWN = re.compile(r"Didn't find op for builtin opcode '(?P<name>[A-Z0-9_]+)'")


class Tflm:
    """A `Compiler`, and `Interpreting`."""

    def check(self) -> str:
        """Return the name and the version of the interpreter; see `Compiler.check`."""
        if not is_installed(_PACKAGE):
            raise missing(_PACKAGE, purpose="TensorFlow Lite for Microcontrollers")
        try:
            return f"{_DISTRIBUTION} {metadata.version(_DISTRIBUTION)}"
        except metadata.PackageNotFoundError:
            return _DISTRIBUTION

    def configure(self, chip: str, options: NpuOptions) -> NpuOptions:
        """Return whether flash is to be small, where it is: nothing else is to choose; see `Compiler`."""
        del chip
        return replace(NPU_DEFAULTS, optimise=Optimise.SIZE if options.optimise is Optimise.SIZE else None)

    def compile(self, content: bytes, out: Path, chip: str, options: NpuOptions) -> Compiled:
        """Find out what the interpreter needs to run a ``.tflite``; see `Compiler.compile`."""
        del options
        needed = _smallest_arena(content, chip)
        write_artifact(out, content)
        with_margin = needed * (100 + _MARGIN) // 100
        return Compiled(
            arena=Arena(needed_bytes=needed, bytes=-(-with_margin // _ROUNDED) * _ROUNDED),
        )

    @contextmanager
    def open_session(self, path: Path, described: Artifact) -> Iterator[Session]:
        """Open an artifact in the interpreter; see `Interpreting.open_session`."""
        try:
            session = TflmSession(path, described)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: TFLM refuses the file: {error}", hint="see the log file") from error
        yield session


class TflmSession(BatchSession):
    """An interpreter with an arena that is large enough for whatever it is asked to run here."""

    def __init__(self, path: Path, described: Artifact) -> None:
        from tflite_micro.python.tflite_micro import runtime

        super().__init__(
            path,
            *ends_of_images(path, described.inputs, described.outputs),
            refusals=(RuntimeError,),
        )
        content = path.read_bytes()
        self._interpreter = runtime.Interpreter.from_bytes(
            content, arena_size=max(_AMPLE_ARENA, _PER_BYTE * len(content))
        )

    @property
    def precision_ran(self) -> str:
        """The numeric format of the kernels."""
        return "int8"

    def _put(self, part: NDArray[Any]) -> None:
        self._interpreter.set_input(part, 0)

    def _invoke(self) -> None:
        self._interpreter.invoke()

    def _take(self) -> Sequence[NDArray[Any]]:
        return [self._interpreter.get_output(place) for place in range(len(self._outputs))]


def _smallest_arena(content: bytes, what: str) -> int:
    """Return the bytes of the smallest arena that the interpreter runs a file in.

    Raises:
        ConversionError: It refuses the file.
    """
    with tempfile.TemporaryDirectory(prefix="tflm-") as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(content)
        ran = subprocess.run(  # noqa: S603 - our own module, arguments as a list
            [sys.executable, "-m", "edgefx.compilers.arena", str(file), str(_MOST_ARENA)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if ran.returncode == 0:
        return int(ran.stdout)
    unknown = _UNKNOWN.search(ran.stderr)
    if unknown is not None:
        raise ConversionError(
            f"{what}: TFLM has no kernel for {unknown['name']}",
            hint=f"change the layer that computes {unknown['name']}; see: edgefx check MODEL -t tflm-int8",
        )
    said = [text for text in ran.stderr.splitlines() if text.strip()] or [f"it ended with {ran.returncode}"]
    if arena.ENDED in said[-1]:
        raise ConversionError(
            f"{what}: {line(said[-1])}",
            hint="change the layer that this operation computes: on a chip it would end the program, too",
        )
    # The last line is that of the largest arena; what comes before says why.
    raise ConversionError(f"{what}: TFLM refuses the file: {line(said[-2:][0])}", hint="see: edgefx inspect")


COMPILER: Final = Tflm()
