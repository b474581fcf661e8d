"""Every user-facing error: what happened, where, what to do, and the exit code.

Raise these from any room; only `edgefx.cli` prints them. An exception that is not an `EdgefxError` is a
bug in edgefx and exits with 70.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import Self

from edgefx.harmless import visible


class ExitCode(IntEnum):
    """Process exit codes; part of the command line's contract."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    MISSING_DEPENDENCY = 3
    STAGE_FAILED = 4
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


class Block(str):
    """A detail of several lines; all other text of an error is one line, whatever names it quotes."""

    __slots__ = ()

    @classmethod
    def of(cls, lines: Iterable[str]) -> Self:
        """Join lines, those after the first indented; line breaks inside one of them are shown instead."""
        return cls("\n  ".join(map(visible, lines)))


class EdgefxError(Exception):
    """Base of all errors a user can cause or cure.

    Args:
        message: What went wrong and where, one sentence without a final full stop.
        hint: What to do about it; may be empty.
        details: Further lines (for example the names of corrupt files).
    """

    exit_code = ExitCode.STAGE_FAILED

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(EdgefxError):
    """An option, argument or recipe that cannot be carried out as given."""

    exit_code = ExitCode.USAGE


class UnknownNameError(UsageError):
    """A target, model or option value that does not exist; names the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        known = list(known)
        lowered = {one.lower(): one for one in known}
        near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
        close = [lowered[one] for one in near]
        suggestion = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} '{name}'", hint=f"{suggestion} {hint}".strip())
        self.name = name


class OutputError(UsageError):
    """The output folder cannot be written."""


class MissingDependencyError(EdgefxError):
    """A package or tool that a target needs is absent, or is installed and cannot be used.

    Args:
        package: Import name.
        needed_for: What needs it.
        requirement: Its distribution and versions, where these differ from `package`.
        install: What to install where it is absent, if that is more than `requirement`: an extra of edgefx.
        lighter: The requirements, quoted, that suffice where artifacts are only run.
        cause: What its import raised; None or its absence means that it is not installed.
    """

    exit_code = ExitCode.MISSING_DEPENDENCY

    def __init__(
        self,
        package: str,
        *,
        needed_for: str,
        requirement: str | None = None,
        install: str = "",
        lighter: str = "",
        cause: BaseException | None = None,
    ) -> None:
        requirement = requirement or package
        if cause is None or (isinstance(cause, ModuleNotFoundError) and cause.name in (None, package)):
            super().__init__(
                f"the package '{package}', needed for {needed_for}, cannot be imported",
                hint=f"run: pip install '{install or requirement}'"
                + (f"; only to run artifacts: pip install {lighter}" if lighter else ""),
            )
        else:
            told = (str(cause).strip().splitlines() or ["not enough memory"])[0][:300]
            super().__init__(
                f"the package '{package}', needed for {needed_for}, is installed but cannot be imported: "
                f"{told}",
                hint="there is too little memory for it: end other programs, or raise the limit "
                "(ulimit -v, or the container's)"
                if _is_lack_of_memory(cause)
                else "install another package that it names as missing, or repair it: "
                f"pip install '{requirement}' --force-reinstall",
            )
        self.package = package


class MissingToolError(EdgefxError):
    """A program that is needed on this machine is absent."""

    exit_code = ExitCode.MISSING_DEPENDENCY


class NotSetUpError(EdgefxError):
    """A compiler's own environment was not made, or cannot be."""

    exit_code = ExitCode.MISSING_DEPENDENCY


def _is_lack_of_memory(error: BaseException) -> bool:
    """Whether an import failed for want of memory: the dynamic linker says so in words of its own."""
    signs = ("cannot allocate memory", "failed to map segment", "out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


class ModelError(EdgefxError):
    """A model file that cannot be loaded, or a model that edgefx cannot compile."""


class NoModelError(ModelError, UsageError):
    """A path that holds no model at all: there is nothing, or something else."""

    exit_code = ExitCode.USAGE


class DataError(EdgefxError):
    """An image folder that cannot be used: missing, empty, corrupt, wrongly labelled or out of range."""

    exit_code = ExitCode.USAGE  # the folder is what the user names; no stage can make up for it


class ConversionError(EdgefxError):
    """A converter or quantizer refused the graph, or wrote something else than was asked for."""


class ArtifactError(EdgefxError):
    """An artifact file that cannot be read or run."""


class BundleError(EdgefxError):
    """A bundle that is not what edgefx wrote, or not signed as asked for."""

    exit_code = ExitCode.GATE_FAILED  # it was asked whether it is good, and it is not


class BenchmarkError(EdgefxError):
    """A process that runs an artifact, here or on a device, which died, did not answer or refused it."""


class DeviceError(EdgefxError):
    """A device that cannot be reached, or that is no longer there."""


class DeviceDependencyError(BenchmarkError):
    """Python, or the runtime of an artifact, is absent on a device."""

    exit_code = ExitCode.MISSING_DEPENDENCY


class DiskFullError(EdgefxError):
    """No space left where the output or the temporary files go, or on a device."""
