"""edgefx: from a Keras EfficientNet to an edge artifact whose accuracy and speed are known.

From Python: ``edgefx.compile``, ``run``, ``plan``, ``plan_recipe``, ``evaluate``, ``benchmark``, ``inspect``,
``check``, ``debug``, ``diff``, ``gate``, ``npu``, ``bundle``, ``verify`` and ``check_rollout`` do what these
commands do; see `edgefx.api`. They are imported when they are first used, so that ``import edgefx`` costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from edgefx.version import __version__

if TYPE_CHECKING:
    from edgefx.api import (
        benchmark,
        bundle,
        check,
        check_rollout,
        compile,  # noqa: A004 - the command's name
        debug,
        diff,
        drift,
        evaluate,
        gate,
        inspect,
        npu,
        plan,
        plan_recipe,
        run,
        verify,
    )
    from edgefx.errors import EdgefxError

__all__ = [
    "EdgefxError",
    "__version__",
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


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'edgefx' has no attribute '{name}'")
    return getattr(import_module("edgefx.errors" if name == "EdgefxError" else "edgefx.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
