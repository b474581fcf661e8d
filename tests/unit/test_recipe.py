"""Recipes: what is accepted, and what each refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefx.errors import UnknownNameError, UsageError
from edgefx.pipeline.plan import resolve
from edgefx.recipe.compose import setting
from edgefx.recipe.load import find, load, parse
from edgefx.recipe.schema import PtqSection
from edgefx.types import Effort, IoDtype, Resize

MINIMAL = {"version": 1, "model": {"source": "digits"}, "targets": ["tflite-int8"]}


def test_defaults() -> None:
    recipe = parse(MINIMAL, where="here")
    assert [one.target for one in recipe.targets] == ["tflite-int8"]
    assert recipe.io_dtype is None
    assert recipe.data.resize is Resize.STRETCH
    assert recipe.gates.gates() == ()
    assert recipe.evaluate is not None
    assert recipe.benchmark is not None


def test_one_target_may_be_a_plain_string() -> None:
    recipe = parse({**MINIMAL, "targets": "onnx-*"}, where="here")
    assert [one.target for one in recipe.targets] == ["onnx-*"]


def test_gates_carry_their_units() -> None:
    recipe = parse(
        {**MINIMAL, "gates": {"max_drop": "1.5pp", "max_p95_ms": 20, "max_size": "6MB"}}, where="here"
    )
    limits = {gate.metric: gate.limit for gate in recipe.gates.gates()}
    assert limits == {"drop_pp": 1.5, "p95_ms": 20.0, "size_bytes": 6_000_000}


def test_a_relative_drop() -> None:
    recipe = parse({**MINIMAL, "gates": {"max_drop": "0.5%"}}, where="here")
    assert [(gate.metric, gate.limit) for gate in recipe.gates.gates()] == [("drop_percent", 0.5)]


def test_effort_and_integer_only() -> None:
    assert parse(MINIMAL, where="here").effort is Effort.BALANCED
    recipe = parse({**MINIMAL, "quantize": {"effort": "high", "integer_only": True}}, where="here")
    assert isinstance(recipe.quantize, PtqSection)
    assert (recipe.effort, recipe.quantize.integer_only) == (Effort.HIGH, True)
    with pytest.raises(UsageError) as caught:
        parse({**MINIMAL, "quantize": {"effort": "extreme"}}, where="here")
    assert "'fast', 'balanced' or 'high'" in caught.value.details[0]


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse({**MINIMAL, "tragets": [], "data": {"resize": "squash"}, "io_dtype": "uint9"}, where="r.yaml")
    assert "r.yaml" in caught.value.message
    text = "\n".join(caught.value.details)
    assert "tragets" in text
    assert "data.resize" in text
    assert "io_dtype" in text


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ("uint8", (IoDtype.UINT8, IoDtype.UINT8)),
        ("input=uint8,output=float32", (IoDtype.UINT8, IoDtype.FLOAT32)),
        ("output=int8, input=uint8", (IoDtype.UINT8, IoDtype.INT8)),
        ("output=float32", (IoDtype.UINT8, IoDtype.FLOAT32)),
        ("input=int8", (IoDtype.INT8, None)),
        ("input=int8,output=int8", (IoDtype.INT8, IoDtype.INT8)),
    ],
)
def test_each_end_may_have_a_type(said: str, ends: tuple[IoDtype, IoDtype | None]) -> None:
    (target,) = resolve(parse({**MINIMAL, "targets": "tflite-int8", "io_dtype": said}, where="here"))
    assert (target.io_dtype, target.output_dtype) == ends
    assert target.last == (target.output_dtype or IoDtype.UINT8)


def test_outputs_may_be_named() -> None:
    said = "output=int8,quality=float32"
    (target,) = resolve(parse({**MINIMAL, "targets": "tflite-int8", "io_dtype": said}, where="here"))
    assert target.outputs == (("quality", IoDtype.FLOAT32),)


@pytest.mark.parametrize("said", ["uint9", "input=", "=int8", "int8,uint8", "input=int8,input=int8", ""])
def test_what_is_no_type_of_an_end(said: str) -> None:
    with pytest.raises(UsageError, match="here") as caught:
        parse({**MINIMAL, "io_dtype": said}, where="here")
    assert "io_dtype" in caught.value.details[0]


def test_a_drop_without_unit_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        parse({**MINIMAL, "gates": {"max_drop": "1"}}, where="here")
    assert "pp" in str(caught.value.details) + caught.value.message + caught.value.hint


def test_relative_paths_belong_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"")
    (tmp_path / "photos").mkdir()
    file = tmp_path / "r.yaml"
    file.write_text(
        "version: 1\nmodel: m.keras\ntargets: onnx-int8\ncalibration: {images: photos}\nio_dtype: uint8\n"
    )
    recipe = load(file)
    assert recipe.model.source == str(tmp_path / "m.keras")
    assert recipe.calibration is not None
    assert recipe.calibration.images == tmp_path / "photos"
    assert recipe.io_dtype is IoDtype.UINT8


def test_overrides_replace_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("version: 1\nmodel: {source: digits}\ntargets: [onnx-int8]\n")
    recipe = load(file, [setting("output=elsewhere")], targets=("tflite-int8",))
    assert [one.target for one in recipe.targets] == ["tflite-int8"]
    assert recipe.output == Path("elsewhere")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [", r"r.yaml:1:9: not YAML"),
        ("- a\n- b\n", "mapping"),
        ("", "mapping"),
        ("targets: []", "'version' is missing"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        load(file)


def test_not_text(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UsageError, match=r"r\.yaml:1:1: not a UTF-8 text: byte 0xff"):
        load(file)


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find("digit-demo")
    assert "digits-demo" in caught.value.hint
    with pytest.raises(UsageError, match="no such recipe file"):
        find("nowhere/x.yaml")
