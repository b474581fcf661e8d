"""`edgefx evaluate`: an artifact's accuracy on a folder of images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    available_cores,
    existing,
    json_option,
    resize_option,
    seed_option,
    skip_bad_option,
    threads_option,
)

if TYPE_CHECKING:
    from edgefx.models.load import LoadedModel
    from edgefx.report.evaluation import Evaluation
    from edgefx.types import Dataset, ImageSet, Scores, TensorInfo

_CHUNK = 16  # images a call; artifacts take one at a time, this only paces decoding and progress


@click.command(
    epilog="""\b
Examples:
  edgefx evaluate build/b0-int8.tflite photos/
  edgefx evaluate build/b0-int8.onnx photos/ --baseline b0.keras --json
"""
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--baseline", metavar="MODEL", help="Compare image by image with this Keras model (path or zoo name)."
)
@click.option("--weights", metavar="imagenet|random|PATH", help="Weights of a zoo baseline.")
@resize_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure on N sampled images only.")
@seed_option
@skip_bad_option
@threads_option
@json_option
@pass_app
def command(
    app: App,
    *,
    artifact: Path,
    data: Path,
    baseline: str | None,
    weights: str | None,
    resize: str,
    limit: int | None,
    seed: int,
    skip_bad_images: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure how well ARTIFACT classifies the images in DATA.

    ARTIFACT is a .tflite, .onnx or OpenVINO .xml file. DATA is a folder with a sub-folder per class, a folder
    with labels.csv (file,label), or, with --baseline, a folder of unlabelled images.
    """
    from edgefx.errors import UsageError

    existing(artifact)
    if weights is not None and baseline is None:
        raise UsageError("--weights belongs to --baseline", hint="give --baseline MODEL")
    with app.native_log():
        result = _evaluate(
            app,
            artifact,
            data,
            baseline=baseline,
            weights=weights,
            resize=resize,
            limit=limit,
            seed=seed,
            skip_bad=skip_bad_images,
            threads=threads or available_cores(),
        )
    if as_json:
        from edgefx.report.json import dumps

        app.write(dumps(result))
    else:
        from edgefx.report.evaluation import render_evaluation

        render_evaluation(result, app.stdout)


def _evaluate(
    app: App,
    artifact: Path,
    data: Path,
    *,
    baseline: str | None,
    weights: str | None,
    resize: str,
    limit: int | None,
    seed: int,
    skip_bad: bool,
    threads: int,
) -> Evaluation:
    import numpy as np

    from edgefx import targets
    from edgefx.data import images
    from edgefx.errors import UsageError
    from edgefx.evaluate import accuracy
    from edgefx.report.evaluation import Evaluation
    from edgefx.types import DataInfo, OutputKind, Resize

    target = targets.for_artifact(artifact)
    target.check()
    described = target.describe(artifact)
    height, width = _input_size(artifact, described.inputs)
    classes = described.outputs[0].shape[-1]
    dataset, note = _listed(data, classes=classes, limit=limit, seed=seed)
    if not dataset.labelled and baseline is None:
        raise UsageError(
            f"{data} has no labels, so there is no accuracy to measure",
            hint="give sub-folders per class or labels.csv, or compare with a model: --baseline MODEL",
        )
    loaded = _baseline(app, baseline, weights, height=height, width=width, classes=classes)
    with tempfile.TemporaryDirectory(prefix="edgefx-") as scratch:
        with (
            images.load(
                dataset,
                height=height,
                width=width,
                resize=Resize(resize),
                skip_bad=skip_bad,
                progress=app,
                role="evaluation",
                scratch=Path(scratch),
            ) as loader,
            target.open(artifact, threads) as session,
            app.task(f"evaluate {artifact.name}", len(dataset.items)) as task,
        ):
            parts: list[Scores] = []
            seconds = 0.0
            for _, chunk in loader.chunks(_CHUNK):
                begun = time.perf_counter()
                parts.append(session.infer(chunk))
                seconds += time.perf_counter() - begun
                task.advance(len(chunk))
            decoded = loader.finish()
            precision_ran = session.precision_ran
        images.check_range(decoded.pixels, where=str(data))
        _tell_skipped(app, decoded)
        scores = np.concatenate(parts)
        reference, kind = scores, OutputKind.PROBABILITIES
        if loaded is not None:
            kind = loaded.spec.output
            with app.task("evaluate float baseline", len(decoded)) as task:
                reference = loaded.predict(decoded.pixels, task=task)
        # Without a baseline the artifact is compared with itself, and only its own accuracy is used.
        compared = accuracy.compare(
            reference, scores, decoded.labels, output=kind, images_per_s=len(decoded) / max(seconds, 1e-9)
        )
        return Evaluation(
            artifact=artifact,
            data=DataInfo(
                role="evaluation",
                root=str(data),
                images=len(decoded),
                classes=None if decoded.labels is None else len(set(decoded.labels.tolist())),
                sha256=decoded.sha256,
                resize=decoded.resize,
                interpolation=images.INTERPOLATION,
                seed=seed if limit else None,
                skipped=len(decoded.skipped),
                note=note,
            ),
            threads=threads,
            precision_ran=precision_ran,
            images=len(decoded),
            top1=compared.top1,
            top5=compared.top5,
            images_per_s=compared.images_per_s,
            baseline=loaded.spec.source if loaded else None,
            comparison=compared if loaded else None,
        )


def _input_size(artifact: Path, inputs: tuple[TensorInfo, ...]) -> tuple[int, int]:
    """Return height and width of the image input, which may be NHWC or, in files of other origin, NCHW.

    Raises:
        ArtifactError: The artifact does not take one RGB image of a fixed size.
    """
    from edgefx.errors import ArtifactError

    shape = inputs[0].shape if inputs else ()
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        shape = (shape[0], *shape[2:], 3)
    if len(inputs) != 1 or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < 1:
        taken = "; ".join(f"{info.name} {list(info.shape)}" for info in inputs)
        raise ArtifactError(
            f"{artifact}: not an image classifier of edgefx: its inputs are {taken or 'none'}",
            hint="expected one input [batch, height, width, 3]",
        )
    return shape[1], shape[2]


def _listed(data: Path, *, classes: int, limit: int | None, seed: int) -> tuple[Dataset, str]:
    from edgefx.data import calibration, folders

    dataset = folders.check_labels(folders.scan(data), classes)
    total = len(dataset.items)
    if limit is None or limit >= total:
        return dataset, f"all {total} images of {data}"
    sampled, _ = calibration.split(dataset, samples=limit, seed=seed)
    return sampled, f"{limit} sampled of {total} images of {data}, seed {seed}"


def _baseline(
    app: App, model: str | None, weights: str | None, *, height: int, width: int, classes: int
) -> LoadedModel | None:
    """Load the model to compare with.

    Raises:
        UsageError: It cannot be the model that the artifact was made from.
    """
    from edgefx.errors import UsageError

    if model is None:
        return None
    from edgefx.models.load import load

    with app.task("load model"):
        loaded = load(model, weights=weights)
    spec = loaded.spec
    if (spec.height, spec.width, spec.classes) != (height, width, classes):
        raise UsageError(
            f"the baseline {model} takes {spec.height}x{spec.width} pixels and has {spec.classes} classes;"
            f" the artifact takes {height}x{width} and has {classes}",
            hint="give the model that the artifact was made from",
        )
    return loaded


def _tell_skipped(app: App, decoded: ImageSet) -> None:
    for path, reason in decoded.skipped:
        app.warn(f"skipped {path}: {reason}")
