"""The recipe for microcontrollers as it ships: TFLM, Vela, a bundle, and a C++ compiler for the sources."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Finished, edgefx

pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")
pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    out = tmp_path_factory.mktemp("mcu") / "out"
    settings = ("--set", "quantize.effort=fast", "--set", "benchmark=null", "--set", "quantize.budget=null")
    return edgefx("run", "digits-mcu", *settings, "-o", out, "--json"), out


def test_all_limits_are_kept(run: tuple[Finished, Path]) -> None:
    done, _ = run
    assert done.code == 0, done.stderr
    found = {one["target"]: one for one in done.json["targets"]}
    assert list(found) == ["tflite-int8", "tflm-int8", "ethos-u55-128"]
    judged = {name: {gate["gate"]["metric"] for gate in one["gates"]} for name, one in found.items()}
    assert judged["tflite-int8"] == {"drop_pp", "size_bytes"}
    assert judged["tflm-int8"] == {"drop_pp", "size_bytes", "arena_bytes"}
    assert judged["ethos-u55-128"] == {"drop_pp", "size_bytes", "npu_coverage", "sram_bytes", "flash_bytes"}
    npu, mcu = found["ethos-u55-128"], found["tflm-int8"]
    assert npu["accuracy"] == found["tflite-int8"]["accuracy"], "that of what was compiled"
    assert npu["compilation"]["source_sha256"] == mcu["compilation"]["source_sha256"]
    assert sum(one["cycles"] for one in npu["compilation"]["placements"]) > 10_000
    assert {one["layer"] for one in npu["compilation"]["placements"]} >= {"stem_conv", "predictions"}


def test_tflm_computes_as_the_reference_kernels_do(run: tuple[Finished, Path]) -> None:
    done, _ = run
    (mcu,) = (one for one in done.json["targets"] if one["target"] == "tflm-int8")
    arena, parity = mcu["compilation"]["arena"], mcu["parity"]
    assert arena["needed_bytes"] < arena["bytes"] < 1.15 * arena["needed_bytes"]
    assert parity["images"] == parity["identical_to_reference"] == 360
    assert (parity["identical"] == 360) == (parity["parts_at"] == "")
    kinds = {one["name"]: one["version"] for one in mcu["compilation"]["operators"]}
    assert set(kinds) == {op["op"] for op in mcu["artifact"]["ops"]}
    assert min(kinds.values()) >= 1


def test_the_bundle_verifies_and_its_sources_compile(run: tuple[Finished, Path], tmp_path: Path) -> None:
    _, out = run
    bundle = out / "digits.edgefx.zip"
    assert edgefx("verify", bundle).code == 0
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(tmp_path)
    sources = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert sources == {path.name: path.read_bytes() for path in (out / "digits-tflm-int8").iterdir()}
    assert sorted(sources) == [
        *("labels.h", "main.cc", "model_data.cc", "model_data.h", "model_quantization.h", "model_resolver.h")
    ]
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    (tmp_path / "c" / "uses.cc").write_text('#include "labels.h"\n#include "model_quantization.h"\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-fsyntax-only"]
    subprocess.run(["g++", *flags, "model_data.cc", "uses.cc"], cwd=tmp_path / "c", check=True)
