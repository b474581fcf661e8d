"""Each extra is enough for what it is for: its environment has nothing else, and compiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefx.data import digits
from tests.e2e import installs

_OTHERS = {
    "tflite": ("onnx", "onnxruntime", "openvino", "tensorflow_model_optimization"),
    "onnx": ("ai_edge_litert", "ai_edge_quantizer", "openvino"),
    "openvino": ("ai_edge_litert", "ai_edge_quantizer", "onnx", "onnxruntime"),
    "train": ("onnx", "onnxruntime", "openvino"),
}


@pytest.mark.parametrize("extra", list(_OTHERS))
def test_an_extra_compiles_for_its_runtime(extra: str, tmp_path: Path) -> None:
    python = installs.environment(tmp_path / "env", f"edgefx[{extra}]")
    installs.add_checkout(tmp_path / "env")
    code = f"from importlib.util import find_spec; print([n for n in {_OTHERS[extra]!r} if find_spec(n)])"
    assert installs.run(python, "-c", code, cwd=tmp_path) == "[]\n"
    options: list[str] = ["--target", f"{extra}-int8", "--rounds", "5", "--min-seconds", "0"]
    if extra == "train":
        options = ["--target", "tflite-int8", "--qat", "distill", "--epochs", "1", "--no-benchmark"]
        options += ["--train", str(digits.calibration_folder())]
    options += ["--effort", "fast"]
    with installs.commands(python, cwd=tmp_path) as edgefx:
        out = edgefx("compile", "digits", *options, "-o", "out", "--json")
        doctor = json.loads(edgefx("doctor", "--json"))
    (target,) = json.loads(out)["targets"]
    assert target["failure"] is None
    assert target["accuracy"]["agreement"] >= 0.97
    if extra != "train":
        assert {state["target"].partition("-")[0] for state in doctor["targets"] if state["ready"]} == {extra}
        assert doctor["problems"] == []
