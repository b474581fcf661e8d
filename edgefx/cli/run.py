"""`edgefx run`: a recipe file, or the name of a shipped one, instead of flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option

if TYPE_CHECKING:
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
@json_option
@pass_app
def command(app: App, recipe: str, targets: tuple[str, ...], output: Path | None, as_json: bool) -> int:
    """Run RECIPE: a .yaml file, or the name of a recipe that comes with edgefx."""
    from edgefx.recipe.load import find, load

    overrides: dict[str, Any] = {}
    if targets:
        overrides["targets"] = targets
    if output:
        overrides["output"] = output
    return execute(app, load(find(recipe), overrides), as_json=as_json)


def execute(app: App, recipe: Recipe, *, as_json: bool) -> int:
    """Plan and run `recipe`, print its report, and return the exit code."""
    from edgefx import pipeline
    from edgefx.plan import plan
    from edgefx.report import json, terminal

    planned = plan(recipe)
    with app.native_log(keep_as=recipe.output / "edgefx.log"):
        report = pipeline.run(planned, app, command=app.command_line)
    if as_json:
        app.write(json.dumps(report))
    else:
        terminal.render(report, app.stdout)
    if any(result.failure for result in report) and app.log_path:
        app.note(f"log: {app.log_path}")
    return report.exit_code
