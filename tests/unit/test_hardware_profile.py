"""Hardware profiles: read as if anyone had written them, and what is said of forms that were not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgefx.benchmarking import forms
from edgefx.errors import UnknownNameError, UsageError
from edgefx.hardware import Form, FormTime, HardwareProfile, Role, RuntimeProfile
from edgefx.pipeline import plan as planning
from edgefx.recipe.load import parse
from edgefx.storage import hardware
from edgefx.vocabulary import Hardware


def form(
    role: Role = Role.SWISH, *, inputs: int = 16, outputs: int = 96, size: int = 56, kernel: int = 1
) -> Form:
    return Form(role=role, kernel=kernel, stride=1, inputs=inputs, outputs=outputs, height=size, width=size)


def profile_of(ratios: dict[Form, float], *, threads: tuple[int, ...] = (1, 2)) -> RuntimeProfile:
    return RuntimeProfile(
        package="onnxruntime 1.31.1",
        times=tuple(
            FormTime(form=one, threads=count, float_us=100.0, int8_us=100.0 * ratio)
            for one, ratio in ratios.items()
            for count in threads
        ),
    )


def hardware_profile(**runtimes: RuntimeProfile) -> HardwareProfile:
    return HardwareProfile(
        hardware=Hardware.ARM_DOTPROD,
        cpu="Cortex-A76",
        cores=4,
        measured="2026-11-28",
        edgefx="0.1.0",
        **runtimes,
    )


PROFILE = hardware_profile(onnx=profile_of({form(): 1.2, form(Role.GATED): 0.5}))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pi5.json"
    hardware.write(PROFILE, path)
    assert hardware.read(path) == PROFILE
    asked = hardware.resolve(str(path))
    assert (asked.hardware, asked.profile, asked.file) == (Hardware.ARM_DOTPROD, PROFILE, path)
    assert asked.sha256 is not None
    changed = replace(PROFILE, cores=3)
    assert hardware.AskedHardware(hardware=changed.hardware, profile=changed).sha256 != asked.sha256


def test_the_same_profile_is_the_same_bytes() -> None:
    assert hardware.dumps(PROFILE) == hardware.dumps(PROFILE)
    assert json.loads(hardware.dumps(PROFILE))["edgefx_hardware_profile"] == 1


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hardware.dumps(PROFILE))
    return found


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """Return a profile's document with another value at a place; of an object, None takes the key out."""
    made: Any = document()
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if to is None and isinstance(inner, dict):
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    assert isinstance(made, dict)
    return made


ROW = ("onnx", "times", 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed("edgefx_hardware_profile", to=2), "a profile of version 2"),
        (changed("edgefx_hardware_profile", to=True), "'edgefx_hardware_profile' is True"),
        (changed("edgefx_hardware_profile", to=None), "no key 'edgefx_hardware_profile'"),
        (changed("hardware", to="x86-65"), "'x86-65': known are x86-64"),
        (changed("hardware", to=["x86-64"]), "known are x86-64"),
        (changed("cpu", to="a\x1b[31mb"), "'cpu' is no text of one line"),
        (changed("cpu", to="x" * 201), "'cpu' is no text of one line"),
        (changed("cores", to=0), "cores is 0"),
        (changed("measured", to="yesterday"), "yesterday"),
        (changed("typo", to=1), "unknown key 'typo'"),
        (changed("cpu", to=None), "it lacks cpu"),
        (changed("onnx", to=None), "none of the runtimes onnx, openvino"),
        (changed("onnx", to=[]), "'onnx' is no object"),
        (changed("onnx", "times", to=[]), "'onnx' has no times"),
        (changed("onnx", "columns", to=["role"]), "the columns of 'onnx'"),
        (changed("onnx", "times", to=[document()["onnx"]["times"][0]] * 2), "two times of one form"),
        (changed(*ROW, to="row"), "onnx, row 1: expected 10 values"),
        (changed(*ROW, 0, to="sigmoid"), "onnx, row 1: role 'sigmoid'"),
        (changed(*ROW, 1, to=1.5), "onnx, row 1: kernel is 1.5"),
        (changed(*ROW, 3, to=10**9), "onnx, row 1: inputs is 1000000000"),
        (changed(*ROW, 5, to=-1), "onnx, row 1: height is -1"),
        (changed(*ROW, 7, to=True), "onnx, row 1: threads is True"),
        (changed(*ROW, 8, to=0), "onnx, row 1: float_us is 0, no duration"),
        (changed(*ROW, 9, to="1"), "onnx, row 1: int8_us is '1'"),
        ([1], "no hardware profile"),
        ("text", "no hardware profile"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        hardware.resolve(str(path))
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert "\x1b" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"edgefx_hardware_profile": 1e999}', b"9" * 10_000]
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "board.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"no JSON|no hardware profile"):
        hardware.resolve(str(path))


def test_a_file_that_is_none_or_too_large_cannot_be_read(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (hardware._MOST_BYTES + 1))
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "absent.json", "No such file"),
        (large, "larger than"),
    ):
        with pytest.raises((UsageError, UnknownNameError)) as caught:
            hardware.read(path)
        assert said.lower() in caught.value.message.lower()


def test_a_profile_decides_by_the_times_at_all_numbers_of_threads_together() -> None:
    times = (
        FormTime(form=form(), threads=1, float_us=100.0, int8_us=90.0),
        FormTime(form=form(), threads=4, float_us=30.0, int8_us=45.0),
    )
    found = RuntimeProfile(package="onnxruntime 1", times=times)
    assert found.ratio(form()) == pytest.approx(137 / 130)
    assert not found.pays(form())
    assert RuntimeProfile(package="onnxruntime 1", times=times[:1]).pays(form())


def test_a_gain_within_chance_is_none() -> None:
    assert not profile_of({form(): 0.975}).pays(form())
    assert profile_of({form(): 0.96}).pays(form())


def test_forms_between_those_measured_are_judged_by_the_nearest_of_their_role() -> None:
    found = profile_of(
        {
            form(inputs=16, outputs=96, size=112): 1.6,
            form(inputs=320, outputs=1280, size=7): 0.7,
            form(Role.GATED, inputs=16, outputs=96, size=112): 0.5,
        }
    )
    assert found.ratio(form(inputs=24, outputs=96, size=112)) == pytest.approx(1.6, rel=0.06)
    assert found.pays(form(inputs=256, outputs=1280, size=7))
    assert not found.pays(form(inputs=24, outputs=144, size=112))
    # No plain one was measured: any dense one serves.
    assert 0.5 < found.ratio(form(Role.PLAIN, inputs=24, outputs=96, size=112)) < 1.6


def test_conversions_and_depthwise_convolutions_say_nothing_of_dense_ones() -> None:
    found = profile_of({form(Role.CONVERSION): 0.1, form(Role.DEPTHWISE): 0.1, form(Role.GATED): 1.5})
    assert not found.pays(form(Role.SWISH))


def test_a_forms_work() -> None:
    one = replace(form(inputs=16, outputs=64, size=112, kernel=3), stride=2)
    assert one.positions == 56 * 56
    assert one.macs == 56 * 56 * 64 * 16 * 9
    assert one.values == 112 * 112 * 16 + 56 * 56 * 64
    assert str(one) == "3x3/2 swish 16 -> 64, 112 x 112"
    assert form(Role.DEPTHWISE, inputs=8, outputs=8, size=4, kernel=3).macs == 4 * 4 * 8 * 9
    assert form(Role.CONVERSION).macs == 0


def test_the_forms_that_are_measured_are_distinct_and_the_first_of_them_dense() -> None:
    assert len(set(forms.FORMS)) == len(forms.FORMS)
    roles = {one.role for one in forms.FORMS[: forms.FEWEST]}
    assert roles <= {Role.SWISH, Role.GATED, Role.PLAIN}
    assert {one.role for one in forms.FORMS} == set(Role)


def test_profiles_that_ship_are_of_the_class_that_they_are_named_for() -> None:
    shipped = {name: found for name in Hardware if (found := hardware.shipped(name)) is not None}
    assert shipped, "the profiles measured so far ship with edgefx"
    for name, found in shipped.items():
        assert found.hardware is name
        assert found.onnx is not None
        assert hardware.resolve(name).profile == found


def test_a_plan_takes_the_profile_for_what_can_be_left_in_float(tmp_path: Path) -> None:
    path = tmp_path / "pi5.json"
    hardware.write(PROFILE, path)
    targets = ["onnx-int8", "onnx-dynamic", "openvino-int8", "tflite-int8"]
    document = {"version": 1, "model": "digits", "targets": targets, "hardware": str(path)}
    planned = {one.name: one for one in planning.resolve(parse(document, where="test"))}
    assert {name for name, one in planned.items() if one.profile == PROFILE} == {"onnx-int8", "openvino-int8"}
    assert planned["onnx-dynamic"].hardware is Hardware.ARM_DOTPROD
    plan = planning.plan(parse(document, where="test"))
    assert plan.recipe.hardware == str(path), "a lock has the file's name, and its hash beside it"
    assert plan.hardware is not None
    assert plan.hardware.profile == PROFILE


@pytest.mark.parametrize(
    ("name", "said"),
    [("board.yaml", ".json file"), ("nowhere/board.json", "no folder"), ("notes.json", "could be replaced")],
)
def test_where_a_profile_cannot_be_written_is_said_before_it_is_measured(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(UsageError, match=said):
        hardware.check_destination(tmp_path / name)
    hardware.write(PROFILE, tmp_path / "board.json")
    hardware.check_destination(tmp_path / "board.json")
