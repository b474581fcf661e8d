"""`edgefx run`: a recipe file, or the name of a shipped one, instead of flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, report_option
from edgefx.types import Effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefx.recipe.schema import Recipe


@click.command(
    epilog="""\b
Examples:
  edgefx run digits-demo
  edgefx run my-recipe.yaml --target 'tflite-*' -o build/
"""
)
@click.argument("recipe")
@click.option(
    "-t", "--target", "targets", multiple=True, metavar="NAME", help="Instead of the recipe's targets."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Instead of the recipe's folder."
)
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    help="Instead of the recipe's effort for INT8 accuracy.",
)
@report_option
@json_option
@pass_app
def command(
    app: App,
    *,
    recipe: str,
    targets: tuple[str, ...],
    output: Path | None,
    effort: str | None,
    report_files: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run RECIPE: a .yaml file, or the name of a recipe that comes with edgefx."""
    from edgefx.recipe.load import find, load

    overrides: dict[str, Any] = {}
    if targets:
        overrides["targets"] = targets
    if output:
        overrides["output"] = output
    if effort:
        overrides["quantize"] = {"method": "ptq", "effort": effort}
    return execute(app, load(find(recipe), overrides), as_json=as_json, report_files=report_files)


def execute(app: App, recipe: Recipe, *, as_json: bool, report_files: Sequence[Path] = ()) -> int:
    """Plan and run `recipe`, print its report, and return the exit code.

    Args:
        app: Where results and progress go.
        recipe: What to do.
        as_json: Print JSON instead of tables.
        report_files: Further files for the report, each in the format of its suffix.
    """
    from edgefx import pipeline, report
    from edgefx.plan import plan
    from edgefx.report import json, terminal

    for path in report_files:
        report.check(path)
    planned = plan(recipe)
    with app.native_log(keep_as=recipe.output / "edgefx.log"):
        result = pipeline.run(planned, app, command=app.command_line)
    for path in report_files:
        report.write(result, path)
    if as_json:
        app.write(json.dumps(result))
    else:
        terminal.render(result, app.stdout)
    if any(target.failure for target in result) and app.log_path:
        app.note(f"log: {app.log_path}")
    return result.exit_code
