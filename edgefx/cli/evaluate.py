"""`edgefx evaluate`: an artifact's accuracy on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    allow_unsafe_option,
    device_options,
    hint_options,
    json_option,
    resize_option,
    seed_option,
    skip_bad_option,
    threads_option,
)
from edgefx.cli.pages import explain_option, plot_option
from edgefx.vocabulary import Resize


@click.command(
    epilog="""\b
Examples:
  edgefx evaluate build/b0-int8.tflite photos/
  edgefx evaluate build/b0-int8.onnx photos/ --baseline b0.keras --json
  edgefx evaluate build/b0-int8.onnx photos/ --baseline b0.keras --explain 6 --plot changed.html
  edgefx evaluate b0-int8.tflite photos/ --baseline build/
  edgefx evaluate build/b0-int8.tflite photos/ --device ssh://pi@raspberrypi.local
"""
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    shell_complete=completion.models,
    metavar="MODEL|RUN",
    help="Compare image by image with this Keras model, a path or a name (see: edgefx models), or with the "
    "float model's answers that are kept in the output folder of a run, for which no TensorFlow is needed.",
)
@click.option(
    "--weights",
    shell_complete=completion.weights,
    metavar="imagenet|random|PATH",
    help="Weights of a baseline that is given by name.",
)
@hint_options
@click.option(
    "--background/--no-background",
    default=None,
    help="Whether class 0 of a file of other origin is a background class, which no image has.  [default: "
    "asked where it seems so]",
)
@resize_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure on a sample of N images.")
@seed_option
@skip_bad_option
@threads_option
@explain_option("Show with --plot, else say in words,")
@plot_option("Also write a self-contained HTML page, which shows the images of --explain, too.")
@device_options
@allow_unsafe_option
@json_option
@pass_app
def command(
    app: App,
    *,
    artifact: Path,
    data: Path,
    baseline: str | None,
    weights: str | None,
    background: bool | None,
    resize: str,
    limit: int | None,
    seed: int,
    skip_bad_images: bool,
    threads: int | None,
    explain: int,
    plot: Path | None,
    device: str,
    device_python: str | None,
    device_dir: str | None,
    as_json: bool,
    **hints: Any,
) -> None:
    """Measure how well ARTIFACT answers the images in DATA.

    ARTIFACT is a .tflite, .onnx or OpenVINO .xml file. DATA is a folder with a sub-folder per class, a folder
    with labels.csv (file,label), or, with --baseline, a folder of unlabelled images. What the artifact
    answers (a class, a quantity, ...) is in its file when edgefx made it. Files of other origin may want
    pixels that are scaled: --pixels says how.
    """
    from edgefx import api
    from edgefx.report.page import plot as plot_file

    plot_file.check(plot)
    with app.native_log():
        result = api.evaluate(
            artifact,
            data,
            baseline=baseline,
            weights=weights,
            **hints,
            background=background,
            resize=Resize(resize),
            limit=limit,
            seed=seed,
            skip_bad_images=skip_bad_images,
            threads=threads,
            explain=explain,
            allow_unsafe=app.allow_unsafe,
            device=device,
            device_python=device_python,
            device_dir=device_dir,
            progress=app,
        )
    if plot is not None:
        from edgefx.report.page import evaluation as evaluation_page

        plot_file.write(lambda: evaluation_page.dumps(result), plot)
    if as_json:
        app.write_json(result)
    else:
        from edgefx.report.evaluation import render_evaluation

        render_evaluation(result, app.stdout)
