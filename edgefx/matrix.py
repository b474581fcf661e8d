"""Several runs of one recipe, and the report on all of them.

A run that fails does not take the others down: what it failed of is in the report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefx.errors import EdgefxError, ExitCode
from edgefx.results import RunReport

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunError:
    """Why a run has no report."""

    message: str
    hint: str
    details: tuple[str, ...]
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class MatrixRun:
    """One run of a matrix.

    Attributes:
        name: Of its combination.
        output: Its folder.
        report: What it found; None when it failed as a whole.
        error: Why it did.
    """

    name: str
    output: Path
    report: RunReport | None
    error: RunError | None = None

    @property
    def exit_code(self) -> int:
        """What the run alone would have ended with."""
        if self.report is not None:
            return int(self.report.exit_code)
        return self.error.exit_code if self.error else int(ExitCode.BUG)


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """The outcome of all runs of a recipe with a matrix; `matrix.json` is this object."""

    schema_version: int
    recipe: str
    command: str
    runs: tuple[MatrixRun, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the runs: a failed stage outranks a failed gate."""
        return ExitCode(max(run.exit_code for run in self.runs))


def run(
    runs: Sequence[tuple[str, Path, Callable[[], RunReport]]], *, recipe: str, command: str
) -> MatrixReport:
    """Carry out the runs, one after the other.

    Args:
        runs: Name, output folder and what to do, of each.
        recipe: The recipe's name, for the report.
        command: The command line, for the report.
    """
    return MatrixReport(
        schema_version=SCHEMA_VERSION,
        recipe=recipe,
        command=command,
        runs=tuple(_one(name, output, execute) for name, output, execute in runs),
    )


def _one(name: str, output: Path, execute: Callable[[], RunReport]) -> MatrixRun:
    try:
        return MatrixRun(name=name, output=output, report=execute())
    except EdgefxError as error:
        logging.getLogger("edgefx").warning("run %s failed: %s", name, error.message)
        reason = RunError(
            message=error.message, hint=error.hint, details=error.details, exit_code=int(error.exit_code)
        )
        return MatrixRun(name=name, output=output, report=None, error=reason)
