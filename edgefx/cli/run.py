"""`edgefx run`: a recipe file, or the name of a shipped one, instead of flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    dry_run_option,
    json_option,
    no_cache_option,
    recipe_options,
    report_option,
    resume_option,
)
from edgefx.types import Effort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgefx.recipe.load import NamedRecipe
    from edgefx.recipe.schema import Recipe
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
@click.argument("recipe")
@recipe_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Instead of the recipe's folder."
)
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    help="Instead of quantize.effort of the recipe.",
)
@report_option
@resume_option
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
    report_files: tuple[Path, ...],
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run RECIPE: a .yaml file, or the name of a recipe that comes with edgefx (see: edgefx recipe list).

    A recipe with a matrix makes a run of each combination, in a folder of its own, and one report on all.
    """
    from edgefx.recipe.compose import option, setting
    from edgefx.recipe.load import find, load_runs

    path = find(recipe)
    given = [setting(argument) for argument in settings]
    if effort:
        given.append(option("--effort", ("quantize", "effort"), effort))
    if output:
        given.append(option("--output", ("output",), str(output)))
    runs = load_runs(path, given, targets=targets)
    if dry_run:
        return show_plans(app, runs, as_json=as_json)
    if runs[0].name:
        return _execute_matrix(
            app, runs, name=path.stem, as_json=as_json, report_files=report_files, resume=resume
        )
    return execute(app, runs[0].recipe, as_json=as_json, report_files=report_files, resume=resume)


def execute(
    app: App, recipe: Recipe, *, as_json: bool, report_files: Sequence[Path] = (), resume: bool = False
) -> int:
    """Plan and run `recipe`, print its report, and return the exit code.

    Args:
        app: Where results and progress go.
        recipe: What to do.
        as_json: Print JSON instead of tables.
        report_files: Further files for the report, each in the format of its suffix.
        resume: Let training go on from its checkpoint.
    """
    from edgefx.report import json, terminal

    result = _run(app, recipe, (*recipe.report.files, *report_files), resume=resume)()
    if as_json:
        app.write(json.dumps(result))
    else:
        terminal.render(result, app.stdout)
    if any(target.failure for target in result) and app.log_path:
        app.note(f"log: {app.log_path}")
    return result.exit_code


def _run(
    app: App, recipe: Recipe, files: Sequence[Path] = (), *, resume: bool = False
) -> Callable[[], RunReport]:
    """Plan a run now; return what carries it out and writes its reports."""
    from edgefx import pipeline, report
    from edgefx.cache import settings
    from edgefx.plan import plan

    in_folder = [
        recipe.output / f"report{report.FORMATS[name].suffix}"
        for name in recipe.report.formats
        if name != "json"
    ]
    for path in files:
        report.check(path)
    planned = plan(recipe)

    def carry_out() -> RunReport:
        with app.native_log(keep_as=recipe.output / "edgefx.log"):
            result = pipeline.run(
                planned,
                app,
                command=app.command_line,
                cache=None if app.use_cache else settings.OFF,
                resume=resume,
            )
        for path in (*in_folder, *files):
            report.write(result, path)
        return result

    return carry_out


def _execute_matrix(
    app: App,
    runs: Sequence[NamedRecipe],
    *,
    name: str,
    as_json: bool,
    report_files: Sequence[Path],
    resume: bool,
) -> int:
    """Plan all runs, carry them out one by one, and print one report on all of them."""
    from edgefx import matrix, report
    from edgefx.report import matrix as report_matrix

    files = (*runs[0].recipe.report.files, *report_files)
    for path in files:
        report.check(path)
    planned = [(one.name, one.recipe.output, _told(app, one, resume=resume)) for one in runs]
    result = matrix.run(planned, recipe=name, command=app.command_line)
    report_matrix.write(result, runs[0].recipe.output.parent, tuple(files))
    if as_json:
        app.write(report_matrix.dumps(result))
    else:
        report_matrix.render(result, app.stdout)
    return int(result.exit_code)


def _told(app: App, one: NamedRecipe, *, resume: bool) -> Callable[[], RunReport]:
    """Plan a run now; say its name when it begins."""
    carry_out = _run(app, one.recipe, resume=resume)

    def told() -> RunReport:
        app.note(f"run {one.name}")
        return carry_out()

    return told


def show_plans(app: App, runs: Sequence[NamedRecipe], *, as_json: bool) -> int:
    """Print what each run would do, and do nothing; returns the exit code."""
    from edgefx.plan import plan
    from edgefx.report import json
    from edgefx.report import plan as report_plan
    from edgefx.run import forecast

    plans = [(one.name, plan(one.recipe)) for one in runs]
    views = [
        report_plan.view(planned, name=name, cached=forecast.cached(planned) if app.use_cache else None)
        for name, planned in plans
    ]
    if as_json:
        app.write(json.dumps(views))
        return 0
    for view in views:
        report_plan.render(view, app.stdout)
    return 0
