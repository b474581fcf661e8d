"""Run a lock file again, with nothing from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache.settings import OFF
from edgefx.pipeline import execute
from edgefx.pipeline.plan import plan
from edgefx.provenance import lock as locks
from edgefx.provenance.reproduction import Reproduction, compare
from edgefx.recipe.load import parse

if TYPE_CHECKING:
    from edgefx.protocols import Progress
    from edgefx.provenance.lock import Lock
    from edgefx.recipe.schema import Recipe


def recipe_of(
    lock: Lock,
    path: Path,
    *,
    output: Path,
    model: str | None = None,
    calibration: Path | None = None,
    evaluation: Path | None = None,
    hardware: Path | None = None,
    benchmark: bool = False,
) -> Recipe:
    """Return the recipe that runs a lock again.

    Args:
        lock: What is to be reproduced.
        path: Its file, for messages.
        output: Where the new run's results go.
        model: Where the model is now, if it has moved.
        calibration: Where the calibration images are now.
        evaluation: Where the evaluation images are now.
        hardware: Where the hardware profile is now.
        benchmark: Measure latency too; it is never the same twice.

    Raises:
        UsageError: This edgefx does not understand the recorded recipe.
    """
    document = dict(lock.recipe)
    document["output"] = str(output)
    document.pop("report", None)
    if model is not None:
        document["model"] = {**document["model"], "source": model}
    if calibration is not None:
        document["calibration"] = {**(document.get("calibration") or {}), "images": str(calibration)}
    if evaluation is not None:
        document["evaluate"] = {**(document.get("evaluate") or {}), "images": str(evaluation)}
    if hardware is not None:
        document["hardware"] = str(hardware)
    if benchmark and document.get("benchmark"):
        document["benchmark"] = {**document["benchmark"], "threads": lock.threads}
    if not benchmark:
        document["benchmark"] = None
        # Without latency its gates could not be judged; what gates say is not what is reproduced.
        document["gates"] = {}
        document["targets"] = [
            {key: value for key, value in target.items() if key != "gates"} for target in document["targets"]
        ]
    return parse(document, where=str(path))


def run(
    path: Path, recipe: Recipe, progress: Progress, *, command: str, allow_unsafe: bool = False
) -> Reproduction:
    """Run a lock's recipe again without the cache, and compare.

    Args:
        path: The lock file.
        recipe: From `recipe_of`.
        progress: Where long work is reported.
        command: The command line, for the new run's report.
        allow_unsafe: Load a model file that would be refused as unsafe.

    Raises:
        EdgefxError: The run failed as a whole.
    """
    before = locks.read(path)
    execute.run(
        plan(recipe, allow_unsafe=allow_unsafe), progress, command=command, cache=OFF, threads=before.threads
    )
    after = locks.read(recipe.output)
    return compare(before, after, path=path, output=recipe.output)
