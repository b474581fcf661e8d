"""The latency worker's protocol, and what it does without a runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgefx.benchmarking.devices.local import Worker, environment
from edgefx.benchmarking.worker import memory_mb
from edgefx.errors import BenchmarkError


def test_a_file_of_no_runtime_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    with Worker(path, 1) as worker, pytest.raises(BenchmarkError, match=r"model\.bin") as caught:
        worker.wait_ready()
    assert "expected a .tflite" in caught.value.hint


def test_what_libraries_print_does_not_reach_the_protocol() -> None:
    code = (
        "import os; from edgefx.benchmarking import worker; answers = worker._claim_stdout();"
        "os.write(1, b'native noise\\n'); print('python noise', flush=True);"
        "answers.write('answer\\n'); answers.flush()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "answer\n"
    assert "native noise" in result.stderr
    assert "python noise" in result.stderr


def test_an_unopened_artifact_cannot_run(tmp_path: Path) -> None:
    code = (
        "import io, sys; from pathlib import Path; from edgefx.benchmarking import worker; "
        "import edgefx.targets as t; from dataclasses import replace;"
        "t.TARGETS['tflite-float32'] = replace(t.TARGETS['tflite-float32'], engine=('json',));"
        f"list(worker.serve(Path({str(tmp_path / 'a.tflite')!r}), 1, None, io.StringIO('run 3\\n')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "'run' before 'open'" in result.stderr


def test_peak_memory_is_this_process_not_its_parents() -> None:
    ballast = bytearray(300 * 10**6)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from edgefx.benchmarking.worker import memory_mb; print(memory_mb('VmHWM:'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 < float(result.stdout) < 200
    assert memory_mb("VmHWM:") > 300
    del ballast


def test_threads_of_children_are_limited_and_sleep_when_idle() -> None:
    env = environment(3)
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    code = "import edgefx, sys; print('ok')"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert result.stdout == "ok\n"


def test_answers_are_json_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgefx.benchmarking.worker", str(tmp_path / "x.txt"), "--threads", "1"]
    result = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert set(json.loads(result.stdout)) == {"error", "hint"}
