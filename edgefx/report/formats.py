"""Write a result in a format that is named: the same result, each time for another reader."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from edgefx.vocabulary import REPORT_FORMATS

if TYPE_CHECKING:
    from edgefx.provenance.gating import GateReport
    from edgefx.results import RunReport
    from edgefx.views import MatrixReport

# Formats that are written otherwise for a matrix and for `edgefx gate` than for a run.
_OTHERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("MatrixReport", "terminal"): ("edgefx.report.matrix", "text"),
    ("MatrixReport", "markdown"): ("edgefx.report.matrix", "markdown"),
    ("GateReport", "terminal"): ("edgefx.report.gating", "text"),
    ("GateReport", "markdown"): ("edgefx.report.gating", "markdown"),
}


def dumps(report: RunReport | MatrixReport | GateReport, name: str) -> str:
    """Return a report in a format.

    Args:
        report: What to write.
        name: A key of `REPORT_FORMATS`.
    """
    if name == "github":
        return dumps(report, "markdown")
    row = REPORT_FORMATS[name]
    module, function = _OTHERS.get((type(report).__name__, name), (row.module, "dumps"))
    write = getattr(import_module(module), function)
    if not row.of_rows:
        return str(write(report))
    from edgefx.report.judged import rows

    return str(write(rows(report)))
