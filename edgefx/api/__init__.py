"""edgefx from Python: what the commands do, as functions that return what the commands print.

Every option has the name of its flag or of its recipe key, every function raises subclasses of `EdgefxError`
for what a user can cure, and nothing is printed: give `progress` an object with the methods of
`edgefx.protocols.Progress` to be told of long work and of warnings. The native logs of TensorFlow and of the
runtimes are left where they go, which is the process's stderr; only their INFO lines are switched off.

A notebook shows each result as the table that the command prints.
"""

from __future__ import annotations

from edgefx.api.artifacts import benchmark, debug, diff, evaluate, inspect
from edgefx.api.deployment import bundle, check, check_rollout, npu, verify
from edgefx.api.gates import gate
from edgefx.api.monitoring import drift
from edgefx.api.runs import CompileOptions, compile, plan, plan_recipe, run  # noqa: A004 - the command's name
from edgefx.notebook import Shown

__all__ = [
    "CompileOptions",
    "benchmark",
    "bundle",
    "check",
    "check_rollout",
    "compile",
    "debug",
    "diff",
    "drift",
    "evaluate",
    "gate",
    "inspect",
    "npu",
    "plan",
    "plan_recipe",
    "run",
    "verify",
]


def _html(result: object) -> str:
    from edgefx.report.html import render

    return render(result)


Shown.html = _html
