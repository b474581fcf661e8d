"""`edgefx inspect`: what a model or an artifact is made of."""

from __future__ import annotations

from typing import Any

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    allow_unsafe_option,
    classes_range,
    hint_options,
    input_size_option,
    json_option,
    scaling_options,
)


@click.command(
    epilog="""\b
Examples:
  edgefx inspect build/b0-int8.tflite
  edgefx inspect b0.keras --layers
  edgefx inspect v2-b0 --json
"""
)
@click.argument("subject", metavar="MODEL|ARTIFACT", shell_complete=completion.models)
@click.option("--layers", "every_layer", is_flag=True, help="List every layer of a model.")
@click.option(
    "--weights",
    shell_complete=completion.weights,
    metavar="imagenet|random|PATH",
    help="Weights of a model that is given by name.  [default: random, as the structure is the same; "
    "digits has its own]",
)
@click.option(
    "--classes", type=classes_range, metavar="N", help="Number of classes of a model that is given by name."
)
@input_size_option
@scaling_options("subject")
@hint_options
@allow_unsafe_option
@json_option
@pass_app
def command(
    app: App,
    *,
    subject: str,
    every_layer: bool,
    weights: str | None,
    classes: int | None,
    input_size: int | str | None,
    as_json: bool,
    **hints: Any,
) -> None:
    """Show what a model or an artifact is made of.

    An artifact is a .tflite, .onnx or OpenVINO .xml file; everything else is a model: a zoo name (see: edgefx
    models), a .keras or .h5 file, a SavedModel folder, or a preset of keras-hub or its address.
    """
    from edgefx import api, views
    from edgefx.pipeline.inspect import for_models, is_artifact
    from edgefx.report import inspection

    if every_layer and is_artifact(subject):
        raise for_models(subject)
    with app.native_log():
        result = api.inspect(
            subject,
            weights=weights,
            classes=classes,
            input_size=input_size,
            **hints,
            allow_unsafe=app.allow_unsafe,
            progress=app,
        )
    if as_json:
        app.write_json(result)
    elif isinstance(result, views.ArtifactInspection):
        inspection.render_artifact(result, app.stdout)
    else:
        inspection.render_model(result, app.stdout, every_layer=every_layer)
