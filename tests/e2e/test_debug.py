"""`edgefx debug` as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import in_process

pytestmark = pytest.mark.usefixtures("digits_once")


def test_debug_prints_one_json_document_and_writes_the_plot(tmp_path: Path) -> None:
    plot = tmp_path / "layers.html"
    run = in_process(
        "debug", "digits", "--target", "tflite-int8", "--images", "20", "--plot", plot, "--json", cwd=tmp_path
    )
    assert run.code == 0, run.stderr
    report = run.json
    assert report["model"]["name"] == "digits"
    assert report["images"] == 20
    (found,) = report["targets"]
    assert found["target"] == "tflite-int8"
    assert found["broken"] == "nothing"
    assert found["verdict"].startswith("nothing is broken")
    assert [step["step"] for step in found["steps"]] == [
        "canonical graph", "converted float", "quantized simulation", "artifact",
    ]  # fmt: skip
    assert found["steps"][-1]["total"]["agreement"] >= 0.95
    stem = next(row for row in found["layers"] if row["layer"] == "stem_conv")
    assert stem["quantized"] == "weights+output"
    assert stem["sqnr_db"] > 10
    assert stem["low"] < 0 < stem["high"]
    assert stem["alone_mean_kl"] >= 0
    assert "<svg" in plot.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["layers.html"]


def test_after_a_compilation_nothing_is_converted_again(tmp_path: Path) -> None:
    env = {"EDGEFX_CACHE_DIR": str(tmp_path / "cache"), "EDGEFX_CACHE_SIZE": "1GB"}
    targets = ("-t", "tflite-float32,tflite-int8", "--effort", "fast")
    compiled = in_process(
        "compile", "digits", *targets, "--no-benchmark", "-o", tmp_path / "out", "--json", env=env
    )
    assert compiled.code == 0, compiled.stderr
    lock = json.loads((tmp_path / "out/edgefx.lock.json").read_text())
    files = {one["target"]: one["content"][0] for one in lock["targets"]}

    def conversions(*options: str) -> list[str]:
        done = in_process("debug", "digits", *options, "--images", "5", "--json", env=env, cwd=tmp_path)
        assert done.code == 0, done.stderr
        examined = {one["target"]: one["artifact"]["files"][0]["sha256"] for one in done.json["targets"]}
        assert options[-1] != "fast" or examined == files
        return [line for line in done.stderr.splitlines() if line.startswith("convert ") and "done" in line]

    assert conversions(*targets) == []
    (again,) = conversions("-t", "tflite-int8", "--effort", "balanced")
    assert again.startswith("convert tflite-int8")
