"""What the runtimes' profilers tell of real artifacts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import edgefx
from edgefx.benchmarking.devices.local import Worker
from edgefx.benchmarking.devices.remote import Remote
from edgefx.errors import BenchmarkError
from edgefx.execution import Executed
from edgefx.types import FrozenGraph, Precision

from .conftest import TinyArtifacts

RUNTIMES = ("tflite", "onnx", "openvino")


@pytest.fixture(scope="module")
def artifacts(tiny_artifact: TinyArtifacts) -> dict[str, Path]:
    """One float32 artifact per runtime."""
    return {runtime: tiny_artifact(f"{runtime}-float32")[0] for runtime in RUNTIMES}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_names_the_layers_and_the_precision(
    runtime: str, artifacts: dict[str, Path], tiny_graph: FrozenGraph
) -> None:
    found = edgefx.benchmark(
        artifacts[runtime], rounds=5, min_seconds=0, warmup=1, seconds=1, threads=1, profile=True
    )
    assert not found.failures
    profile = found.profiles[str(artifacts[runtime])]
    known = {layer.name for layer in tiny_graph.layers}
    named = {one.layer for one in profile.executed.operations}
    assert len(named & known) >= 0.9 * len(named)
    # A convolution may have the name of the activation that was fused into it.
    kinds = {layer.name for layer in tiny_graph.layers if layer.kind in ("Conv2D", "DepthwiseConv2D")}
    assert {one for one in kinds if not {one, f"{one}_activation"} & named} == set()
    assert profile.float_share + profile.conversion_share == pytest.approx(1.0)
    assert profile.int8_share == 0.0
    assert profile.operations_ms > 0
    assert profile.delegate_coverage == (1.0 if runtime == "tflite" else None)
    latency = found.latencies[str(artifacts[runtime])]
    assert (latency.float_share, latency.delegate_coverage) == (
        profile.float_share,
        profile.delegate_coverage,
    )
    assert latency.load_ms is not None
    assert latency.first_ms is not None
    assert latency.load_ms + latency.first_ms == pytest.approx(latency.cold_start_ms)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_device_is_profiled_as_this_machine_is(
    runtime: str, artifacts: dict[str, Path], device: Remote
) -> None:
    path = artifacts[runtime]
    with device.start(path, 1, Precision.FLOAT32) as runner:
        runner.wait_ready()
        raw = runner.profile(5, expected_ms=1.0)
    there = import_module(f"edgefx.runtimes.{runtime}.profiler").executed(path, raw)
    here = edgefx.benchmark(path, rounds=5, min_seconds=0, warmup=1, seconds=1, threads=1, profile=True)
    found = here.profiles[str(path)].executed
    # ONNX Runtime inserts and orders operations a little differently each time that it opens a file.
    assert {one.layer for one in there.operations} == {one.layer for one in found.operations}
    assert len(there.operations) == len(found.operations)


def test_nothing_is_profiled_unless_asked(artifacts: dict[str, Path]) -> None:
    found = edgefx.benchmark(artifacts["onnx"], rounds=5, min_seconds=0, warmup=1, seconds=1, threads=1)
    assert found.profiles == {}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_damaged_file_is_an_error_and_leaves_no_process(
    runtime: str, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    damaged = tmp_path / artifacts[runtime].name
    damaged.write_bytes(artifacts[runtime].read_bytes()[:200])
    with Worker(damaged, 1) as worker:
        worker.wait_ready()
        with pytest.raises(BenchmarkError):
            worker.profile(3, expected_ms=1.0)


def test_a_litert_of_another_interface_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefx.runtimes.tflite import collect

    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.1.0")
    with pytest.raises(RuntimeError, match=r"LiteRT 2\.1\.0 cannot be called"):
        collect.collect("x.tflite", 1, 1)


def test_no_operation_is_lost_between_the_events_and_the_file(artifacts: dict[str, Path]) -> None:
    from edgefx.runtimes.tflite import collect, profiler

    raw = collect.collect(str(artifacts["tflite"]), 1, 10)
    found: Executed = profiler.executed(artifacts["tflite"], raw)
    matched = [one for one in found.operations if one.name != one.kind]
    assert len(matched) >= 0.95 * len(found.operations)
    assert all(one.delegate == profiler.XNNPACK for one in found.operations)
