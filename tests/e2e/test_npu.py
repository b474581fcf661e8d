"""A real artifact through the real Vela, where that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefx import runtimes
from edgefx.npus import NPUS, NpuOptions
from tests.e2e.conftest import Finished, edgefx

pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")


def test_digits_for_every_family(everything: tuple[Finished, Path], tmp_path: Path) -> None:
    _, out = everything
    artifact = out / "digits-int8.tflite"
    for folder in ("first", "second"):
        done = edgefx(
            "npu",
            artifact,
            "-t",
            "ethos-u55-128,ethos-u65-256,ethos-u85-256",
            "-o",
            tmp_path / folder,
            "--json",
        )
        assert done.code == 0, done.stderr
    results = {one["target"]: one for one in done.json["results"]}
    assert list(results) == ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"]
    assert done.json["measured_target"] == "tflite-int8"
    assert done.json["accuracy"]["top1"] > 0.9
    for name, result in results.items():
        assert result["on_cpu"] == []
        assert 0 < result["estimate"]["inference_ms"] < 100
        assert result["estimate"]["sram_bytes"] > 10_000
        path = tmp_path / "first" / f"digits-int8-{name}.tflite"
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        metadata = runtimes.for_artifact(path).read_metadata(path)
        assert metadata is not None
        assert (metadata.target, metadata.class_names) == (name, tuple("0123456789"))


def test_every_row_has_configurations_that_vela_knows() -> None:
    from edgefx.compilers.vela import COMPILER

    for row in NPUS.values():
        said = NpuOptions(system_config=row.system_config, memory_mode=row.memory_mode)
        assert COMPILER.configure(row.name, said) == COMPILER.configure(row.name, NpuOptions())
