"""Throughput of real artifacts: several images at once, several inferences at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgefx
from edgefx.benchmarking import throughput
from edgefx.errors import UsageError
from tests import tiny_onnx


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_SECONDS", 0.04)


def _openvino(path: Path) -> Path:
    import openvino as ov

    ov.save_model(ov.convert_model(path), path.with_suffix(".xml"))
    return path.with_suffix(".xml")


def test_a_free_batch_is_filled(tmp_path: Path) -> None:
    free = tiny_onnx.write(tmp_path / "free.onnx", free_batch=True)
    files = [free, _openvino(free)]
    found = edgefx.benchmark(files, rounds=5, min_seconds=0, threads=1, batch=[1, 4])
    assert list(found.throughputs) == [str(path) for path in files]
    for path in files:
        one, four = found.throughputs[str(path)]
        assert [(each.batch, each.streams, each.threads) for each in (one, four)] == [(1, 1, 1), (4, 1, 1)]
        for each in (one, four):
            assert 0 < each.slowest_per_s <= each.images_per_s <= each.fastest_per_s
            assert 0 < each.cpu_utilization <= 1.1
    assert not found.failures
    assert not found.notes


def test_a_fixed_batch_is_said(tmp_path: Path) -> None:
    fixed = tiny_onnx.write(tmp_path / "fixed.onnx")
    found = edgefx.benchmark(fixed, rounds=5, min_seconds=0, threads=1, batch=[1, 4])
    assert [one.batch for one in found.throughputs[str(fixed)]] == [1]
    assert found.notes == (
        f"{fixed}: cannot be measured: its batch is fixed at 1: it does not run 4 images at once",
    )


def test_streams_share_the_cores_unless_told(tmp_path: Path) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    cores = edgefx.benchmark(path, rounds=5, min_seconds=0, streams=[1, 2])
    (one, two), told = cores.throughputs[str(path)], cores.environment.cores
    assert (one.streams, one.threads) == (1, told)
    assert (two.streams, two.threads) == (2, max(1, told // 2))


@pytest.mark.parametrize("asked", [{"batch": 0}, {"streams": [1, 0]}])
def test_nothing_at_once_is_refused(tmp_path: Path, asked: dict[str, object]) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    with pytest.raises(UsageError):
        edgefx.benchmark(path, **asked)  # type: ignore[arg-type]
