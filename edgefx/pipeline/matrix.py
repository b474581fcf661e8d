"""Several runs of one recipe, and the report on all of them.

A run that fails does not take the others down: what it failed of is in the report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from edgefx.errors import EdgefxError
from edgefx.results import RunReport
from edgefx.views import MatrixReport, MatrixRun, RunError

SCHEMA_VERSION = 1


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
