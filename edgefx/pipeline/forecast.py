"""What of a plan is in the cache: `edgefx run --dry-run`. Nothing is computed, nothing is written."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from edgefx.cache.settings import CacheSettings, from_environment
from edgefx.pipeline.execute import Run
from edgefx.pipeline.memo import Memo, NotKeptError
from edgefx.pipeline.plan import Plan
from edgefx.pipeline.stages import steps
from edgefx.protocols import SILENT
from edgefx.views import PlanStep


def forecast(plan: Plan, cache: CacheSettings | None = None) -> tuple[PlanStep, ...]:
    """Return the steps of a plan, with what is known of the result of each.

    A step whose inputs are not computed yet is neither cached nor not: that cannot be known.

    Args:
        plan: From `plan`.
        cache: Where results are kept; by default as the environment says.

    Raises:
        EdgefxError: The model does not exist, or the labels do not fit it.
    """
    settings = cache if cache is not None else from_environment()
    with closing(settings.hashes()) as hashes:
        memo = Memo(settings.store(SILENT.warn), SILENT)  # without a workspace: it computes nothing
        run = Run(plan, memo, hashes)
        return tuple(replace(step, cached=_cached(step, run)) for step in steps(plan))


def _cached(step: PlanStep, run: Run) -> bool | None:
    """Carry a step out, and say whether that went without computing anything."""
    if not run.is_ready(step.stage, step.target):
        return None
    try:
        run.carry_out(step.stage, step.target)
    except NotKeptError:
        return False
    return step.target not in run.failures
