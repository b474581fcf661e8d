"""Runs whose figures prove nothing: the report says so first, and no gate on the drop passes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import edgefx
from edgefx.cli import run
from edgefx.data import digits

pytestmark = pytest.mark.usefixtures("own_cache", "digits_once")

FLAGS = ("compile", "digits", "--max-drop", "1pp", "--no-benchmark", "-q")
Call = Callable[..., int]


def images(root: Path, *, every: int = 3, label: Callable[[int], int] = lambda digit: digit) -> Path:
    """Copy a part of the embedded evaluation images into class folders."""
    for digit in range(10):
        folder = root / str(label(digit))
        folder.mkdir(parents=True)
        for path in sorted((digits.evaluation_folder() / str(digit)).glob("*.png"))[::every]:
            shutil.copy(path, folder)
    return root


@pytest.fixture
def call(tmp_path: Path) -> Call:
    def call(*argv: str | Path) -> int:
        return run([*FLAGS, *map(str, argv), "-o", str(tmp_path / "out")])

    return call


def doubts(tmp_path: Path) -> list[str]:
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (target,) = report["targets"]
    assert [gate["verdict"] for gate in target["gates"]] == ["INCONCLUSIVE"]
    return [doubt["name"] for doubt in (*report["doubts"], *target["doubts"])]


def test_reversed_classes(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = images(tmp_path / "reversed", label=lambda digit: 9 - digit)
    assert call("-t", "tflite-float32", "--eval", wrong) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("doubtful: the classes are in another order than the model's")
    assert doubts(tmp_path) == ["order of classes"]


def test_few_images_are_a_matter_of_choice(call: Call, tmp_path: Path) -> None:
    few = images(tmp_path / "few", every=12)
    assert call("-t", "tflite-float32", "--eval", few) == 1
    assert doubts(tmp_path) == ["few images"]
    assert call("-t", "tflite-float32", "--eval", few, "--on-inconclusive", "warn") == 0
    assert doubts(tmp_path) == ["few images"]
    assert call("-t", "tflite-float32", "--eval", few, "--min-images", "30") == 0


def test_slow_kernels_are_measured_on_a_sample(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = ("-t", "tflite-int16x8,tflite-float32", "--max-drop", "3pp")
    assert call(*slow, "--slow-eval-limit", "100") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "same 360 images" in shown
    assert "tflite-int16x8: accuracy on 100 of 360 images, of every class its share" in shown
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    plain, sampled = (target["accuracy"] for target in report["targets"])
    assert (plain["images"], plain["sampled_of"]) == (360, None)
    assert (sampled["images"], sampled["sampled_of"]) == (100, 360)
    assert sampled["drop_ci95_pp"][1] - sampled["drop_ci95_pp"][0] > 2 * plain["drop_ci95_pp"][1]
    assert report["baseline_top1"] == plain["baseline_top1"]
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    seen = [
        label
        for label, answer in zip(answers["labels"], answers["targets"]["tflite-int16x8"], strict=True)
        if answer is not None
    ]
    assert len(seen) == 100
    sure = answers["confidence"]["tflite-int16x8"]
    assert [one is None for one in sure] == [one is None for one in answers["targets"]["tflite-int16x8"]]
    assert len(answers["baseline_confidence"]) == 360
    assert [target["changes"]["images"] for target in report["targets"]] == [360, 100]
    assert all(len(target["changes"]["by_class"]) == 10 for target in report["targets"])
    assert {seen.count(label) for label in range(10)} <= {9, 10, 11}

    assert call(*slow, "--slow-eval-limit", "40") == 1
    assert "INCONCLUSIVE tflite-int16x8: top-1 drop" in capsys.readouterr().out
    assert call(*slow) == 0  # what is judged is measured on all images
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {target["accuracy"]["images"] for target in report["targets"]} == {360}


def test_calibration_images_in_another_format(call: Call, tmp_path: Path) -> None:
    seen = images(tmp_path / "seen")
    for digit in range(10):
        path = min((digits.calibration_folder() / str(digit)).glob("*.png"))
        Image.open(path).convert("RGB").save(seen / str(digit) / "again.jpg", quality=85)
    assert call("-t", "tflite-int8", "--effort", "fast", "--eval", seen) == 1
    assert doubts(tmp_path) == ["calibration images"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (check,) = [one for one in report["checks"] if one["name"] == "overlap with the evaluation images"]
    assert not check["passed"]
    assert check["measured"].startswith("10 of 132 evaluation images show the same picture")
    assert "again.jpg = " in check["measured"]


def test_a_label_that_calibrates_is_a_label(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = ["file,label"]
    for number, path in enumerate(sorted(digits.evaluation_folder().rglob("*.png"))[:20]):
        shutil.copy(path, flat / f"{number}.png")
        rows.append(f"{number}.png,{99 if number == 7 else 1}")
    (flat / "labels.csv").write_text("\n".join(rows) + "\n")
    for seed in ("0", "1"):  # another seed calibrates on other images
        assert call("-t", "tflite-int8", "--calib", flat, "--samples", "15", "--seed", seed) == 2
        assert "labels up to 99, but the model has 10 classes" in capsys.readouterr().err


def test_what_calibration_left_may_be_training_images(call: Call, tmp_path: Path) -> None:
    folder = images(tmp_path / "photos", every=2)
    assert call("-t", "tflite-int8", "--effort", "fast", "--calib", folder, "--min-images", "50") == 0
    (warning,) = json.loads((tmp_path / "out" / "report.json").read_text())["warnings"]
    assert warning.startswith("accuracy is measured on what calibration left of its folder")
    assert "--eval photos/test" in warning


def test_class_names_of_the_folders_reach_report_answers_and_artifacts(tmp_path: Path) -> None:
    """For a model of one's own, which has none."""
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    model = tmp_path / "mine.keras"
    keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x)).save(model)
    folder = images(tmp_path / "test", every=12, label=lambda digit: 10 + digit)
    out = tmp_path / "own"
    assert run(["compile", str(model), "-t", "tflite-float32", "--eval", str(folder), "--no-benchmark", "-q",
                "-o", str(out)]) == 0  # fmt: skip
    names = [str(number) for number in range(10, 20)]
    assert json.loads((out / "report.json").read_text())["model"]["class_names"] == names
    assert json.loads((out / "predictions.json").read_text())["class_names"] == names
    assert (out / "mine-labels.txt").read_text().splitlines() == names

    # The same model with other folders: converted once, and each artifact has its own names.
    report = json.loads((out / "report.json").read_text())
    renamed, other = tmp_path / "renamed", tmp_path / "other"
    shutil.copytree(folder, renamed)
    for name in names:
        (renamed / name).rename(renamed / f"class {name}")
    assert run(["compile", str(model), "-t", "tflite-float32", "--eval", str(renamed), "--no-benchmark", "-q",
                "-o", str(other)]) == 0  # fmt: skip
    again = json.loads((other / "report.json").read_text())
    assert "convert" in {entry["stage"] for entry in again["cached"]}
    assert again["targets"][0]["accuracy"] == report["targets"][0]["accuracy"]
    for place, expected in ((out, names), (other, [f"class {name}" for name in names])):
        path = place / "mine-float32.tflite"
        (described,) = json.loads((place / "report.json").read_text())["targets"]
        assert described["artifact"]["files"][0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = edgefx.inspect(path).metadata  # type: ignore[union-attr]
        assert metadata is not None
        assert list(metadata.class_names) == expected
        assert metadata.resize == "stretch"
    assert edgefx.diff(out, other).targets[0].identical, "but for the names"

    # Images whose labels have no names: doubts name classes as the artifact does.
    table = images(tmp_path / "table", every=12)
    rows = [f"{path.relative_to(table)},3" for path in sorted(table.rglob("*.png"))]
    (table / "labels.csv").write_text("\n".join(["file,label", *rows]))
    (doubt,) = edgefx.evaluate(other / "mine-float32.tflite", table).doubts
    assert "of one class, 'class 13'" in doubt.reason
