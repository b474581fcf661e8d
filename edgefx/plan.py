"""A recipe with every name resolved and every folder listed: checks made before the model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgefx import targets
from edgefx.errors import UsageError
from edgefx.recipe.schema import Recipe
from edgefx.results import Check
from edgefx.targets import TargetRow
from edgefx.types import Dataset, IoDtype

DEFAULT_SAMPLES = 100
# ONNX and OpenVINO keep the image's conversion and the scores in float, whatever the layers in between.
_INTEGER_ONLY = ("tflite-int8", "tflite-int16x8")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with every name resolved and every folder listed.

    Attributes:
        recipe: What was asked for.
        rows: The targets, in table order.
        calibration: Images that set ranges; None when no target needs them.
        evaluation: Images that accuracy is measured on; None when accuracy is not measured.
        calibration_note: How the calibration images were chosen.
        evaluation_note: How the evaluation images were chosen.
        checks: Of the calibration images, as far as their listing tells.
    """

    recipe: Recipe
    rows: tuple[TargetRow, ...]
    calibration: Dataset | None
    evaluation: Dataset | None
    calibration_note: str = ""
    evaluation_note: str = ""
    checks: tuple[Check, ...] = ()

    def io_dtype(self, row: TargetRow) -> IoDtype:
        """The element type of a target's input and output."""
        return self.recipe.io_dtype or row.io_dtypes[0]


def plan(recipe: Recipe) -> Plan:
    """Resolve targets and data, and check what can be checked without loading the model.

    Raises:
        UsageError: Unknown target, an I/O type a target cannot have, a target that cannot be integer-only,
            INT8 without calibration images.
        MissingDependencyError: A package that a target needs is absent.
        DataError: A folder is missing, empty or wrongly labelled.
    """
    rows = targets.select(recipe.targets)
    if not rows:
        raise UsageError("no target given", hint="name one with --target, e.g. --target tflite-int8")
    _check_io_dtype(rows, recipe.io_dtype)
    if recipe.integer_only:
        _check_integer_only(rows)
    for row in rows:
        targets.load(row).check()
    return _with_data(Plan(recipe=recipe, rows=rows, calibration=None, evaluation=None))


def _check_io_dtype(rows: tuple[TargetRow, ...], io_dtype: IoDtype | None) -> None:
    refusing = [row.name for row in rows if io_dtype is not None and io_dtype not in row.io_dtypes]
    if refusing:
        raise UsageError(
            f"--io-dtype {io_dtype} is not possible for {', '.join(refusing)}",
            hint="integer input and output exist for the int8 targets; compile the others in a run apart",
        )


def _check_integer_only(rows: tuple[TargetRow, ...]) -> None:
    refusing = [row.name for row in rows if row.name not in _INTEGER_ONLY]
    if refusing:
        raise UsageError(
            f"--integer-only is not possible for {', '.join(refusing)}: these always hold float operations",
            hint=f"fully integer artifacts: {', '.join(_INTEGER_ONLY)}",
        )


def _with_data(plan: Plan) -> Plan:
    """List the image folders and divide them into calibration and evaluation images."""
    from edgefx.data import calibration, folders

    recipe = plan.recipe
    source, held_out = _folders(recipe)
    needing = [row.name for row in plan.rows if row.needs_calibration]
    if needing and source is None:
        raise UsageError(
            f"{', '.join(needing)} needs calibration images to set activation ranges",
            hint="give a folder of about 100 typical images with --calib DIR (labels are not needed)",
        )
    chosen: Dataset | None = None
    if source is not None:
        listed = folders.scan(source)
        samples = recipe.calibration.samples if recipe.calibration else None
        count = _sample_count(listed, samples, shared=held_out is None and recipe.evaluate is not None)
        chosen, rest = calibration.split(listed, samples=count, seed=recipe.seed)
        twins = [twin for _, twin in calibration.content_overlap(chosen, rest)]
        rest = calibration.without(rest, twins)
        note = f"the {len(rest.items)} images of {_shown(source)} that calibration left"
        note += f", less {len(twins)} copies of calibration images" if twins else ""
        plan = replace(plan, evaluation=rest, evaluation_note=note)
        if needing:
            plan = replace(
                plan,
                calibration=chosen,
                calibration_note=f"{count} of {len(listed.items)} images of {_shown(source)}, "
                f"seed {recipe.seed}",
                checks=calibration.listing_checks(chosen),
            )
    if held_out is not None:
        listed = folders.scan(held_out)
        plan = replace(
            plan, evaluation=listed, evaluation_note=f"all {len(listed.items)} images of {_shown(held_out)}"
        )
    return _with_evaluation(plan)


def _folders(recipe: Recipe) -> tuple[Path | None, Path | None]:
    """Return the calibration and evaluation folders; `digits` brings its own."""
    source = recipe.calibration.images if recipe.calibration else None
    held_out = recipe.evaluate.images if recipe.evaluate else None
    if recipe.model.source == "digits" and source is None:
        from edgefx.data import digits

        return digits.calibration_folder(), held_out or digits.evaluation_folder()
    return source, held_out


def _with_evaluation(plan: Plan) -> Plan:
    """Limit the evaluation images as asked, and refuse those that would flatter or cannot judge a gate."""
    from edgefx.data import calibration

    recipe, evaluation = plan.recipe, plan.evaluation
    if recipe.evaluate is None or evaluation is None:
        evaluation = None
    elif plan.calibration is not None:
        calibration.require_disjoint(plan.calibration, evaluation)
    if recipe.gates.max_drop is not None and (evaluation is None or not evaluation.labelled):
        where = f"{evaluation.root} has no labels" if evaluation else "no evaluation images were given"
        raise UsageError(
            f"--max-drop needs labelled evaluation images: {where}",
            hint="give a folder with a sub-folder per class, or with labels.csv, with --eval DIR",
        )
    limit = recipe.evaluate.limit if recipe.evaluate else None
    if evaluation is not None and limit is not None and limit < len(evaluation.items):
        evaluation, _ = calibration.split(evaluation, samples=limit, seed=recipe.seed)
        note = f"{limit} sampled of {plan.evaluation_note}, seed {recipe.seed}"
        plan = replace(plan, evaluation_note=note)
    return replace(plan, evaluation=evaluation)


def _shown(folder: Path) -> Path:
    """Return the folder as a reader would name it: relative where it lies below the working folder."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _sample_count(listed: Dataset, samples: int | None, *, shared: bool) -> int:
    """How many images to calibrate on; with one folder for both purposes, some must be left to measure on."""
    total = len(listed.items)
    if samples is None:
        return min(DEFAULT_SAMPLES, max(1, total // 2) if shared else total)
    if samples > total or (shared and samples == total):
        raise UsageError(
            f"--samples {samples}: {listed.root} holds {total} images"
            + (", and some must be left to measure accuracy on" if shared else ""),
            hint="ask for fewer, or give evaluation images of their own with --eval DIR",
        )
    return samples
