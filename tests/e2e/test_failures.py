"""Bad input and bad luck: each a clear error with its exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefx.cli import run
from edgefx.data import digits
from tests.contract.models_zoo import save_block

from .conftest import Finished, edgefx

pytestmark = pytest.mark.usefixtures("own_cache", "digits_once")

Call = Callable[..., Finished]
FAST = ("--target", "tflite-float32", "--no-benchmark")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run `edgefx` in this process: TensorFlow is imported once for all of these tests."""

    def call(*arguments: str | Path) -> Finished:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Finished(code, captured.out, captured.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A labelled folder: ten classes, three images each."""
    folder = tmp_path / "photos"
    for source in sorted(digits.evaluation_folder().iterdir()):
        (folder / source.name).mkdir(parents=True)
        for image in sorted(source.iterdir())[:3]:
            shutil.copy(image, folder / source.name)
    return folder


def test_corrupt_images_are_named_and_may_be_skipped(call: Call, photos: Path, tmp_path: Path) -> None:
    bad = photos / "3" / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    out = tmp_path / "out"
    refused = call("compile", "digits", *FAST, "--eval", photos, "-o", out)
    assert refused.code == 2
    assert str(bad) in refused.stderr
    assert "--skip-bad-images" in refused.stderr
    assert not out.exists()
    skipped = call("compile", "digits", *FAST, "--eval", photos, "-o", out, "--skip-bad-images", "--json")
    assert skipped.code == 0
    evaluation = next(entry for entry in skipped.json["data"] if entry["role"] == "evaluation")
    assert evaluation["images"] == 30
    assert evaluation["skipped"] == 1
    assert any("broken.png" in warning for warning in skipped.json["warnings"])


def test_pixels_already_divided_by_255(call: Call, tmp_path: Path) -> None:
    from PIL import Image

    for label in map(str, range(10)):
        (tmp_path / "dark" / label).mkdir(parents=True)
        source = next((digits.evaluation_folder() / label).iterdir())
        Image.open(source).point(lambda value: value // 255).save(tmp_path / "dark" / label / "a.png")
    done = call("compile", "digits", *FAST, "--eval", tmp_path / "dark", "-o", tmp_path / "out")
    assert done.code == 2
    assert "[0, 255]" in done.stderr


def test_labels_outside_the_classes(call: Call, photos: Path, tmp_path: Path) -> None:
    (photos / "eleven").mkdir()
    shutil.copy(next((photos / "0").iterdir()), photos / "eleven" / "x.png")
    done = call("compile", "digits", *FAST, "--eval", photos, "-o", tmp_path / "out")
    assert done.code == 2
    assert "11" in done.stderr
    assert "10" in done.stderr


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x89HDF\r\n\x1a\n truncated", b"hello"])
def test_corrupt_models(call: Call, tmp_path: Path, name: str, content: bytes) -> None:
    model = tmp_path / name
    model.write_bytes(content)
    done = call("compile", model, *FAST, "-o", tmp_path / "out")
    assert done.code == (2 if content in (b"", b"hello") else 4)
    assert str(model) in done.stderr
    assert "bug" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_model(call: Call, tmp_path: Path) -> None:
    done = call("compile", tmp_path / "none.keras", *FAST, "-o", tmp_path / "out")
    assert done.code == 2
    assert "none.keras" in done.stderr


def test_no_image_classifier(call: Call, tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((7,))
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).save(tmp_path / "mlp.keras")
    done = call("compile", tmp_path / "mlp.keras", *FAST, "-o", tmp_path / "out")
    assert done.code == 4
    assert "image" in done.stderr


def test_one_target_fails_and_the_others_finish(call: Call, tmp_path: Path) -> None:
    # A folder that has the artifact's name cannot be replaced: this target alone fails, at the very end.
    (tmp_path / "digits-float32.onnx" / "occupied").mkdir(parents=True)
    done = call(
        "compile",
        "digits",
        "--target",
        "onnx-float32,tflite-float32",
        "-o",
        tmp_path,
        "--no-benchmark",
        "--json",
    )
    assert done.code == 4
    results = {result["target"]: result for result in done.json["targets"]}
    assert results["tflite-float32"]["failure"] is None
    assert results["tflite-float32"]["accuracy"]["agreement"] == 1.0
    assert results["onnx-float32"]["failure"]["stage"] == "convert"
    assert results["onnx-float32"]["artifact"] is None
    assert json.loads((tmp_path / "report.json").read_text())["targets"][1] == done.json["targets"][1]
    assert not list(tmp_path.glob(".edgefx-*"))


def test_a_failing_gate_keeps_the_artifact(call: Call, tmp_path: Path) -> None:
    done = call(
        "compile", "digits", *FAST, "--max-size", "1kB", "--max-drop", "2pp", "-o", tmp_path, "--json"
    )
    assert done.code == 1
    gates = {gate["gate"]["metric"]: gate["verdict"] for gate in done.json["targets"][0]["gates"]}
    assert gates == {"size_bytes": "FAIL", "drop_pp": "PASS"}
    assert (tmp_path / "digits-float32.tflite").stat().st_size > 1000


def test_unlabelled_images_measure_agreement(call: Call, photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for label in "012":
        for image in (photos / label).iterdir():
            shutil.copy(image, flat)
    done = call("compile", "digits", *FAST, "--eval", flat, "-o", tmp_path / "out", "--json")
    assert done.code == 0
    accuracy = done.json["targets"][0]["accuracy"]
    assert accuracy["top1"] is None
    assert accuracy["drop_pp"] is None
    assert accuracy["agreement"] == 1.0
    assert accuracy["mean_kl"] < 1e-6


def test_imagenet_weights_without_internet(tmp_path: Path) -> None:
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = edgefx(
        "compile", "b0", *FAST, "-o", tmp_path / "out", env={**nowhere, "KERAS_HOME": str(tmp_path / "keras")}
    )
    assert done.code == 4, done.stderr
    assert "--weights random" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", ["tflite-int8", "tflite-int8,onnx-int8"])
def test_a_full_disk(call: Call, tmp_path: Path, targets: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        flags = ("--effort", "fast", "--no-benchmark", "--no-cache", "-o", disk / "out")
        done = call("compile", "digits", "-t", targets, *flags)
        assert done.code == 4
        assert "no space left" in done.stderr
        assert "onnx-int8" not in done.stderr, "nothing more is made on a full disk"
        assert {path.name for path in disk.rglob("*") if path.is_file()} <= {"edgefx.log"}
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_block(tmp_path_factory.mktemp("block"))


@pytest.mark.parametrize(
    ("sign", "number"),
    [
        pytest.param("out/.edgefx-*", signal.SIGINT, id="loading"),
        pytest.param("edgefx-*/graph.pb", signal.SIGTERM, id="converting"),
        pytest.param("out/block-int8.tflite", signal.SIGINT, id="second-target"),
    ],
)
def test_interrupted(block: Path, tmp_path: Path, sign: str, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM as soon as the file `sign` shows how far the run is."""
    out = tmp_path / "out"
    images = ("--calib", digits.calibration_folder(), "--eval", digits.evaluation_folder())
    flags = ("-t", "tflite-int8,onnx-int8", "--effort", "fast", "--no-cache", "-o", out)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgefx", "compile", block, *images, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    while not list(tmp_path.glob(sign)) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    code, word = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}[number]
    assert process.returncode == code, rest
    assert word in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.glob("edgefx-*"))
    assert not list(tmp_path.glob("out/.edgefx-*"))
    assert {path.name for path in out.glob("*")} <= {"block-int8.tflite", "block-int8.onnx"}
