"""The base and the wheel of one runtime, as a device or a light CI job installs them: no TensorFlow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from edgefx.data import digits
from edgefx.targets import TARGETS
from tests.e2e import installs
from tests.e2e.conftest import Finished

HEAVY = ("tensorflow", "keras", "tf_keras", "tf2onnx", "ai_edge_quantizer", "h5py")
WHEELS = {"tflite": ("ai-edge-litert",), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


@dataclass(frozen=True)
class Device:
    """An environment with one runtime, or none, and the artifacts that were brought to it."""

    runtime: str
    python: Path
    home: Path
    edgefx: installs.Commands

    @property
    def artifacts(self) -> list[Path]:
        return sorted(self.home.glob(f"run/*{_suffix(self.runtime)}"))


def _suffix(runtime: str) -> str:
    return next(row.suffix for row in TARGETS.values() if row.runtime == runtime)


@contextmanager
def _device(home: Path, runtime: str, *wheels: str) -> Iterator[Device]:
    python = installs.environment(home / "env", "edgefx", *wheels)
    installs.add_checkout(home / "env")
    with installs.commands(python, cwd=home) as edgefx:
        yield Device(runtime, python, home, edgefx)


@pytest.fixture(scope="module", params=list(WHEELS))
def device(
    request: pytest.FixtureRequest,
    everything: tuple[Finished, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Device]:
    """A device with one runtime, to which the output folder of a run has been copied."""
    home = tmp_path_factory.mktemp(request.param)
    shutil.copytree(everything[1], home / "run")
    with _device(home, request.param, *WHEELS[request.param]) as made:
        yield made


@pytest.fixture(scope="module")
def bare(everything: tuple[Finished, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A machine with the base alone."""
    home = tmp_path_factory.mktemp("bare")
    shutil.copytree(everything[1], home / "run")
    with _device(home, "", *()) as made:
        yield made


def test_it_is_as_light_as_it_says(device: Device) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {HEAVY!r} if find_spec(n)])"
    assert installs.run(device.python, "-c", code, cwd=device.home) == "[]\n"


def test_inspect(device: Device) -> None:
    assert device.artifacts
    for artifact in (path for path in device.artifacts if path.stem.endswith(("int8", "float16"))):
        found = json.loads(device.edgefx("inspect", artifact, "--json"))
        assert found["artifact"]["inputs"][0]["shape"] == [1, 32, 32, 3]


def test_evaluate_as_where_it_was_compiled(device: Device, everything: tuple[Finished, Path]) -> None:
    """Also against the float model, which cannot be run here: by the classes that the run has kept of it."""
    measured = {result["target"]: result["accuracy"] for result in everything[0].json["targets"]}
    target = f"{device.runtime}-int8"
    (artifact,) = device.home.glob(f"run/digits-int8{_suffix(device.runtime)}")
    images = digits.evaluation_folder()
    found = json.loads(device.edgefx("evaluate", artifact, images, "--baseline", "run", "--json"))
    for figure in ("top1", "baseline_top1", "drop_pp", "drop_ci95_pp", "agreement", "images"):
        assert found["comparison"][figure] == measured[target][figure], figure
    assert found["top1"] == measured[target]["top1"]
    assert found["baseline"] == "run"
    shown = device.edgefx("evaluate", artifact, images, "--baseline", "run/edgefx.lock.json")
    assert "agreement" in shown
    assert "KL" not in shown


def test_drift(device: Device, tmp_path: Path) -> None:
    """Images of one source are no drift, and darker ones are; a run's images must be its own."""
    (tmp_path / "same").mkdir()
    (tmp_path / "dark").mkdir()
    for number, path in enumerate(sorted(digits.calibration_folder().rglob("*.png"))):
        shutil.copy(path, tmp_path / "same" / f"{number}.png")
        Image.open(path).point(lambda value: value // 2).save(tmp_path / "dark" / f"{number}.png")
    target = f"{device.runtime}-int8"
    options = ("-t", target, "--reference", digits.evaluation_folder(), "--json")
    found = json.loads(device.edgefx("drift", "run", tmp_path / "same", *options))
    assert (found["target"], found["role"], found["images"]) == (target, "evaluation", 100)
    metrics = device.home / "drift.prom"
    device.edgefx("drift", "run", tmp_path / "dark", *options, "--openmetrics", metrics, expected=1)
    for test in ("brightness", "contrast"):
        assert f'edgefx_drift{{target="{target}",test="{test}"}} 1' in metrics.read_text()
    said = device.edgefx("drift", "run", tmp_path / "same", "--reference", tmp_path, expected=2)
    assert "are not those of run: missing or changed" in said


def test_what_does_not_fit_the_run_is_refused(device: Device) -> None:
    artifact, images = device.artifacts[0], digits.evaluation_folder()
    said = device.edgefx("evaluate", artifact, images, "--baseline", "run", "--resize", "crop", expected=2)
    assert "measured on images made to fit with --resize stretch" in said
    said = device.edgefx("evaluate", artifact, images, "--baseline", "run", "--weights", "random", expected=2)
    assert "--weights is for a model, and run is a run" in said
    said = device.edgefx("evaluate", artifact, digits.calibration_folder(), "--baseline", "run", expected=2)
    assert "are not those that run was measured on, though they have the same names" in said


def test_images_without_labels(device: Device, tmp_path: Path) -> None:
    """They have other names than in the run, unless the folder is laid out as it was."""
    (tmp_path / "0").mkdir()
    for image in sorted((digits.evaluation_folder() / "0").iterdir())[:3]:
        shutil.copy(image, tmp_path / image.name)
    said = device.edgefx("evaluate", device.artifacts[0], tmp_path, "--baseline", "run", expected=2)
    assert "knows none of the 3 images" in said


def test_benchmark(device: Device) -> None:
    found = json.loads(
        device.edgefx("benchmark", *device.artifacts, "--rounds", "5", "--min-seconds", "0", "--json")
    )
    assert len(found["latencies"]) == len(device.artifacts)
    assert found["failures"] == {}


def test_doctor_and_targets_tell_what_can_be_done(device: Device) -> None:
    found = json.loads(device.edgefx("doctor", "--json"))
    assert found["problems"] == []
    assert {state["target"] for state in found["targets"] if state["runs"]} == {
        row.name for row in TARGETS.values() if row.runtime == device.runtime
    }
    assert not any(state["ready"] for state in found["targets"])
    assert not any(state["ready"] for state in found["extras"])
    shown = device.edgefx("doctor")
    for extra in ("tflite", "onnx", "openvino", "train", "all"):
        assert f"not installed  pip install 'edgefx[{extra}]' for: " in shown
    assert not any(row["available"] for row in json.loads(device.edgefx("targets", "--json")))


def test_what_needs_the_framework_names_the_extra(device: Device) -> None:
    images = digits.evaluation_folder()
    said = device.edgefx("compile", "digits", "-t", f"{device.runtime}-int8", "-o", "out", expected=3)
    assert f"pip install 'edgefx[{device.runtime}]'" in said
    said = device.edgefx("evaluate", device.artifacts[0], images, "--baseline", "digits", expected=3)
    assert "pip install 'edgefx[keras]'" in said
    assert "pip install 'edgefx[keras]'" in device.edgefx("inspect", "digits", expected=3)


def test_what_needs_no_runtime(bare: Device) -> None:
    recipe = "run/digits.yaml"
    (bare.home / recipe).write_text("version: 1\nmodel: digits\ntargets: [tflite-float32]\n")
    said = installs.run(bare.python, "-m", "edgefx", "--version", cwd=bare.home)
    assert said == bare.edgefx("--version")
    bare.edgefx("recipe", "check", recipe)
    bare.edgefx("recipe", "list")
    bare.edgefx("models")
    bare.edgefx("targets")
    bare.edgefx("targets", "--passes")
    bare.edgefx("reproduce", "--help")
    bare.edgefx("cache", "info")
    found = json.loads(bare.edgefx("diff", "run", "run", "--json"))
    assert found["changes"] == []
    assert all(target["identical"] for target in found["targets"])
    assert "no runtime is installed" in bare.edgefx("doctor")


def test_a_missing_runtime_is_named_with_its_extra_and_its_wheel(bare: Device) -> None:
    for runtime, wheels in WHEELS.items():
        artifact = next(bare.home.glob(f"run/digits-int8{_suffix(runtime)}"))
        for command in ("inspect", "evaluate", "benchmark"):
            images = (digits.evaluation_folder(),) if command == "evaluate" else ()
            said = bare.edgefx(command, artifact, *images, expected=3)
            assert (
                f"pip install 'edgefx[{runtime}]'; only to run artifacts: pip install '{wheels[0]}>=" in said
            )
