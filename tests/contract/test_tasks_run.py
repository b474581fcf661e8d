"""Models that do more than choose a class, compiled and measured from file to report by the real runtimes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

import edgefx
from edgefx import runtimes
from edgefx.benchmarking.devices.remote import Remote
from edgefx.errors import UsageError
from edgefx.report import findings, formats
from edgefx.results import Accuracy
from edgefx.types import ModelTask

from .models_zoo import SIZE, images, settle

TARGETS = ("tflite-int8", "onnx-int8", "openvino-int8", "tflite-float32")
COUNT = 60
_ENDS: tuple[Literal["scores", "logits"], ...] = ("scores", "logits")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Images of different brightness, and how bright they are."""
    root = tmp_path_factory.mktemp("photos")
    pixels = images(count=COUNT)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(root / f"{number:02}.png")
    return root, pixels


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, photos: tuple[Path, Any]) -> Path:
    """A body that tells bright from dark, with an output for each task."""
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image / 255.0)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="swish")(x)
    vector = layers.GlobalAveragePooling2D(name="vector")(layers.Conv2D(12, 1, activation="swish")(x))
    body = settle(keras.Model(image, vector))
    found = body.predict(photos[1].astype("float32"), verbose=0)
    light = photos[1].mean((1, 2, 3)) / 255
    design = np.c_[found, np.ones(len(found))]
    ridge = np.linalg.solve(design.T @ design + 1e-3 * np.eye(13), design.T @ light)
    quantity, bright = layers.Dense(1, name="light"), layers.Dense(1, activation="sigmoid", name="bright")
    several = layers.Dense(2, activation="sigmoid", name="several")
    maps = layers.Conv2D(6, 3, padding="same", name="maps")(x)
    made = keras.Model(image, [quantity(vector), bright(vector), several(vector), vector, maps])
    weights, bias = ridge[:-1, None], ridge[-1:]
    quantity.set_weights([weights, bias])
    bright.set_weights([20 * weights, 20 * (bias - np.median(light))])
    several.set_weights([np.c_[20 * weights, -20 * weights], 20 * np.r_[bias - 0.3, 0.6 - bias]])
    path = tmp_path_factory.mktemp("model") / "heads.keras"
    made.save(path)
    return path


def labelled(folder: Path, out: Path, labels: list[str]) -> Path:
    """Return a copy of the images with labels."""
    out.mkdir()
    rows = ["file,label"]
    for path, label in zip(sorted(folder.glob("*.png")), labels, strict=True):
        # Another picture than the calibration's, else the overlap would be refused.
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(out / path.name)
        rows.append(f"{path.name},{label}")
    (out / "labels.csv").write_text("\n".join(rows) + "\n")
    return out


def run(model: Path, photos: tuple[Path, Any], tmp_path: Path, labels: list[str], **options: Any) -> Any:
    test = labelled(photos[0], tmp_path / "test", labels)
    found = edgefx.compile(
        model, targets=TARGETS, calibration=photos[0], evaluation=test, effort="fast", benchmark=False,
        cache=False, output=tmp_path / "out", **options,
    )  # fmt: skip
    assert [result.failure for result in found] == [None] * len(TARGETS)
    return found, test


def test_a_quantity(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = [f"{one:.5f}" for one in photos[1].mean((1, 2, 3)) / 255]
    found, test = run(model, photos, tmp_path, light, head="light", task="regression")
    for result in found:
        figures = result.accuracy.task
        assert figures.r2 > 0.95
        assert figures.r2_drop < (1e-5 if result.target == "tflite-float32" else 0.03)
        assert result.accuracy.top1 is None
    assert not (tmp_path / "out/predictions.json").exists()
    # The file says what it answers.
    alone = edgefx.evaluate(found.targets[0].artifact.path, test)
    assert alone.figures is not None
    assert alone.figures.r2 == pytest.approx(found.targets[0].accuracy.task.r2)
    assert alone.figures.relative_error is None
    against = edgefx.evaluate(found.targets[0].artifact.path, test, baseline=model, head="light")
    assert isinstance(against.comparison, Accuracy)
    assert against.comparison.task == found.targets[0].accuracy.task


def test_one_score(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = photos[1].mean((1, 2, 3))
    labels = ["yes" if one > np.median(light) else "no" for one in light]
    options = {"head": "bright", "max_drop": "10pp", "min_images": 10, "threshold": 0.8}
    found, test = run(model, photos, tmp_path, labels, **options)
    assert found.model.task is ModelTask.BINARY
    assert found.model.threshold == 0.8
    assert found.model.class_names == ("no", "yes")
    for result in found:
        assert 0.6 < result.accuracy.baseline_top1 < 0.95
        assert abs(result.accuracy.drop_pp) <= 5
        assert result.accuracy.task.auc > 0.95
        # The scores are as they were; what is made of them is not.
        path = result.artifact.path
        alone = edgefx.evaluate(path, test, threshold=0.8, baseline=tmp_path / "out")
        usual = edgefx.evaluate(path, test)
        assert alone.comparison is not None
        assert (alone.top1, alone.comparison.drop_pp) == (result.accuracy.top1, result.accuracy.drop_pp)
        assert (usual.top1 or 0) > (alone.top1 or 0)
        with pytest.raises(UsageError, match=r"measured with a threshold of 0\.8"):
            edgefx.evaluate(path, test, baseline=tmp_path / "out")


def test_several_labels(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = photos[1].mean((1, 2, 3)) / 255
    labels = [";".join(name for name, has in (("0", one > 0.3), ("1", one < 0.6)) if has) for one in light]
    found, _ = run(model, photos, tmp_path, labels, head="several", task="multilabel")
    for result in found:
        assert result.accuracy.task.mean_average_precision > 0.95
        assert result.accuracy.agreement > 0.9
    integer = next(result for result in found if result.target == "tflite-int8")
    assert [(op.op, op.dtype) for op in integer.artifact.ops if op.dtype == "float32"] == [
        ("DEQUANTIZE", "float32"),
        ("LOGISTIC", "float32"),
    ]


def test_a_vector(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = photos[1].mean((1, 2, 3))
    labels = [str(int(one // 40)) for one in light]
    found, _ = run(model, photos, tmp_path, labels, head="vector")
    assert found.model.task is ModelTask.EMBEDDING
    for result in found:
        assert result.accuracy.task.cosine > 0.99
        assert result.accuracy.top1 is not None
        assert 0 < result.accuracy.agreement <= 1


def test_a_map(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    found, test = run(model, photos, tmp_path, ["0"] * COUNT, head="maps")
    assert found.model.task is ModelTask.FEATURES
    for result in found:
        assert result.accuracy.task.cosine > 0.99
    against = edgefx.evaluate(found.targets[0].artifact.path, test, baseline=model, head="maps")
    assert isinstance(against.comparison, Accuracy)
    assert against.comparison.task == found.targets[0].accuracy.task


def test_one_score_on_a_device(model: Path, photos: tuple[Path, Any], tmp_path: Path, device: Remote) -> None:
    found = edgefx.compile(
        model, targets="tflite-float32", head="bright", evaluate=False, benchmark=False, cache=False,
        output=tmp_path / "out",
    )  # fmt: skip
    (made,) = found.targets
    assert made.artifact is not None
    path, pixels = made.artifact.path, photos[1][:5]
    with (
        runtimes.for_artifact(path).open_session(path, threads=1) as here,
        device.open_session(path, threads=1) as there,
    ):
        scores = there.infer(pixels)
        assert scores.shape == (5, 2)
        assert scores.tobytes() == here.infer(pixels).tobytes()


def test_what_is_not_measured_is_not_limited(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    test = labelled(photos[0], tmp_path / "test", ["1"] * COUNT)
    with pytest.raises(UsageError, match="max_drop") as caught:
        edgefx.compile(
            model, targets="tflite-float32", evaluation=test, head="light", task="regression",
            max_drop="1pp", benchmark=False, cache=False, output=tmp_path / "out",
        )  # fmt: skip
    assert "max_r2_drop" in caught.value.hint
    assert not (tmp_path / "out/report.json").exists()


def test_logits_as_the_end_of_sigmoids(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = photos[1].mean((1, 2, 3)) / 255
    labels = [";".join(name for name, has in (("0", one > 0.3), ("1", one < 0.6)) if has) for one in light]
    options = {"head": "several", "task": "multilabel", "io_dtype": "float32", "ends": "logits"}
    found, test = run(model, photos, tmp_path, labels, **options)
    for result in found:
        assert result.accuracy.task.mean_average_precision > 0.95
        assert result.accuracy.agreement > 0.9
        assert result.accuracy.score_step is None
        assert any("ends in logits" in note for note in findings.notes(found))
        (output,) = result.artifact.outputs
        assert output.name == "sigmoid_logits"
        # Whoever reads the file alone knows what to do, too.
        alone = edgefx.evaluate(result.artifact.path, test)
        assert alone.figures is not None
        assert alone.figures.mean_average_precision == result.accuracy.task.mean_average_precision
        metadata = runtimes.for_artifact(result.artifact.path).read_metadata(result.artifact.path)
        assert metadata is not None
        assert metadata.output_kind == "logits"


def test_integer_logits(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    median = np.median(photos[1].mean((1, 2, 3)))
    labels = ["yes" if one > median else "no" for one in photos[1].mean((1, 2, 3))]
    test = labelled(photos[0], tmp_path / "test", labels)
    found: dict[str, dict[str, Any]] = {}
    for ends in _ENDS:
        report = edgefx.compile(
            model, targets=("tflite-int8", "onnx-int8", "openvino-int8"), calibration=photos[0],
            evaluation=test, effort="fast", benchmark=False, cache=False, output=tmp_path / ends,
            head="bright", io_dtype="int8", ends=ends,
        )  # fmt: skip
        assert [result.failure for result in report] == [None] * 3
        found[ends] = {result.target: result for result in report}
    for target, result in found["logits"].items():
        (output,) = result.artifact.outputs
        assert (output.name, output.dtype) == ("sigmoid_logits", "int8")
        assert result.accuracy.task.auc >= found["scores"][target].accuracy.task.auc - 1e-6
        # Half a step of a logit is what rounding changes; the sigmoid is at most a quarter as steep.
        assert result.accuracy.max_abs_dp < 0.2
    assert found["logits"]["tflite-int8"].artifact.compute_float == 0


def test_values_have_no_logits(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gives values"):
        edgefx.compile(
            model, targets="tflite-int8", calibration=photos[0], evaluate=False, benchmark=False, cache=False,
            output=tmp_path / "out", head="light", task="regression", ends="logits",
        )  # fmt: skip


@pytest.mark.parametrize("head", ["light", "several"])
def test_supervised_training_learns_what_the_table_says(
    model: Path, photos: tuple[Path, Any], tmp_path: Path, head: str
) -> None:
    """Quantities on another scale than the model's, and labels that are all the other way round."""
    light = photos[1].mean((1, 2, 3)) / 255
    bright = light > np.median(light)
    quantities, others = [f"{1.3 * one + 0.1:.5f}" for one in light], [str(int(not one)) for one in bright]
    task, right = {"light": ("regression", quantities), "several": ("multilabel", others)}[head]
    train = labelled(photos[0], tmp_path / "train", right)
    report = edgefx.compile(
        model, targets=("tflite-int8", "onnx-int8"), calibration=photos[0], train=train, qat="supervised",
        epochs=3, batch_size=4, learning_rate=0.3, effort="fast", evaluate=False, benchmark=False,
        cache=False, output=tmp_path / "out", head=head, task=task,
    )  # fmt: skip
    assert report.training is not None
    losses = [epoch.validation_loss for epoch in report.training.epochs]
    assert min(losses) < 0.85 * losses[0]
    (effect,) = (result.training for result in report if result.training is not None)
    # ONNX Runtime rounds elsewhere, and less: there its own artifact may be the better one.
    assert effect.images == 9
    assert 0 < effect.loss_before < losses[0]


def test_supervised_training_needs_labels(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    """An embedding's values are no scores, though folders give its images classes to search by."""
    with pytest.raises(UsageError, match=r"no label says that of .*: its task is embedding"):
        edgefx.compile(
            model, targets="tflite-int8", calibration=photos[0], train=photos[0], qat="supervised",
            evaluate=False, benchmark=False, cache=False, output=tmp_path / "out", head="vector",
        )  # fmt: skip


def test_several_outputs_in_one_artifact(model: Path, photos: tuple[Path, Any], tmp_path: Path) -> None:
    light = photos[1].mean((1, 2, 3)) / 255
    test = labelled(photos[0], tmp_path / "test", ["0"] * COUNT)
    rows = [
        f"{number:02}.png,{one:.5f},{int(one > np.median(light))},"
        + ";".join(["0"] * int(one > 0.3) + ["1"] * int(one < 0.6))
        for number, one in enumerate(light)
    ]
    (test / "labels.csv").write_text("\n".join(["file,light,bright,several", *rows]) + "\n")
    found: Any = edgefx.compile(
        model, targets=TARGETS, calibration=photos[0], evaluation=test, effort="fast", benchmark=False,
        cache=False, output=tmp_path / "out", task="light=regression,several=multilabel,vector=embedding",
        gates=["light.r2_drop <= 0.05", "bright.auc_drop_pp <= 5", "maps.cosine >= 0.99"], min_images=COUNT,
    )  # fmt: skip
    assert [result.failure for result in found] == [None] * len(TARGETS)
    names = ["light", "bright", "several", "vector", "maps"]
    assert [one.name for one in found.model.outputs] == names
    assert (found.model.task, found.model.classes) == (ModelTask.BINARY, 2)
    for result in found:
        assert [one.name for one in result.artifact.outputs] == names
        figures = {one.name: one.accuracy for one in result.accuracy.outputs}
        assert figures["light"].task.r2 > 0.95
        assert figures["bright"].task.auc > 0.95
        assert figures["bright"].agreement == result.accuracy.agreement
        assert figures["several"].task.mean_average_precision > 0.9
        assert figures["vector"].task.cosine > 0.995
        assert figures["maps"].task.cosine > 0.99
        assert result.accuracy.mean_kl == pytest.approx(sum(one.mean_kl for one in figures.values()))
        if result.target == "tflite-float32":
            assert max(figures[name].task.relative_error for name in ("light", "vector", "maps")) < 1e-4
        # Pictures of the calibration set, changed in one pixel, prove nothing, so that none passes.
        assert {gate.gate.name: gate.measured for gate in result.gates} == {
            "light.r2_drop": figures["light"].task.r2_drop,
            "bright.auc_drop_pp": figures["bright"].task.auc_drop_pp,
            "maps.cosine": figures["maps"].task.cosine,
        }
        path = result.artifact.path
        metadata: Any = runtimes.for_artifact(path).read_metadata(path)
        assert [(one.tensor.name, one.task) for one in metadata.outputs] == [
            (one.name, one.task) for one in found.model.outputs
        ]
        assert metadata.output.name == "bright"
        seen: Any = edgefx.inspect(path)
        assert seen.metadata == metadata
    for kind in ("terminal", "markdown", "html"):
        text = formats.dumps(found, kind)
        assert all(f"output {name} (" in text for name in names)
    (judged, *_) = edgefx.gate(tmp_path / "out", gates=["vector.cosine >= 0.9"]).targets
    assert judged.gates[0].measured == found.targets[0].accuracy.outputs[3].accuracy.task.cosine
    same = edgefx.diff(tmp_path / "out", tmp_path / "out").targets[0]
    assert same.before is not None
    assert same.before["light.r2"] == found.targets[0].accuracy.outputs[0].accuracy.task.r2
    path = found.targets[0].artifact.path
    alone: Any = edgefx.evaluate(path, test)
    against: Any = edgefx.evaluate(
        path, test, baseline=str(model), task="light=regression,several=multilabel,vector=embedding"
    )
    measured = found.targets[0].accuracy.outputs
    for one, other, own in zip(alone.outputs, against.outputs, measured, strict=True):
        assert one.name == other.name == own.name
        assert (one.comparison, one.top1) == (None, own.accuracy.top1)
        assert other.figures == own.accuracy.task
        assert other.comparison.mean_kl == pytest.approx(own.accuracy.mean_kl)
    assert alone.outputs[0].figures.r2 == measured[0].accuracy.task.r2
    with pytest.raises(UsageError, match="is another model: it has one output"):
        edgefx.evaluate(path, test, baseline=str(model), head="bright")
    with pytest.raises(UsageError, match="is compared with a model, not with a run"):
        edgefx.evaluate(path, test, baseline=str(tmp_path / "out"))


TASKS = "light=regression,several=multilabel,vector=embedding"
KINDS = {"light": "float32", "bright": "int8", "several": "uint8", "vector": "int8", "maps": "int8"}


def test_several_outputs_with_types_of_their_own_are_handed_on(
    model: Path, photos: tuple[Path, Any], tmp_path: Path, device: Remote
) -> None:
    build = tmp_path / "out"
    found: Any = edgefx.compile(
        model, targets=TARGETS[:3], calibration=photos[0], evaluate=False, effort="fast", benchmark=False,
        cache=False, output=build, task=TASKS, io_dtype="input=uint8,output=int8,light=float32,several=uint8",
    )  # fmt: skip
    answers = {}
    for result in found:
        assert result.failure is None, result.failure
        assert {one.name: one.dtype for one in result.artifact.outputs} == KINDS
        path, pixels = result.artifact.path, photos[1][:5]
        with runtimes.for_artifact(path).open_session(path, threads=1) as here:
            scores = answers[result.target] = here.infer(pixels)
        with device.open_session(path, threads=1) as there:
            assert there.infer(pixels).tobytes() == scores.tobytes()
    bundle = edgefx.bundle(build, serving=[f"triton={tmp_path / 'served'}"])
    with zipfile.ZipFile(bundle.path) as opened:
        manifest = json.loads(opened.read("manifest.json"))
        header = opened.read("c/model_quantization.h").decode()
        card = opened.read("MODEL_CARD.md").decode()
    for target in manifest["targets"]:
        assert {one["tensor"]["name"]: one["tensor"]["dtype"] for one in target["outputs"]} == KINDS
        assert target["output"]["name"] == "bright"
        assert target["outputs"][0]["task"] == "regression"
    assert "#define EDGEFX_OUTPUT_MAPS_INDEX 4" in header
    assert "typedef uint8_t edgefx_output_several_t;" in header
    assert "typedef float edgefx_output_light_t;" in header
    assert all(f"output {name}" in card.replace("*", "") for name in KINDS)
    (config, _) = sorted((tmp_path / "served").glob("*/config.pbtxt"))
    assert all(f'name: "{name}"' in config.read_text() for name in KINDS)
    drift = edgefx.drift(build, photos[0], target="onnx-int8")
    assert {"light: scores", "bright: classes", "maps: scores"} <= {one.test for one in drift.tests}
    assert not any(one.drifted for one in drift.tests)
    with pytest.raises(UsageError, match="unknown end 'lihgt'"):
        edgefx.compile(
            model, targets="onnx-int8", calibration=photos[0], evaluate=False, benchmark=False,
            cache=False, output=tmp_path / "none", task=TASKS, io_dtype="lihgt=float32",
        )  # fmt: skip
