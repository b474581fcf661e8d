"""`edgefx reproduce`: run a lock file again and say whether the same comes out."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import allow_unsafe_option, json_option


@click.command(
    epilog="""\b
Examples:
  edgefx reproduce build/edgefx.lock.json
  edgefx reproduce build/ --model here/model.keras --calib here/photos -o again/
"""
)
@click.argument("lock", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("edgefx-reproduced"),
    show_default=True,
    metavar="DIR",
    help="Folder for the artifacts of the new run.",
)
@click.option("--model", metavar="PATH", help="Path of the model, if it has moved.")
@click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the calibration images, if they have moved.",
)
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the evaluation images, if they have moved.",
)
@click.option(
    "--hardware",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Path of the hardware profile, if it has moved.",
)
@click.option("--benchmark", is_flag=True, help="Also measure latency, which is never the same twice.")
@allow_unsafe_option
@json_option
@pass_app
def command(
    app: App,
    *,
    lock: Path,
    output: Path,
    model: str | None,
    calib: Path | None,
    evaluation: Path | None,
    hardware: Path | None,
    benchmark: bool,
    as_json: bool,
) -> int:
    """Run what LOCK records again, without the cache, and compare.

    LOCK is the edgefx.lock.json of a run, or its output folder. For each artifact: identical bytes, same
    metrics (other bytes that measure the same), or different; and which input is not what it was. The exit
    code is 1 when something is different, 4 when a target failed.
    """
    from edgefx.errors import UsageError
    from edgefx.pipeline import reproduce
    from edgefx.provenance import lock as locks

    before = locks.read(lock)
    folder = lock if lock.is_dir() else lock.parent
    if output.resolve() == folder.resolve():
        raise UsageError(
            f"-o {output}: is the folder of the run to be reproduced", hint="choose another one with -o"
        )
    recipe = reproduce.recipe_of(
        before,
        lock,
        output=output,
        model=model,
        calibration=calib,
        evaluation=evaluation,
        hardware=hardware,
        benchmark=benchmark,
    )
    with app.native_log(keep_as=output / "edgefx.log"):
        result = reproduce.run(lock, recipe, app, command=app.command_line, allow_unsafe=app.allow_unsafe)
    if as_json:
        app.write_json(result)
    else:
        from edgefx.report.comparison import render_reproduction

        render_reproduction(result, app.stdout)
    return int(result.exit_code)
