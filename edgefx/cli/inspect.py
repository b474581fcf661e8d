"""`edgefx inspect`: what a model or an artifact is made of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import existing, json_option

if TYPE_CHECKING:
    from edgefx.report.inspection import ArtifactInspection, ModelInspection


@click.command(
    epilog="""\b
Examples:
  edgefx inspect build/b0-int8.tflite
  edgefx inspect b0.keras --layers
  edgefx inspect v2-b0 --json
"""
)
@click.argument("subject", metavar="MODEL|ARTIFACT")
@click.option("--layers", "every_layer", is_flag=True, help="Models: list every layer.")
@click.option(
    "--weights",
    metavar="imagenet|random|PATH",
    help="Zoo models: weights.  [default: random, as the structure is the same; digits brings its own]",
)
@click.option("--classes", type=click.IntRange(min=2), metavar="N", help="Zoo models: number of classes.")
@click.option("--input-size", type=click.IntRange(min=8), metavar="PX", help="Input height and width.")
@json_option
@pass_app
def command(
    app: App,
    *,
    subject: str,
    every_layer: bool,
    weights: str | None,
    classes: int | None,
    input_size: int | None,
    as_json: bool,
) -> None:
    """Show what a model or an artifact is made of.

    An artifact is a .tflite, .onnx or OpenVINO .xml file; everything else is a model: a zoo name (see: edgefx
    models), a .keras or .h5 file, or a SavedModel folder.
    """
    from edgefx.errors import UsageError

    result: ArtifactInspection | ModelInspection
    with app.native_log():
        if _is_artifact(subject):
            if weights or classes or input_size or every_layer:
                raise UsageError(
                    f"{subject} is an artifact: --layers, --weights, --classes, --input-size are for models",
                    hint="leave them out",
                )
            result = _artifact(existing(Path(subject)))
        else:
            result = _model(app, subject, weights=weights, classes=classes, input_size=input_size)
    if as_json:
        from edgefx.report.json import dumps

        app.write(dumps(result))
        return
    from edgefx.report import inspection

    if isinstance(result, inspection.ArtifactInspection):
        inspection.render_artifact(result.artifact, app.stdout)
    else:
        inspection.render_model(result, app.stdout, every_layer=every_layer)


def _is_artifact(subject: str) -> bool:
    from edgefx.targets import TARGETS

    return Path(subject).suffix in {row.suffix for row in TARGETS.values()}


def _artifact(path: Path) -> ArtifactInspection:
    from edgefx import targets
    from edgefx.report.inspection import ArtifactInspection

    target = targets.for_artifact(path)
    target.check()
    return ArtifactInspection(artifact=target.describe(path))


def _model(
    app: App, source: str, *, weights: str | None, classes: int | None, input_size: int | None
) -> ModelInspection:
    from edgefx.models import zoo
    from edgefx.models.canonical import canonicalize
    from edgefx.models.load import load
    from edgefx.report.inspection import ModelInspection

    family = zoo.FAMILIES.get(source.lower())
    if weights is None and family is not None and zoo.PACKAGED not in family.weights:
        weights = zoo.RANDOM
    with app.task(f"load {source}"):
        loaded = load(source, weights=weights, classes=classes, input_size=input_size)
    with tempfile.TemporaryDirectory(prefix="edgefx-") as workdir, app.task("make the graph deployable"):
        graph = canonicalize(loaded, Path(workdir))
    return ModelInspection(model=graph.spec, layers=graph.layers, notes=loaded.notes)
