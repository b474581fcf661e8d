"""The class of CPU that artifacts are laid out for: an input, not what happens to compile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.errors import UnknownNameError, UsageError
from edgefx.pipeline import plan as planning
from edgefx.quantization import QuantScheme
from edgefx.recipe.load import parse
from edgefx.recipe.schema import Recipe
from edgefx.runtimes.hardware import placements
from edgefx.storage import hardware
from edgefx.system import cpu, doctor
from edgefx.targets import TARGETS
from edgefx.types import IoDtype, Precision
from edgefx.vocabulary import NATIVE, Hardware

X86_CPUS = {
    "flags : sse2 avx2": Hardware.X86,
    "flags : avx2 avx512_vnni": Hardware.X86_VNNI,
    "flags : avx512_vnni amx_bf16 amx_tile amx_int8": Hardware.X86_AMX,
}


def recipe(hardware: str) -> Recipe:
    return parse(
        {
            "version": 1,
            "model": "digits",
            "targets": ["onnx-int8", "openvino-int8", "tflite-int8", "onnx-float32"],
            "hardware": hardware,
        },
        where="test",
    )


@pytest.mark.parametrize("name", list(Hardware))
def test_every_class_has_a_name_to_ask_for_it_by(name: Hardware) -> None:
    assert cpu.resolve(name.value) is name


def test_native_is_the_class_of_this_machine() -> None:
    assert cpu.resolve(NATIVE) is cpu.detect()


def test_a_profile_describes_a_device(tmp_path: Path) -> None:
    profile = tmp_path / "board.yaml"
    profile.write_text("{architecture: aarch64, features: [asimddp, i8mm]}")
    assert cpu.resolve(str(profile)) is Hardware.ARM_I8MM
    profile.write_text("architecture: x86_64\nfeatures: [avx2, avx_vnni]\n")
    assert cpu.resolve(str(profile)) is Hardware.X86_VNNI


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{architecture: 3}",
        "{features: [a]}",
        "{architecture: x, typo: 1}",
        "{a: [",
        "\x00",
        "[" * 3000 + "]" * 3000,
    ],
)
def test_what_is_no_profile_is_told(tmp_path: Path, content: str) -> None:
    profile = tmp_path / "board.yaml"
    profile.write_text(content)
    with pytest.raises(UsageError) as caught:
        cpu.resolve(str(profile))
    assert "board.yaml" in caught.value.message
    assert "architecture: aarch64" in caught.value.hint


def test_unknown_hardware_is_told_with_what_is_known() -> None:
    with pytest.raises(UnknownNameError, match="x86-64\\+vni"):
        cpu.resolve("x86-64+vni")
    with pytest.raises(UsageError, match="cannot be read"):
        cpu.resolve("nowhere.yaml")


@pytest.mark.parametrize("cpuinfo", X86_CPUS)
def test_the_machine_that_compiles_does_not_count_where_a_class_is_named(
    cpuinfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended = tmp_path / "cpuinfo"
    pretended.write_text(cpuinfo)
    monkeypatch.setattr(cpu, "_CPUINFO", pretended)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert cpu.detect() is X86_CPUS[cpuinfo]
    planned = planning.resolve(recipe("x86-64+vnni"))
    assert {target.name: target.hardware for target in planned if target.row.follows_hardware} == {
        "onnx-int8": Hardware.X86_VNNI,
        "openvino-int8": Hardware.X86_VNNI,
    }
    native = {target.name: target.hardware for target in planning.resolve(recipe(NATIVE))}
    assert native["onnx-int8"] is X86_CPUS[cpuinfo]


def test_targets_that_fit_any_cpu_are_the_same_for_all() -> None:
    for name in Hardware:
        planned = {target.name: target for target in planning.resolve(recipe(name))}
        assert planned["tflite-int8"].hardware is planned["onnx-float32"].hardware is Hardware.OTHER


def test_a_plan_has_the_class_written_out() -> None:
    """So that a lock file, which records the recipe, compiles for the same CPUs elsewhere."""
    assert planning.plan(recipe(NATIVE)).recipe.hardware == cpu.detect()


def test_the_class_is_part_of_a_conversions_key() -> None:
    from edgefx.cache import keys

    def key(hardware: Hardware) -> str:
        scheme = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8, hardware=hardware)
        row = TARGETS["onnx-int8"]
        return keys.conversion(row, scheme, name="b0", graph_sha256="graph", images="images").digest

    assert len({key(name) for name in Hardware}) == len(Hardware)


@pytest.mark.parametrize("name", list(Hardware))
def test_what_openvino_makes_of_int8_is_told_for_arm_alone(name: Hardware) -> None:
    from edgefx.runtimes.openvino import profile

    said = profile.caveat(name)
    assert (said is not None) == name.startswith("aarch64")
    assert ("cannot open it" in (said or "")) == (name is Hardware.ARM)
    assert ("float16" in profile.hint(name)) == (name is Hardware.ARM)


def test_doctor_calls_nothing_ready_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where edgefx itself is not, whose metadata names what it needs."""
    monkeypatch.setattr(doctor, "is_installed", lambda module: module == "onnxruntime")
    found = doctor.examine((), deep=False)
    assert not any(state.ready for state in found.targets)
    assert not any(state.runs for state in found.targets)


def test_what_artifacts_are_laid_out_by_is_told() -> None:
    told = {name: placements(name, hardware.shipped(name)) for name in Hardware}
    assert set(told[Hardware.X86]) == {"onnx-int8", "openvino-int8"}
    profile = hardware.shipped(Hardware.X86)
    assert profile is not None
    assert profile.onnx is not None
    assert told[Hardware.X86]["onnx-int8"] == (
        f"the profile of {profile.cpu}, measured on {profile.measured} with {profile.onnx.package}"
    )
    assert set(told[Hardware.X86_AMX].values()) == {"the built-in table of x86-64+amx"}
    unknown = "the built-in table of x86-64+vnni: nothing was measured of aarch64+i8mm"
    assert set(told[Hardware.ARM_I8MM].values()) == {unknown}
    only_onnx = replace(profile, openvino=None)
    assert "built-in table" in placements(Hardware.X86, only_onnx)["openvino-int8"]
