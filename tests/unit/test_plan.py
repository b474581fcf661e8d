"""What is checked before the model is loaded, on real image files and the real targets table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgefx.data import digits
from edgefx.errors import DataError, EdgefxError, ExitCode, UnknownNameError, UsageError
from edgefx.pipeline.plan import Plan, plan
from edgefx.recipe.load import parse
from edgefx.recipe.options import AS_FLAGS, BY_PATH, Wording
from edgefx.recipe.schema import QatSection


def planned(*, wording: Wording = BY_PATH, allow_unsafe: bool = False, **sections: Any) -> Plan:
    document = {"version": 1, "model": {"source": "digits"}, "targets": ["tflite-int8"], **sections}
    return plan(parse(document, where="test"), wording=wording, allow_unsafe=allow_unsafe)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of ten images."""
    for label in ("0", "1"):
        (tmp_path / label).mkdir()
        for image in sorted((digits.evaluation_folder() / label).iterdir())[:10]:
            shutil.copy(image, tmp_path / label)
    return tmp_path


def test_digits_brings_its_own_images() -> None:
    result = planned()
    assert result.calibration is not None
    assert result.evaluation is not None
    assert len(result.calibration.items) == 100
    assert len(result.evaluation.items) == 360


@pytest.mark.parametrize(
    ("evaluate", "gates", "limit"),
    [
        ({}, {}, 100),
        ({}, {"max_size": "1MB"}, 100),
        ({}, {"max_drop": "1pp"}, None),
        ({}, {"min_agreement": 0.9}, None),
        ({"slow_limit": 40}, {"max_drop": "1pp"}, 40),
        ({"slow_limit": "all"}, {}, None),
        (None, {}, None),
    ],
)
def test_only_targets_with_slow_kernels_are_measured_on_a_sample(
    evaluate: dict[str, Any] | None, gates: dict[str, Any], limit: int | None
) -> None:
    result = planned(targets=["tflite-*"], evaluate=evaluate, gates=gates)
    limits = {target.name: target.eval_limit for target in result.targets}
    assert limits.pop("tflite-int16x8") == limit
    assert set(limits.values()) == {None}


def test_samples_of_the_embedded_images() -> None:
    result = planned(calibration={"samples": 30})
    assert result.calibration is not None
    assert len(result.calibration.items) == 30


def test_one_folder_is_divided(photos: Path) -> None:
    result = planned(calibration={"images": photos})
    assert result.calibration is not None
    assert result.evaluation is not None
    chosen = {item.path for item in result.calibration.items}
    measured = {item.path for item in result.evaluation.items}
    assert len(chosen) == len(measured) == 10
    assert not chosen & measured
    assert "left" in result.evaluation_note


def test_copies_of_calibration_images_are_not_measured_on(photos: Path) -> None:
    for image in list(photos.rglob("*.png")):
        shutil.copy(image, image.with_name(f"copy-{image.name}"))
    result = planned(calibration={"images": photos})
    assert result.calibration is not None
    assert result.evaluation is not None
    seen = {item.path.read_bytes() for item in result.calibration.items}
    assert not seen & {item.path.read_bytes() for item in result.evaluation.items}
    assert "copies of calibration images" in result.evaluation_note


def test_division_is_seeded(photos: Path) -> None:
    same = [planned(calibration={"images": photos}, seed=3).calibration for _ in range(2)]
    other = planned(calibration={"images": photos}, seed=4).calibration
    assert same[0] == same[1] != other


def test_all_samples_leave_nothing_to_measure(photos: Path) -> None:
    with pytest.raises(UsageError, match="left to measure"):
        planned(calibration={"images": photos, "samples": 20})
    without = planned(calibration={"images": photos, "samples": 20}, evaluate=None)
    assert without.evaluation is None


def test_more_samples_than_images(photos: Path) -> None:
    with pytest.raises(UsageError, match="holds 20 images"):
        planned(calibration={"images": photos, "samples": 21}, evaluate=None)


def test_overlapping_folders_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="are also"):
        planned(calibration={"images": photos}, evaluate={"images": digits.evaluation_folder()})


def test_evaluation_limit(photos: Path) -> None:
    result = planned(evaluate={"images": photos, "limit": 6})
    assert result.evaluation is not None
    assert len(result.evaluation.items) == 6
    assert "6 sampled of" in result.evaluation_note


@pytest.fixture
def model_file(tmp_path: Path) -> str:
    """A file that looks like a model."""
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK\x03\x04")
    return str(path)


def test_int8_without_calibration_says_what_to_give(model_file: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(model={"source": model_file})
    assert "calibration.images: photos/" in caught.value.hint
    assert "tflite-int8" in caught.value.message
    with pytest.raises(UsageError) as flags:
        planned(model={"source": model_file}, wording=AS_FLAGS)
    assert "--calib photos/" in flags.value.hint


def test_float_targets_need_no_images(model_file: str) -> None:
    result = planned(model={"source": model_file}, targets=["onnx-float32"])
    assert result.calibration is None
    assert result.evaluation is None


@pytest.mark.parametrize(
    ("name", "content", "words", "advice"),
    [
        ("b9", None, "unknown model 'b9'", "did you mean"),
        ("model.onnx", None, "no such model file", "compiled artifact"),
        ("net.pt", b"PK\x05\x06 of torch", "not a Keras model file", "PyTorch"),
        ("README.md", b"# about", "not a Keras model file", "expected a Keras model"),
        ("b0.edgefx.zip", b"PK\x05\x06 of a bundle", "not a Keras model file", "edgefx verify"),
        ("edgefx.lock.json", b"{}", "not a Keras model file", "edgefx reproduce"),
        ("model.keras", b"", "the file is empty", "expected a Keras model"),
    ],
)
def test_the_model_is_looked_at_before_anything_is_asked_for(
    tmp_path: Path, name: str, content: bytes | None, words: str, advice: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgefxError, match=words) as caught:
        planned(model={"source": name if name == "b9" else str(path)})
    assert advice in caught.value.hint
    assert caught.value.exit_code is ExitCode.USAGE


def test_integer_io_is_refused_where_impossible() -> None:
    with pytest.raises(UsageError, match="tflite-float32"):
        planned(targets=["tflite-int8", "tflite-float32"], io_dtype="uint8")


def test_integer_only_is_refused_where_float_remains() -> None:
    result = planned(targets=["tflite-int8", "tflite-int16x8"], quantize={"integer_only": True})
    assert all(target.integer_only for target in result.targets)
    with pytest.raises(UsageError, match="not possible for tflite-dynamic, onnx-int8") as caught:
        planned(targets=["tflite-int8", "onnx-int8", "tflite-dynamic"], quantize={"integer_only": True})
    assert "tflite-int8" in caught.value.hint


def test_a_file_cannot_have_code_run(model_file: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was run')")
    asked: dict[str, Any] = {
        "model": {"source": model_file, "custom_objects": str(tmp_path / "mine.py")},
        "targets": ["tflite-float32"],
        "evaluate": None,
    }
    with pytest.raises(UsageError, match=r"model.custom_objects: .*mine.py would be run as Python") as caught:
        planned(**asked)
    assert "--allow-unsafe" in caught.value.hint
    assert planned(**asked, allow_unsafe=True).allow_unsafe
    assert planned(**asked, wording=AS_FLAGS).recipe.model.custom_objects is not None


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        planned(targets=["tflite-int9"])
    assert "tflite-int8" in caught.value.hint


def test_a_drop_gate_needs_labels(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for image in sorted((digits.evaluation_folder() / "3").iterdir()):
        shutil.copy(image, flat)
    with pytest.raises(UsageError, match="has no labels"):
        planned(evaluate={"images": flat}, gates={"max_drop": "1pp"})
    with pytest.raises(UsageError, match="which is not measured: evaluate is null"):
        planned(evaluate=None, gates={"max_drop": "1pp"})
    limits: dict[str, Any] = {"gates": {"max_drop": "1pp"}, "quantize": {"budget": "1pp"}}
    with pytest.raises(UsageError, match=r"^--max-drop needs labelled .*flat has no labels"):
        planned(evaluate={"images": flat}, **limits, wording=AS_FLAGS)
    with pytest.raises(UsageError, match=r"^quantize\.budget, gates\.max_drop need labelled"):
        planned(evaluate={"images": flat}, **limits)


def test_missing_folder() -> None:
    with pytest.raises(DataError, match="nowhere"):
        planned(calibration={"images": "nowhere"})


def test_ranges_are_refused_where_a_runtime_takes_none() -> None:
    with pytest.raises(UsageError, match="ranges percentile is not possible for tflite-int16x8") as caught:
        planned(targets=["tflite-*"], quantize={"ranges": "percentile"})
    assert "auto, min-max" in caught.value.hint
    result = planned(
        targets=["*-int8", {"target": "tflite-int16x8", "ranges": "min-max"}],
        quantize={"ranges": "percentile"},
    )
    assert {target.name: str(target.ranges) for target in result.targets} == {
        "tflite-weight-int8": "auto",
        "tflite-int8": "percentile",
        "tflite-int16x8": "min-max",
        "onnx-weight-int8": "auto",
        "onnx-int8": "percentile",
        "openvino-weight-int8": "auto",
        "openvino-int8": "percentile",
    }


def test_ranges_of_float_targets_do_not_matter() -> None:
    (target,) = planned(targets=["onnx-float32"], quantize={"ranges": "entropy", "effort": "high"}).targets
    assert (str(target.ranges), str(target.effort)) == ("auto", "balanced")


def test_without_quantization_there_is_no_int8() -> None:
    assert planned(targets=["tflite-float16"], quantize={"method": "none"}).targets
    with pytest.raises(UsageError, match="method none makes float artifacts, not tflite-int8"):
        planned(targets=["tflite-*"], quantize={"method": "none"})


def test_training_needs_images(photos: Path) -> None:
    with pytest.raises(UsageError, match="needs training images"):
        planned(quantize={"method": "qat"})
    from edgefx.quantization import QatSettings

    training = QatSection(method="qat", mode="supervised", train=photos, epochs=2).settings(seed=3)
    assert (str(training.mode), training.epochs, training.seed) == ("supervised", 2, 3)
    assert QatSection(method="qat").settings(seed=0) == QatSettings()


def test_training_images_calibrate_too_where_no_others_are_given(photos: Path) -> None:
    result = planned(
        model={"source": "b0"}, quantize={"method": "qat", "train": photos}, evaluate=None, benchmark=None
    )
    assert result.training is not None
    assert len(result.training.items) == 20
    assert result.calibration is not None
    assert result.calibration.root == photos
    assert planned().training is None


def test_nothing_is_measured_on_training_images(photos: Path) -> None:
    with pytest.raises(DataError, match=r"20 of 20 evaluation images .* are also training images") as caught:
        planned(quantize={"method": "qat", "train": photos}, evaluate={"images": photos})
    assert "--eval" in caught.value.hint


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"targets": ["onnx-float32"]}, "trains for INT8, not for onnx-float32"),
        ({"targets": ["tflite-int*"]}, "does not make tflite-int16x8"),
        ({"quantize": {"keep_float": ["top_conv"]}}, "cannot leave layers in float, for tflite-int8"),
        ({"quantize": {"budget": "1pp"}}, "has no budget to search for, for tflite-int8"),
    ],
)
def test_what_training_cannot_be_combined_with(photos: Path, sections: dict[str, Any], message: str) -> None:
    quantize = {"method": "qat", "train": photos, **sections.pop("quantize", {})}
    with pytest.raises(UsageError, match=message):
        planned(quantize=quantize, **sections)


def test_integer_only_and_float_layers_contradict_each_other() -> None:
    with pytest.raises(UsageError, match=r"quantize\.keep_float contradicts quantize\.integer_only"):
        planned(quantize={"integer_only": True, "keep_float": ["top"]})


def test_a_budget_is_no_gate_and_a_gate_no_budget() -> None:
    (budgeted,) = planned(quantize={"budget": "1pp"}).targets
    assert str(budgeted.budget) == "1pp"
    assert budgeted.gates == ()
    (gated,) = planned(gates={"max_drop": "1pp"}).targets
    assert gated.budget is None
    assert len(gated.gates) == 1
