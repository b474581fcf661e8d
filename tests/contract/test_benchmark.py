"""Latency of real artifacts in real worker processes, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices import protocol
from edgefx.benchmarking.devices.local import Worker
from edgefx.benchmarking.latency import measure
from edgefx.errors import BenchmarkError
from edgefx.results import Latency
from edgefx.types import Precision

from .conftest import RecordedProgress, RecordedTask, TinyArtifacts

RUNTIMES = ("tflite", "onnx", "openvino")


@pytest.fixture(scope="module")
def artifacts(tiny_artifact: TinyArtifacts) -> dict[str, Path]:
    """One float32 artifact per runtime."""
    return {runtime: tiny_artifact(f"{runtime}-float32")[0] for runtime in RUNTIMES}


def _subjects(artifacts: dict[str, Path]) -> list[Subject]:
    return [
        Subject(key=name, path=path, precision=Precision.FLOAT32, float_key=name)
        for name, path in artifacts.items()
    ]


def _measure(subjects: list[Subject], progress: RecordedProgress | None = None) -> dict[str, Latency]:
    timing = Timing(rounds=30, warmup=3, budget_s=20)
    return measure(subjects, timing, threads=1, progress=progress or RecordedProgress())


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _is_worker(child)]


def _is_worker(child: psutil.Process) -> bool:
    try:
        return "edgefx.benchmarking.worker" in child.cmdline()
    except psutil.Error:
        return False


def test_measures_every_runtime_in_one_run(artifacts: dict[str, Path]) -> None:
    progress = RecordedProgress()
    found = _measure(_subjects(artifacts), progress)
    assert list(found) == list(artifacts)
    for latency in found.values():
        assert latency.device == "host"
        assert latency.threads == 1
        assert latency.rounds == 30
        assert 0 < latency.min_ms <= latency.p50_ms <= latency.p95_ms <= (latency.p99_ms or 0)
        assert latency.cold_start_ms > latency.min_ms
        assert 20 < latency.peak_memory_mb < 500
        assert latency.precision_ran == "float32"
        assert latency.ratio_to_float == 1.0
    assert progress.steps["latency"] == 90
    assert not _children()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_worker_never_imports_tensorflow(artifacts: dict[str, Path], runtime: str) -> None:
    code = (
        "import io, sys; from pathlib import Path; from edgefx.benchmarking.worker import serve;"
        f"answers = list(serve(Path({str(artifacts[runtime])!r}), 1, None, io.StringIO('open\\nrun 2\\n')));"
        "unwanted = {'tensorflow', 'keras', 'nncf', 'tf2onnx', 'ai_edge_quantizer'} & set(sys.modules);"
        "print(len(answers), sorted(unwanted))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "3 []"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_idle_worker_uses_no_cpu(artifacts: dict[str, Path], runtime: str) -> None:
    with Worker(artifacts[runtime], 2) as worker:
        worker.wait_ready()
        worker.open()
        worker.run(50)
        time.sleep(0.3)  # thread pools may spin for a moment
        idle = psutil.Process(worker.pid)
        before = idle.cpu_times()
        time.sleep(1.0)
        after = idle.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.1


def test_the_cold_start_leaves_out_the_import(artifacts: dict[str, Path]) -> None:
    with Worker(artifacts["openvino"], 1) as worker:
        begin = time.perf_counter()
        worker.wait_ready()
        imported = time.perf_counter()
        cold_ms = worker.open()
        opened = time.perf_counter()
    assert imported - begin > 0.1
    assert cold_ms <= (opened - imported) * 1e3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_worker_that_dies_is_named_with_its_signal(artifacts: dict[str, Path]) -> None:
    with Worker(artifacts["tflite"], 1) as worker:
        worker.wait_ready()
        worker.open()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(BenchmarkError, match=r"tiny\.tflite.*run 5.*SIGKILL"):
            worker.run(5)
    assert not _children()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_last_words_of_a_crash_are_kept(artifacts: dict[str, Path]) -> None:
    with Worker(artifacts["tflite"], 1) as worker:
        worker.wait_ready()
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(BenchmarkError, match="SIGSEGV") as caught:
            worker.open()
    assert any("Segmentation fault" in line for line in caught.value.details)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_worker_that_hangs_is_ended(artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RUN_TIMEOUT_S", 0.2)
    with Worker(artifacts["tflite"], 1) as worker:
        worker.wait_ready()
        worker.open()
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(BenchmarkError, match="did not answer 'run 1'"):
            worker.run(1)
        assert not psutil.pid_exists(worker.pid)


def test_a_damaged_artifact_does_not_take_the_others_down(artifacts: dict[str, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(artifacts["tflite"].read_bytes()[:1000])
    subjects = [Subject(key="damaged", path=damaged), Subject(key="good", path=artifacts["tflite"])]
    with pytest.raises(BenchmarkError, match=r"damaged\.tflite") as caught:
        _measure(subjects)
    assert caught.value.hint
    assert not _children()

    failures: list[tuple[str, str]] = []
    found = measure(
        subjects, Timing(rounds=5, warmup=0, budget_s=5), threads=1, progress=RecordedProgress(),
        on_failure=lambda subject, error: failures.append((subject.key, error.message)),
    )  # fmt: skip
    assert list(found) == ["good"]
    assert [key for key, _ in failures] == ["damaged"]


def test_an_interruption_leaves_no_worker_behind(artifacts: dict[str, Path]) -> None:
    class Interrupting(RecordedProgress):
        @contextmanager
        def task(self, label: str, total: int | None = None) -> Iterator[RecordedTask]:
            with super().task(label, total) as task:
                yield task
                if label == "latency":
                    assert len(_children()) == 3
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _measure(_subjects(artifacts), Interrupting())
    assert not _children()


def test_workers_end_when_their_parent_is_killed(artifacts: dict[str, Path]) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edgefx.benchmarking.devices.local import Worker;"
        f"worker = Worker(Path({str(artifacts['tflite'])!r}), 1).__enter__(); worker.wait_ready();"
        "print(worker.pid, flush=True); os._exit(9)"
    )
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 9
    pid = int(result.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)
