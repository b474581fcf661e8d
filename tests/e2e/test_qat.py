"""Quantization-aware training through the command line, on the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefx.data import digits

from .conftest import in_process

pytestmark = pytest.mark.usefixtures("digits_once")


def test_one_training_serves_all_runtimes_and_is_not_repeated(tmp_path: Path) -> None:
    recipe = tmp_path / "qat.yaml"
    recipe.write_text(
        f"""
version: 1
model: digits
quantize:
  method: qat
  effort: fast
  train: {digits.calibration_folder()}
  epochs: 3
  augment: false  # mirrored digits are no digits
targets: [tflite-int8, onnx-int8, openvino-int8]
benchmark: null
gates: {{max_drop: 1pp}}
output: {tmp_path / "out"}
""",
        encoding="utf-8",
    )
    env = {"EDGEFX_CACHE_DIR": str(tmp_path / "cache"), "EDGEFX_CACHE_SIZE": "1GB"}
    first = in_process("run", recipe, "--json", env=env)
    assert first.code == 0, first.stderr
    training = first.json["training"]
    assert training["images"] + training["validated"] == 100
    assert [epoch["number"] for epoch in training["epochs"]] == [0, 1, 2, 3]
    losses = [epoch["validation_loss"] for epoch in training["epochs"]]
    assert training["best"] == losses.index(min(losses))
    assert [data["role"] for data in first.json["data"]] == ["calibration", "training", "evaluation"]
    by_name = {result["target"]: result for result in first.json["targets"]}
    assert by_name["tflite-int8"]["artifact"]["compute_float"] == 0
    for name, result in by_name.items():
        assert result["accuracy"]["agreement"] >= 0.99
        effect = result["training"]
        assert (effect is None) == (name == "tflite-int8" or not training["best"])
        if effect is not None:
            assert effect["images"] == training["validated"]
    plain = in_process(
        "compile", "digits", "-t", "tflite-int8", "--effort", "fast", "--no-benchmark", "--json",
        "-o", tmp_path / "plain", env=env,
    )  # fmt: skip
    untrained = plain.json["targets"][0]["accuracy"]
    assert by_name["tflite-int8"]["accuracy"]["top1"] >= untrained["top1"]

    again = in_process("run", recipe, "--json", "--set", "gates.max_drop=2pp", env=env)
    assert again.code == 0, again.stderr
    assert again.json["training"] == training
    files = [[file["sha256"] for file in result["artifact"]["files"]] for result in again.json["targets"]]
    assert files == [[file["sha256"] for file in by_name[name]["artifact"]["files"]] for name in by_name]
    assert not [one for one in again.json["timings"] if one["stage"] == "convert"]
    lock = json.loads((tmp_path / "out" / "edgefx.lock.json").read_text(encoding="utf-8"))
    assert {data["role"] for data in lock["data"]} == {"calibration", "training", "evaluation"}
