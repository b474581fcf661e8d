"""`edgefx debug`: which stage and which layer lose accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    allow_unsafe_option,
    calib_option,
    classes_range,
    effort_option,
    hint_options,
    input_size_option,
    json_option,
    resize_option,
    samples_option,
    scaling_options,
    seed_option,
    skip_bad_option,
    threads_option,
)
from edgefx.cli.pages import explain_option, plot_option
from edgefx.vocabulary import Effort, Resize

_ORDERS = ("effect", "sqnr", "saturated", "graph")


@click.command(
    epilog="""\b
The layers' columns:
  KL alone     mean KL divergence from the float scores when only this layer is quantized
  top-1 chg    share of the images whose class changes when only this layer is quantized
  SQNR dB      signal to quantization noise ratio of the layer's output in the artifact
  weights dB   signal to quantization noise ratio of the layer's stored weights
  grid, seen   the range that the output is rounded to, and the range of its float values
  saturated    share of the float values outside the grid
  levels used  share of the grid's levels that occur

\b
Examples:
  edgefx debug b0.keras --target tflite-int8 --calib train/ --eval test/
  edgefx debug b0.keras --target '*-int8' --calib train/ --eval test/ --plot layers.html
  edgefx debug b0.keras --target onnx-int8 --calib photos/ --artifact old.onnx --sort sqnr
  edgefx debug digits --target tflite-int8 --json
"""
)
@click.argument("model", shell_complete=completion.models)
@click.option(
    "-t",
    "--target",
    "patterns",
    shell_complete=completion.targets,
    multiple=True,
    required=True,
    metavar="NAME",
    help="What to examine: a name, a comma list or a glob such as '*-int8' (see: edgefx targets). May be "
    "repeated.",
)
@calib_option
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of other images to measure on.  [default: those of --calib, which lose less]",
)
@samples_option
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Number of images to measure on.",
)
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Examine this file instead of converting the model. Only with one --target.",
)
@effort_option
@click.option(
    "--weights",
    shell_complete=completion.weights,
    metavar="imagenet|random|PATH",
    help="Weights of a model that is given by name.",
)
@click.option(
    "--classes", type=classes_range, metavar="N", help="Number of classes of a model that is given by name."
)
@input_size_option
@scaling_options("model")
@hint_options
@click.option(
    "--sort",
    "order",
    type=click.Choice(_ORDERS),
    default="effect",
    show_default=True,
    help="Column to sort the layers by, the worst first: effect is KL alone; graph is the order of "
    "computation.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of layers in the table; 0 shows all.",
)
@plot_option("Also draw every layer, and the images of --explain, into a self-contained HTML page.")
@explain_option("Show with --plot, else say in words,")
@resize_option
@skip_bad_option
@threads_option
@seed_option
@allow_unsafe_option
@json_option
@pass_app
def command(
    app: App,
    *,
    model: str,
    patterns: tuple[str, ...],
    calib: Path | None,
    evaluation: Path | None,
    samples: int | None,
    images: int,
    artifact: Path | None,
    effort: str,
    weights: str | None,
    classes: int | None,
    input_size: int | str | None,
    order: str,
    limit: int,
    plot: Path | None,
    explain: int,
    resize: str,
    skip_bad_images: bool,
    threads: int | None,
    seed: int,
    as_json: bool,
    **hints: Any,
) -> int:
    """Find the stage and the layers that lose MODEL's accuracy.

    The model is converted, and the loaded model, its deployable graph, the float artifact, a simulation of
    the quantization and the artifact itself are compared on the same images, each with the one before.
    Then every layer is examined, under the same name for every runtime.

    The exit code is 0 whatever is found, and 4 when a target cannot be examined.
    """
    from edgefx import api
    from edgefx.report.page import debug as debug_page
    from edgefx.report.page import plot as plot_file

    plot_file.check(plot)
    with app.native_log():
        report = api.debug(
            model,
            targets=patterns,
            calibration=calib,
            evaluation=evaluation,
            samples=samples,
            images=images,
            artifact=artifact,
            effort=Effort(effort),
            weights=weights,
            classes=classes,
            input_size=input_size,
            **hints,
            resize=Resize(resize),
            skip_bad_images=skip_bad_images,
            threads=threads,
            seed=seed,
            explain=explain,
            allow_unsafe=app.allow_unsafe,
            progress=app,
            command=app.command_line,
        )
        app.keep_log = bool(report.failures)
    plot_file.write(lambda: debug_page.dumps(report), plot)
    if as_json:
        app.write_json(report)
    else:
        from edgefx.report.debug import Order, render

        render(report, app.stdout, limit=limit, order=Order(order))
    return int(report.exit_code)
