"""The recipes that come with edgefx, the JSON Schema, and what is written: dumps and first recipes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from edgefx.data import digits
from edgefx.errors import UnknownNameError, UsageError
from edgefx.models.formats import name_of
from edgefx.pipeline.plan import plan, resolve
from edgefx.recipe import init
from edgefx.recipe.check import schema_file
from edgefx.recipe.dump import to_yaml
from edgefx.recipe.load import load, parse, shipped
from edgefx.recipe.schema import json_schema

WANTED = {
    "digits-demo", "digits-mcu", "b0-tflite-int8", "b0-everywhere", "b0-qat-distill", "v2-b0-edge",
    "finetuned-keras", "ci-gate",
}  # fmt: skip
AS_IT_IS = {"digits-demo", "digits-mcu", "finetuned-keras", "ci-gate"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data set: ten images of two classes, and train/ and val/ with the same."""
    folder = tmp_path / "data"
    for place, first in (("a", 0), ("b", 5), ("train/a", 10), ("train/b", 15), ("val/a", 20), ("val/b", 25)):
        (folder / place).mkdir(parents=True)
        for number, image in enumerate(
            sorted((digits.evaluation_folder() / "3").iterdir())[first : first + 5]
        ):
            shutil.copy(image, folder / place / f"{number}.png")
    return folder


# ------------------------------------------------------------------------------------------------- shipped


def test_all_are_there() -> None:
    assert set(shipped()) == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_each_can_be_planned_with_one_path(name: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFX_MODEL", raising=False)
    monkeypatch.delenv("EDGEFX_DATA", raising=False)
    if name not in AS_IT_IS:
        with pytest.raises(UsageError) as caught:
            load(shipped()[name])
        assert "EDGEFX_DATA is not set" in f"{caught.value.message} {caught.value.details}"
        monkeypatch.setenv("EDGEFX_DATA", str(images))
    recipe = load(shipped()[name])
    planned = plan(recipe)
    assert planned.targets
    assert (planned.training is not None) == (name == "b0-qat-distill")
    assert planned.evaluation is not None
    assert planned.calibration is not None


@pytest.mark.parametrize("name", sorted(WANTED))
def test_each_says_in_a_comment_how_to_run_it(name: str) -> None:
    lines = shipped()[name].read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schema.json"
    comment = " ".join(line for line in lines if line.startswith("#"))
    assert f"edgefx run {name}" in comment
    assert len(max(lines, key=len)) <= 114


# -------------------------------------------------------------------------------------------------- schema


def test_the_committed_schema_is_that_of_the_code() -> None:
    committed = json.loads(schema_file().read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(json_schema())), (
        "write it anew: python -c 'import json; from edgefx.recipe.schema import json_schema;"
        " print(json.dumps(json_schema(), indent=2))' > recipes/schema.json"
    )


def test_the_schema_is_one_and_takes_what_ships() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in shipped().values():
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert not validator.is_valid({"version": 1, "tragets": []})
    assert not validator.is_valid({"version": 1, "quantize": {"method": "ptq", "epochs": 3}})
    assert validator.is_valid({"version": 1, "extends": "base.yaml", "quantize": {"effort": "high"}})


def _keys(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    if isinstance(schema, dict):
        for name, one in schema.get("properties", {}).items():
            found.append((f"{path}.{name}", one))
        for name, value in schema.items():
            found += _keys(value, f"{path}.{name}")
    return found


def test_every_key_is_described() -> None:
    keys = _keys(json_schema())
    assert len(keys) > 40
    assert [path for path, one in keys if not one.get("description")] == []


# --------------------------------------------------------------------------------------------------- dumps


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", sorted(AS_IT_IS))
def test_a_recipe_survives_being_written(name: str, everything: bool, tmp_path: Path) -> None:
    recipe = load(shipped()[name])
    path = tmp_path / "r.yaml"
    path.write_text(to_yaml(recipe, everything=everything), encoding="utf-8")
    again = load(path)
    assert resolve(again) == resolve(recipe)
    assert again.model_dump() == recipe.model_dump()


def test_all_that_a_recipe_can_say_survives_being_written(images: Path, tmp_path: Path) -> None:
    recipe = parse(
        {
            "version": 1,
            "model": {"source": "b0", "weights": "random", "classes": 2, "input_size": 64},
            "quantize": {
                "method": "qat", "train": images / "train", "mode": "supervised", "learning_rate": 1e-5,
                "label_smoothing": 0.1, "epochs": 2,
            },
            "targets": [
                "onnx-*",
                {"target": "tflite-dynamic", "keep_float": "kind:*", "budget": "0.5%"},
                {"target": "tflite-int8", "budget": None, "gates": {"max_drop": None, "max_size": "1.5MiB"}},
            ],
            "calibration": {"images": images / "train", "samples": 4},
            "evaluate": {"images": images / "val", "limit": 3},
            "data": {"resize": "pad", "skip_bad_images": True},
            "benchmark": None,
            "gates": {"max_drop": "1pp", "max_size": "600kB"},
            "report": {"formats": ["markdown"], "files": ["out/no.md"]},
            "seed": 7,
            "output": "yes",
        },
        where="test",
    )  # fmt: skip
    path = tmp_path / "sub" / "r.yaml"
    path.parent.mkdir()
    path.write_text(to_yaml(recipe, folder=path.parent), encoding="utf-8")
    again = load(path)
    assert resolve(again) == resolve(recipe)
    assert {**again.model_dump(), "targets": ()} == {**recipe.model_dump(), "targets": ()}


def test_input_paths_are_written_relative_to_the_file(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    recipe = parse(
        {"version": 1, "model": "b0", "targets": "tflite-int8", "calibration": {"images": "data"}},
        where="test",
    )
    text = to_yaml(recipe, folder=Path("sub"))
    assert "images: ../data\n" in text
    (tmp_path / "sub" / "r.yaml").write_text(text)
    again = load(Path("sub/r.yaml"))
    assert again.calibration is not None
    assert again.calibration.images is not None
    assert again.calibration.images.resolve() == images


# ---------------------------------------------------------------------------------------------------- init


def first_recipe(model: str, folder: Path | None, file: Path) -> str:
    text = init.text(init.look(model, folder), file)
    file.write_text(text, encoding="utf-8")
    plan(load(file))
    return text


def test_init_finds_what_calibrates_and_what_is_measured_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = first_recipe("b0", Path("data"), Path("r.yaml"))
    assert "images: data/train\n" in text
    assert "images: data/val\n" in text
    assert "budget: 1pp" in text
    found = init.look("b0", images)
    assert init.told(found) == (
        f"calibration images: {images / 'train'}",
        f"evaluation images: {images / 'val'}",
    )


def test_init_with_one_folder_measures_on_what_is_left(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(images / "train")
    shutil.rmtree(images / "val")
    text = first_recipe("b0", Path("data"), Path("r.yaml"))
    assert "images: data\n" in text
    assert "# evaluate:" in text


def test_init_without_labels_sets_no_limit_on_the_drop(images: Path, tmp_path: Path) -> None:
    flat = images / "train" / "a"
    text = first_recipe("b0", flat, tmp_path / "r.yaml")
    assert "# max_drop" in text
    assert "budget" not in text


def test_init_without_images_makes_float_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = first_recipe("b0", None, tmp_path / "r.yaml")
    assert "targets: [tflite-float16]" in text
    assert "no folder of images to calibrate on" in init.told(init.look("b0", None))[0]
    assert "tflite-int8" in first_recipe("digits", None, tmp_path / "r.yaml")


def test_init_looks_beside_the_model(images: Path, tmp_path: Path) -> None:
    model = images / "my model.keras"
    model.write_bytes(b"PK\x03\x04")
    text = first_recipe(str(model), None, tmp_path / "r.yaml")
    assert str(images / "train") in text or "data/train" in text


@pytest.mark.usefixtures("images")
def test_init_takes_a_folder_to_measure_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = init.look("b0", Path("data/val"), Path("data/train"))
    assert (found.calibration, found.evaluation) == (Path("data/val"), Path("data/train"))
    text = init.text(found, Path("r.yaml"))
    assert "images: data/val\n" in text
    assert "images: data/train\n" in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no images"):
        init.look("b0", Path("data/val"), Path("empty"))


@pytest.mark.usefixtures("images")
def test_init_with_a_folder_to_measure_on_looks_for_one_to_calibrate_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "data")
    found = init.look("b0", None, Path("val"))
    assert (found.calibration, found.evaluation, found.labelled) == (Path("train"), Path("val"), True)
    # What is measured on does not calibrate, and what comes with a model stays.
    found = init.look("b0", None, Path("train"))
    assert found.calibration is None
    assert init.told(found) == (
        "no folder of images to calibrate on was found: the recipe has float targets only",
        "evaluation images: train",
    )
    text = init.text(found, Path("r.yaml"))
    assert "targets: [tflite-float16]" in text
    assert "evaluate:\n  images: train\n" in text
    found = init.look("digits", None, Path("val"))
    assert init.told(found) == ("evaluation images: val",)
    assert "targets: [tflite-int8]" in init.text(found, Path("r.yaml"))


def test_init_keeps_paths_as_they_are_typed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "far" / "elsewhere"
    elsewhere.mkdir(parents=True)
    (elsewhere / "v7-final.keras").write_bytes(b"PK\x03\x04" + bytes(8_000_000))
    Path("model.keras").symlink_to(elsewhere / "v7-final.keras")
    Path("photos").symlink_to(images / "train")
    text = first_recipe("model.keras", Path("photos"), Path("r.yaml"))
    assert "model: model.keras\n" in text
    assert "images: photos\n" in text
    Path("recipes").mkdir()
    text = first_recipe("model.keras", Path("photos"), Path("recipes/r.yaml"))
    assert "model: ../model.keras\n" in text
    assert name_of(Path("model.keras")) == "model"
    assert name_of(Path()) == tmp_path.name
    # A recipe behind a link to another folder: what is typed leads elsewhere from there.
    Path("linked").symlink_to(elsewhere)
    text = first_recipe("model.keras", Path("photos"), Path("linked/r.yaml"))
    assert "model: v7-final.keras\n" in text


def test_init_limits_the_size_to_what_int8_takes(images: Path, tmp_path: Path) -> None:
    """B0 of 4.06 M parameters: 16.2 MB as Keras saves it, 4.93 MB in INT8."""
    model = tmp_path / "model.keras"
    model.write_bytes(b"PK\x03\x04" + bytes(16_200_000))
    text = first_recipe(str(model), images, tmp_path / "r.yaml")
    assert "max_size: 7.5MB # for 16.2 MB of model.keras;" in text
    assert "max_size: 9.8MB # for 5.33 M parameters;" in first_recipe("b0", images, tmp_path / "r.yaml")
    assert load(tmp_path / "r.yaml").gates.max_size == 9_800_000


def test_init_for_the_embedded_model_fits_it(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its artifacts of 202 to 313 kB pass, and it keeps its own images."""
    monkeypatch.chdir(images)
    text = first_recipe("digits", None, tmp_path / "r.yaml")
    assert load(tmp_path / "r.yaml").gates.max_size == 390_000
    assert "\n  images:" not in text


def test_init_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'b9'"):
        init.look("b9", None)
    with pytest.raises(UsageError, match="no such model file"):
        init.look("x/y.keras", None)
    with pytest.raises(UsageError, match="no such folder"):
        init.look("b0", tmp_path / "nowhere")
