"""extends, --set, --target, variables and matrix: one recipe out of several texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefx.errors import UsageError
from edgefx.pipeline.plan import resolve
from edgefx.recipe.compose import option, setting
from edgefx.recipe.load import load, load_runs
from edgefx.recipe.schema import PtqSection, QatSection
from edgefx.recipe.tree import RecipeError
from edgefx.results import DropUnit, MaxDrop
from edgefx.types import Effort, IoDtype, Ranges

BASE = """\
version: 1
model: digits
quantize: {method: ptq, effort: fast, budget: 1pp, keep_float: [a, b]}
targets: [tflite-int8, onnx-int8]
calibration:
  images: photos
gates: {max_drop: 1pp, max_size: 1MB}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with base.yaml, photos/ and a sub-folder with photos/ of its own."""
    for name in ("photos", "sub/photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------------- extends


def test_sections_are_merged_and_all_else_replaced(folder: Path) -> None:
    child = write(
        folder / "child.yaml",
        "version: 1\nextends: base.yaml\nquantize: {effort: high, keep_float: [c]}\ntargets: [tflite-int8]\n",
    )
    recipe = load(child)
    assert isinstance(recipe.quantize, PtqSection)
    assert recipe.quantize.effort is Effort.HIGH
    assert recipe.quantize.keep_float == ("c",)
    assert recipe.quantize.budget == MaxDrop(value=1.0, unit=DropUnit.PP)
    assert [one.target for one in recipe.targets] == ["tflite-int8"]
    assert recipe.gates.max_size == 1_000_000


def test_paths_are_relative_to_the_file_that_says_them(folder: Path) -> None:
    child = write(folder / "sub" / "child.yaml", "version: 1\nextends: ../base.yaml\n")
    recipe = load(child)
    assert recipe.calibration is not None
    assert recipe.calibration.images is not None
    assert recipe.calibration.images.resolve() == folder / "photos"
    write(child, "version: 1\nextends: ../base.yaml\ncalibration: {images: photos}\n")
    recipe = load(child)
    assert recipe.calibration is not None
    assert recipe.calibration.images == folder / "sub" / "photos"


def test_a_chain_and_a_shipped_recipe(folder: Path) -> None:
    write(folder / "middle.yaml", "version: 1\nextends: digits-demo\nseed: 3\n")
    recipe = load(write(folder / "top.yaml", "version: 1\nextends: middle.yaml\noutput: there\n"))
    assert (recipe.model.source, recipe.seed, recipe.output) == ("digits", 3, Path("there"))


def test_another_method_replaces_the_section(folder: Path) -> None:
    child = write(
        folder / "child.yaml",
        "version: 1\nextends: base.yaml\nquantize: {method: qat, train: sub/photos}\n",
    )
    recipe = load(child)
    assert isinstance(recipe.quantize, QatSection)
    assert recipe.quantize.budget is None


def test_a_model_section_adds_to_a_name(folder: Path) -> None:
    child = write(folder / "child.yaml", "version: 1\nextends: base.yaml\nmodel: {input_size: 40}\n")
    assert (load(child).model.source, load(child).model.input_size) == ("digits", 40)


def test_null_takes_away_what_was_inherited(folder: Path) -> None:
    child = write(folder / "child.yaml", "version: 1\nextends: base.yaml\ngates: {max_drop: null}\n")
    assert load(child).gates.max_drop is None
    assert load(child).gates.max_size == 1_000_000


# ------------------------------------------------------------------------------------------------ settings


def test_settings_are_yaml(folder: Path) -> None:
    path = folder / "base.yaml"
    recipe = load(
        path,
        [
            setting("benchmark.threads=2"),
            setting("gates.max_drop=null"),
            setting("quantize.keep_float=[x, 'kind:Dense']"),
            setting("benchmark.seconds=1e1"),
            setting("model.input_size=64"),
            setting("targets.1=openvino-int8"),
        ],
    )
    assert recipe.benchmark is not None
    assert (recipe.benchmark.threads, recipe.benchmark.seconds) == (2, 10.0)
    assert recipe.gates.max_drop is None
    assert isinstance(recipe.quantize, PtqSection)
    assert recipe.quantize.keep_float == ("x", "kind:Dense")
    assert (recipe.model.source, recipe.model.input_size) == ("digits", 64)
    assert [one.target for one in recipe.targets] == ["tflite-int8", "openvino-int8"]


def test_paths_in_settings_are_relative_to_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "sub")
    recipe = load(folder / "base.yaml", [setting("calibration.images=photos")])
    assert recipe.calibration is not None
    assert recipe.calibration.images == Path("photos")


@pytest.mark.parametrize(
    ("argument", "message", "caret"),
    [
        ("quantize.efort=high", "unknown key 'efort' in 'quantize'", "| ^^^^^^^^^^^^^^"),
        ("gates.max_drop=1", "max_drop: 1: the unit is missing", "|                ^"),
        ("gates.max_drop", "not a key and a value", "| ^^^^^^^^^^^^^^"),
        ("gates..max_drop=1pp", "not a key and a value", "| ^^^^^^^^^^^^^^^"),
        ("seed.x=1", "unknown key 'x'", ""),
        ("output.x=1", "'output' is a value without keys", "| ^^^^^^^^"),
        ("targets.7=x", "'targets' has no such item", "| ^^^^^^^^^"),
        ("extends=x.yaml", "'extends' belongs to the file", "| ^^^^^^^"),
        ("output=[", "not YAML", "|         ^"),
    ],
)
def test_mistakes_in_settings_point_at_them(folder: Path, argument: str, message: str, caret: str) -> None:
    path = write(folder / "base.yaml", BASE + "output: x\n")
    with pytest.raises(RecipeError) as caught:
        load(path, [setting(argument)])
    if argument == "seed.x=1":
        assert "must be a whole number" in caught.value.message
        return
    assert caught.value.message.startswith(f"--set: {message}")
    assert caught.value.details[0] == f"| {argument}"
    assert caught.value.details[1] == caret


def test_an_option_points_at_its_value(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"^--effort: 'effort' must be fast, balanced or high, not 'slow'"):
        load(folder / "base.yaml", [option("--effort", ("quantize", "effort"), "slow")])


def test_other_targets_keep_what_is_said_of_each(folder: Path) -> None:
    path = write(
        folder / "r.yaml",
        "version: 1\nmodel: digits\ntargets:\n  - onnx-float32\n"
        "  - {target: '*-int8', effort: high}\n  - {target: tflite-int8, io_dtype: int8, budget: 2pp}\n",
    )
    planned = {one.name: one for one in resolve(load(path, targets=["tflite-*", "openvino-int8"]))}
    assert {"tflite-int8", "tflite-float32", "openvino-int8"} < planned.keys()
    assert "onnx-int8" not in planned
    assert planned["tflite-int8"].io_dtype is IoDtype.INT8
    assert planned["openvino-int8"].effort is Effort.HIGH
    assert planned["openvino-int8"].io_dtype is IoDtype.FLOAT32
    with pytest.raises(RecipeError, match="--target: unknown target 'tflite-int9'"):
        load(path, targets=["tflite-int9"])


# ----------------------------------------------------------------------------------------------- variables


def test_variables_and_defaults(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BASE.replace("photos", "${A_FOLDER:-photos}") + "output: out-${A_NAME}-$${A_NAME}\n"
    path = write(folder / "r.yaml", text)
    monkeypatch.setenv("A_NAME", "x")
    recipe = load(path)
    assert recipe.calibration is not None
    assert recipe.calibration.images == folder / "photos"
    assert recipe.output == Path("out-x-${A_NAME}")
    monkeypatch.setenv("A_FOLDER", "photos")
    monkeypatch.chdir(folder / "sub")
    recipe = load(path)
    assert recipe.calibration is not None
    assert recipe.calibration.images == Path("photos"), "a variable's path is the shell's"


def test_a_plain_variable_has_the_type_of_its_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder / "r.yaml", BASE + "seed: ${A_SEED:-5}\nevaluate: ${NOTHING:-}\n")
    assert load(path, [setting("gates.max_drop=null"), setting("quantize.budget=null")]).seed == 5
    monkeypatch.setenv("A_SEED", "many")
    with pytest.raises(RecipeError, match="'seed' must be a whole number, not 'many'"):
        load(path, [setting("gates.max_drop=null"), setting("quantize.budget=null")])


def test_a_setting_replaces_a_variable_that_is_not_set(folder: Path) -> None:
    path = write(folder / "r.yaml", BASE.replace("photos", "${NOT_SET_AT_ALL}"))
    with pytest.raises(RecipeError, match="NOT_SET_AT_ALL is not set"):
        load(path)
    assert load(path, [setting(f"calibration.images={folder / 'photos'}")]).calibration is not None


# -------------------------------------------------------------------------------------------------- matrix


def test_each_combination_is_a_run_in_a_folder_of_its_own(folder: Path) -> None:
    path = write(
        folder / "r.yaml",
        "version: 1\noutput: out\nmatrix:\n  model: [digits, {source: b0, input_size: 64}]\n"
        "  targets: [tflite-float32, ['onnx-*', tflite-float16]]\n  quantize: [{method: none}]\n",
    )
    with pytest.raises(RecipeError, match="method none makes float artifacts, not onnx-int8"):
        load_runs(path)
    path.write_text(path.read_text().replace("'onnx-*'", "'onnx-float*'"))
    runs = load_runs(path)
    assert [one.name for one in runs] == [
        "digits_tflite-float32_none",
        "digits_onnx-floatany+tflite-float16_none",
        "b0+64_tflite-float32_none",
        "b0+64_onnx-floatany+tflite-float16_none",
    ]
    assert [one.recipe.output for one in runs] == [Path("out") / one.name for one in runs]
    assert runs[2].recipe.model.input_size == 64


def test_exclude_and_equal_names(folder: Path) -> None:
    path = write(
        folder / "r.yaml",
        BASE + "matrix:\n  seed: [0, 1]\n  quantize.effort: [fast, high]\n"
        "  exclude: [{seed: 1, quantize.effort: high}]\n",
    )
    assert [one.name for one in load_runs(path)] == ["0_fast", "0_high", "1_fast"]
    path.write_text(BASE + "matrix:\n  calibration.images: [photos, sub/photos, sub/../photos]\n")
    assert [one.name for one in load_runs(path)] == ["photos", "photos-2", "photos-3"]


def test_targets_of_the_command_line_choose_among_the_runs(folder: Path) -> None:
    path = write(folder / "r.yaml", BASE + "matrix:\n  targets: [tflite-int8, [onnx-int8, onnx-float32]]\n")
    (run,) = load_runs(path, targets=["onnx-int8"])
    assert [one.name for one in resolve(run.recipe)] == ["onnx-int8"]
    with pytest.raises(UsageError, match="no run of its matrix has a target that matches openvino-int8"):
        load_runs(path, targets=["openvino-int8"])


def test_a_matrix_is_not_one_recipe(folder: Path) -> None:
    path = write(folder / "r.yaml", BASE + "matrix:\n  seed: [0, 1]\n")
    with pytest.raises(UsageError, match="has a matrix of 2 runs"):
        load(path)
    assert load(path, [setting("matrix=null")]).seed == 0


# ---------------------------------------------------------------------------------------------- per target


def test_what_holds_for_each_target(folder: Path) -> None:
    path = write(
        folder / "r.yaml",
        """\
version: 1
model: digits
io_dtype: null
quantize: {effort: fast, ranges: mse, budget: 1pp, keep_float: 'kind:Dense'}
targets:
  - {target: '*-int8', ranges: auto}
  - {target: tflite-int8, effort: high, budget: null, gates: {max_drop: null, max_p95_ms: 5}}
  - {target: onnx-int8, keep_float: [], ranges: percentile}
  - tflite-float32
gates: {max_drop: 1pp, max_size: 1MB}
""",
    )
    planned = {one.name: one for one in resolve(load(path))}
    tflite, onnx, openvino = (planned[f"{name}-int8"] for name in ("tflite", "onnx", "openvino"))
    assert (tflite.effort, tflite.ranges, tflite.budget) == (Effort.HIGH, Ranges.AUTO, None)
    assert (onnx.effort, onnx.ranges, onnx.keep_float) == (Effort.FAST, Ranges.PERCENTILE, ())
    assert openvino.keep_float == ("kind:Dense",)
    assert str(openvino.budget) == "1pp"
    assert [gate.metric for gate in tflite.gates] == ["size_bytes", "p95_ms"]
    assert [gate.metric for gate in onnx.gates] == ["drop_pp", "size_bytes"]
    plain = planned["tflite-float32"]
    assert (plain.effort, plain.ranges, plain.keep_float, plain.budget) == (
        Effort.BALANCED,
        Ranges.AUTO,
        (),
        None,
    )
