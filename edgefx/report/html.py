"""A result as HTML: for notebooks what the terminal shows, in colours that a page has, and as a page.

Everything that comes from files (paths, names of classes and layers, messages) is text: Rich escapes it for
HTML, and markup in it is not interpreted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from edgefx.analysis.diagnosis import DebugReport
from edgefx.provenance.comparison import RunDiff
from edgefx.provenance.gating import GateReport
from edgefx.report import (
    bundle,
    check,
    comparison,
    debug,
    drift,
    evaluation,
    gating,
    inspection,
    matrix,
    npu,
    plan,
    rollout,
    terminal,
)
from edgefx.report.console import PlainConsole
from edgefx.results import RunReport
from edgefx.shipments import Bundle, CheckReport, NpuReport, RolloutReport, VerifiedBundle
from edgefx.views import (
    ArtifactInspection,
    Benchmark,
    DriftReport,
    Evaluation,
    MatrixReport,
    ModelInspection,
    PlanView,
)

_COLUMNS = 160
_LAYERS = 20  # of each target in the report of `debug`; the object has all
_PAGE = '<pre style="font-family: monospace; line-height: normal; overflow-x: auto">{code}</pre>'
# How each result is printed. `Any`: a mapping cannot say that the function takes what its key names.
_PRINTED: Mapping[type, Callable[[Any, Console], None]] = {
    RunReport: terminal.render,
    MatrixReport: matrix.render,
    Evaluation: evaluation.render_evaluation,
    Benchmark: evaluation.render_benchmark,
    PlanView: plan.render,
    RunDiff: comparison.render_diff,
    GateReport: gating.render,
    DriftReport: drift.render,
    ArtifactInspection: inspection.render_artifact,
    Bundle: bundle.render_bundle,
    CheckReport: check.render,
    NpuReport: npu.render,
    VerifiedBundle: bundle.render_verified,
    RolloutReport: rollout.render_rollout,
    ModelInspection: lambda result, console: inspection.render_model(result, console, every_layer=False),
    DebugReport: lambda result, console: debug.render(
        result, console, limit=_LAYERS, order=debug.Order.EFFECT
    ),
}


def dumps(result: RunReport | MatrixReport | GateReport) -> str:
    """Write a result as a page: one file that needs no other."""
    from edgefx.report.page import gates, run
    from edgefx.report.page import matrix as runs

    if isinstance(result, RunReport):
        return run.dumps(result)
    return gates.dumps(result) if isinstance(result, GateReport) else runs.dumps(result)


def render(result: object) -> str:
    """Write a result as HTML.

    Raises:
        KeyError: No command prints such a result.
    """
    console = PlainConsole(file=io.StringIO(), record=True, width=_COLUMNS)
    _PRINTED[type(result)](result, console)
    return console.export_html(inline_styles=True, code_format=_PAGE)
