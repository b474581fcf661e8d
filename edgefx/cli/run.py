"""`edgefx run`: a recipe file, or the name of a shipped one, instead of flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli import completion
from edgefx.cli.annotations import annotate
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    allow_unsafe_option,
    dry_run_option,
    json_option,
    log_to_option,
    min_images_option,
    no_cache_option,
    on_inconclusive_option,
    recipe_options,
    report_option,
    resume_option,
)
from edgefx.system import packages
from edgefx.types import Effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefx.recipe.load import NamedRecipe
    from edgefx.results import RunReport


@click.command(
    epilog="""\b
Examples:
  edgefx run digits-demo
  edgefx run my-recipe.yaml --target 'tflite-*' -o build/
  edgefx run my-recipe.yaml --set gates.max_drop=0.5pp --set benchmark.threads=1
  edgefx run b0-everywhere --set calibration.images=photos/ --dry-run
"""
)
@click.argument("recipe", shell_complete=completion.recipes)
@recipe_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write here instead of the recipe's folder.",
)
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    help="Time to spend on INT8 accuracy, instead of the recipe's quantize.effort.",
)
@min_images_option
@on_inconclusive_option
@report_option
@log_to_option
@resume_option
@allow_unsafe_option
@dry_run_option
@no_cache_option
@json_option
@pass_app
def command(
    app: App,
    *,
    recipe: str,
    targets: tuple[str, ...],
    settings: tuple[str, ...],
    output: Path | None,
    effort: str | None,
    min_images: int | None,
    on_inconclusive: str | None,
    report_files: tuple[Path, ...],
    log_to: str | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run RECIPE: a .yaml file, or the name of a recipe that comes with edgefx (see: edgefx recipe list).

    A recipe with a matrix makes one run for each combination, each in a folder of its own, and one report on
    all of them.
    """
    from edgefx.recipe.compose import option, setting
    from edgefx.recipe.load import find, load_runs

    path = find(recipe)
    given = [setting(argument) for argument in settings]
    if effort:
        given.append(option("--effort", ("quantize", "effort"), effort))
    if min_images:
        given.append(setting(f"gates.min_images={min_images}"))
    if on_inconclusive:
        given.append(option("--on-inconclusive", ("gates", "on_inconclusive"), on_inconclusive))
    if output:
        given.append(option("--output", ("output",), str(output)))
    runs = load_runs(path, given, targets=targets)
    if dry_run:
        return show_plans(app, runs, as_json=as_json, report_files=report_files)
    return execute(
        app,
        runs,
        name=path.stem,
        as_json=as_json,
        report_files=report_files,
        log_to=log_to,
        resume=resume,
    )


def execute(
    app: App,
    runs: Sequence[NamedRecipe],
    *,
    as_json: bool,
    report_files: Sequence[Path] = (),
    log_to: str | None = None,
    resume: bool = False,
    name: str = "",
) -> int:
    """Plan and carry out the runs of a recipe, print the report on them, and return the exit code.

    Args:
        app: Where results and progress go.
        runs: What to do.
        as_json: Print JSON instead of tables.
        report_files: Further files for the report, each in the format of its suffix.
        log_to: Where to log what is finished, besides.
        resume: Let training go on from its checkpoint.
        name: The recipe's name, for the report on a matrix.
    """
    from edgefx.pipeline.runs import PlannedRun, prepare
    from edgefx.report import matrix, terminal
    from edgefx.results import RunReport

    def one(run: PlannedRun) -> RunReport:
        if run.name:
            app.note(f"run {run.name}")
        with app.native_log(keep_as=run.output / "edgefx.log"):
            return run.carry_out(app, command=app.command_line, cache=app.use_cache, resume=resume)

    if log_to:  # which is said now, and not after hours
        packages.require(log_to, purpose=f"--log-to {log_to}")
    job = prepare(runs, recipe=name, files=report_files, allow_unsafe=app.allow_unsafe)
    result = job.carry_out(one, command=app.command_line)
    annotate(app, result, job.files)
    if as_json:
        app.write_json(result)
    elif isinstance(result, RunReport):
        terminal.render(result, app.stdout)
    else:
        matrix.render(result, app.stdout)
    if log_to:
        finished = [run.output for run in job.runs]
        if not isinstance(result, RunReport):
            finished = [run.output for run in result.runs if run.report is not None]
        log_runs(app, finished)
    if isinstance(result, RunReport) and any(target.failure for target in result) and app.log_path:
        app.note(f"log: {app.log_path}")
    return int(result.exit_code)


def log_runs(app: App, folders: Sequence[Path]) -> None:
    """Log finished runs to MLflow.

    Args:
        app: Told where they are.
        folders: Their output folders.

    Raises:
        EdgefxError: As `edgefx.bundles.tracking.log` says; reports and artifacts are as they were.
    """
    from edgefx.bundles import tracking

    for folder in folders:
        with app.native_log():
            logged = tracking.log(folder)
        app.note(f"{logged.uri}: experiment {logged.experiment}, run {logged.run_id}")


def show_plans(
    app: App, runs: Sequence[NamedRecipe], *, as_json: bool, report_files: Sequence[Path] = ()
) -> int:
    """Print what each run would do, and do nothing; returns the exit code."""
    from edgefx.pipeline.runs import views
    from edgefx.report import plan

    shown = views(runs, files=report_files, cache=app.use_cache, allow_unsafe=app.allow_unsafe)
    if as_json:
        app.write_json(shown)
        return 0
    for view in shown:
        plan.render(view, app.stdout)
    return 0
