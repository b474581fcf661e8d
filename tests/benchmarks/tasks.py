"""What INT8 costs models that do more than choose a class: the same body under other heads.

    python -m tests.benchmarks tasks                                  # heads on digits
    python -m tests.benchmarks tasks --model B0.keras --calib TRAIN/ --eval TEST/ [--target tflite-int8]
                                     [--head multilabel] [--ends logits] [--effort high]

Each head is fitted here, in closed form or by a few hundred steps, to the features of the calibration images:
`binary` and `multilabel` tell halves and bits of the class index, `regression` the mean brightness;
`embedding` and `features` are the features themselves. Then edgefx compiles the model, and the figures are
its report's. Sigmoids are compiled four times: with integer scores, with integer logits, as is usual (integer
pixels, float scores) and with float ends.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import edgefx
from edgefx.data import digits, folders, images
from edgefx.protocols import SILENT
from edgefx.results import Accuracy
from edgefx.types import Dataset, Effort, ImageSet, Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

_STEPS, _RATE, _DECAY = 400, 0.3, 1e-3


def main(arguments: list[str]) -> None:
    """Fit the heads, compile them and print what each lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks tasks")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--calib", type=Path, default=digits.calibration_folder())
    parser.add_argument("--eval", type=Path, default=digits.calibration_folder().parent / "val")
    parser.add_argument("--target", default="tflite-int8")
    parser.add_argument("--head", action="append", choices=_HEADS, help="some of the heads only")
    parser.add_argument("--ends", action="append", choices=_ENDS, help="of sigmoids, some ends only")
    parser.add_argument("--effort", default="balanced", choices=list(Effort))
    options = parser.parse_args(arguments)
    print("  ".join(f"{title:>14}" for title in ("head", "ends", "images", "drop_pp", "agreement", *_SHOWN)))
    with tempfile.TemporaryDirectory() as folder:
        for name, ends, accuracy in _lost(options, Path(folder)):
            cells = [name, ends, str(accuracy.images), *map(_number, (accuracy.drop_pp, accuracy.agreement))]
            cells += [_number(getattr(accuracy.task, one, None)) for one in _SHOWN]
            print("  ".join(f"{cell:>14}" for cell in cells), flush=True)


_HEADS = ("binary", "multilabel", "regression", "embedding", "features")
# Type of the ends, and what the artifact ends in.
_ENDS = {
    "scores": ("uint8", "scores"),
    "logits": ("uint8", "logits"),
    "usual": (None, "scores"),
    "float": ("float32", "scores"),
}
_SHOWN = ("auc_drop_pp", "map_drop_pp", "r2", "r2_drop", "cosine", "relative_error")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _lost(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, Accuracy]]:
    """Yield head, ends and accuracy."""
    import keras

    from edgefx.models.load import load

    model = keras.models.load_model(options.model) if options.model else load("digits").model
    size = model.input_shape[1]
    features = model.layers[-1].input
    calib, test = (_decoded(root, size) for root in (options.calib, options.eval))
    body = keras.Model(model.input, features)
    seen = body.predict(calib.pixels.astype("float32"), batch_size=16, verbose=0).astype(np.float64)
    assert calib.labels is not None
    half = (int(calib.labels.max()) + 1) // 2
    bits = np.stack([calib.labels & 1, calib.labels >> 1 & 1, calib.labels >= half], 1).astype(np.float64)
    light = calib.pixels.mean((1, 2, 3))[:, None] / 255
    heads: dict[str, tuple[str | None, Any, Any]] = {
        "binary": ("sigmoid", *_logistic(seen, bits[:, 2:])),
        "multilabel": ("sigmoid", *_logistic(seen, bits)),
        "regression": (None, *_ridge(seen, light)),
    }
    chosen: Any = options.head or _HEADS
    for task in chosen:
        if task in heads:
            activation, weights, bias = heads[task]
            layer = keras.layers.Dense(weights.shape[1], activation=activation)
            output = layer(features)
            layer.set_weights([weights, bias])
        else:
            maps = [one.output for one in model.layers if len(one.output.shape) == 4]
            output = features if task == "embedding" else maps[-1]
        path = folder / f"{task}.keras"
        keras.Model(model.input, output).save(path)
        labelled = _labelled(test, task, half, folder / f"{task}-images")
        is_sigmoid = task in ("binary", "multilabel")
        for ends in (options.ends or _ENDS) if is_sigmoid else ("scores",):
            kinds: Any = _ENDS[ends]
            report = edgefx.compile(
                path,
                targets=options.target,
                task=task,
                io_dtype=kinds[0],
                ends=kinds[1],
                effort=options.effort,
                calibration=options.calib,
                samples=min(100, len(calib)),
                evaluation=labelled,
                benchmark=False,
                output=folder / "out",
            )
            (result,) = report.targets
            assert result.accuracy is not None, result.failure
            yield task, ends, result.accuracy


def _decoded(root: Path, size: int) -> ImageSet:
    listed: Dataset = folders.scan(root)
    loading = images.load(
        listed,
        height=size,
        width=size,
        resize=Resize.STRETCH,
        skip_bad=False,
        progress=SILENT,
        role="evaluation",
    )
    with loading as loader:
        return loader.finish()


def _labelled(test: ImageSet, task: str, half: int, folder: Path) -> Path:
    """Write what is right for each image beside links to the images."""
    folder.mkdir()
    assert test.labels is not None
    rows = ["file,label"]
    for number, (path, label) in enumerate(zip(test.paths, test.labels.tolist(), strict=True)):
        name = f"{number:05}{path.suffix}"
        (folder / name).symlink_to(path.resolve())
        right = {
            "binary": "yes" if label >= half else "no",
            "multilabel": ";".join(
                str(bit) for bit, has in enumerate((label & 1, label >> 1 & 1, label >= half)) if has
            ),
            "regression": f"{test.pixels[number].mean() / 255:.6f}",
        }.get(task, str(label))
        rows.append(f"{name},{right}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def _logistic(features: Values, truth: Values) -> tuple[Values, Values]:
    """Fit a sigmoid per column by gradient descent; returns weights [features, columns] and biases."""
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    scaled = (features - mean) / deviation
    weights, bias = np.zeros((scaled.shape[1], truth.shape[1])), np.zeros(truth.shape[1])
    for _ in range(_STEPS):
        error = 1 / (1 + np.exp(-(scaled @ weights + bias))) - truth
        weights -= _RATE * (scaled.T @ error / len(truth) + _DECAY * weights)
        bias -= _RATE * error.mean(0)
    weights /= deviation[:, None]
    return weights, bias - mean @ weights


def _ridge(features: Values, truth: Values) -> tuple[Values, Values]:
    """Fit quantities by least squares, with a penalty of a tenth of the features' mean power."""
    mean = features.mean(0)
    centred = features - mean
    power = np.square(centred).sum() / centred.shape[1]
    penalty = 0.1 * power * np.eye(centred.shape[1])
    weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (truth - truth.mean(0)))
    return weights, truth.mean(0) - mean @ weights
