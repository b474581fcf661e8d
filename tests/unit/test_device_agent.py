"""What a device is asked and answers, over a pipe to a process of this machine: the same scripts."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edgefx import runtimes
from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices import agent, link, runner
from edgefx.benchmarking.devices.link import BOOTSTRAP
from edgefx.benchmarking.devices.remote import Remote
from edgefx.benchmarking.latency import measure
from edgefx.errors import (
    BenchmarkError,
    DeviceDependencyError,
    DeviceError,
    DiskFullError,
    ExitCode,
)
from edgefx.protocols import SILENT
from tests import tiny_onnx

SCRIPTS = (Path(agent.__file__), Path(runner.__file__))
PYTHON = (sys.executable, "-c", BOOTSTRAP)


def _device(folder: Path, command: Sequence[str] = PYTHON) -> Remote:
    return Remote("device", command, explain=lambda _code, _lines: None, folder=str(folder))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _wait(until: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not until() and time.monotonic() < deadline:
        time.sleep(0.02)
    return until()


def _processes(device: Remote) -> list[psutil.Process]:
    started = psutil.Process(device._link.process.pid)
    return [started, *started.children(recursive=True)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_is_sent_to_a_device_is_python_3_9_and_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {*sys.stdlib_module_names, "numpy"}
    zips = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "strict"]
    assert not zips, "zip(strict=) is of Python 3.10"
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


def test_a_python_that_is_too_old_says_so() -> None:
    old = BOOTSTRAP.replace("(3,9)", "(99,)")
    done = subprocess.run([sys.executable, "-c", old], input="", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.")


def test_a_device_answers_bit_by_bit_what_this_machine_does(tmp_path: Path) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    images = tiny_onnx.pixels(40)
    with (
        runtimes.for_artifact(path).open_session(path, threads=1) as here,
        _device(tmp_path / "device") as device,
        device.open_session(path, threads=1) as there,
    ):
        assert there.infer(images).tobytes() == here.infer(images).tobytes()
        assert there.precision_ran == here.precision_ran
        assert there.input_spec == here.input_spec
        assert there.images == 40
        assert 0 < there.seconds < 5
        assert device.environment.packages["numpy"] == np.__version__


def test_latency_is_measured_there_as_here(tmp_path: Path) -> None:
    paths = [tiny_onnx.write(tmp_path / f"{name}.onnx", seed=n) for n, name in enumerate(("one", "other"))]
    subjects = [Subject(key=path.stem, path=path, float_key="one") for path in paths]
    with _device(tmp_path / "device") as device:
        timing = Timing(rounds=40, warmup=2, budget_s=60, max_noise=99)
        found = measure(subjects, timing, threads=1, progress=SILENT, device=device)
        assert len(_processes(device)) == 1
    for latency in found.values():
        assert latency.device == "device"
        assert latency.rounds == 40
        assert 0 < latency.min_ms <= latency.p50_ms <= latency.p95_ms <= (latency.p99_ms or 0)
        assert 20 < latency.peak_memory_mb < 300
    assert found["other"].ratio_ci95 is not None


def test_files_are_copied_once_and_used_again(tmp_path: Path) -> None:
    path, folder = tiny_onnx.write(tmp_path / "tiny.onnx"), tmp_path / "device"
    kept = []
    for _ in range(2):
        with _device(folder) as device, device.open_session(path, threads=1) as session:
            session.infer(tiny_onnx.pixels(3))
        kept.append({name: (folder / name).stat().st_ino for name in _files(folder)})
    assert kept[0] == kept[1]
    assert sorted(name.rpartition("/")[2] for name in kept[0]) == ["model.onnx", "pixels.npy"]


def test_what_was_changed_there_is_never_run(tmp_path: Path) -> None:
    path, folder = tiny_onnx.write(tmp_path / "tiny.onnx"), tmp_path / "device"
    with _device(folder) as device, device.open_session(path, threads=1):
        pass
    (stale,) = folder.rglob("model.onnx")
    stale.write_bytes(stale.read_bytes()[:-100])
    with _device(folder) as device, device.open_session(path, threads=1):
        pass
    assert stale.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["it's $(touch oops) `x`.onnx", 'a "b"\\ c;&|.onnx', "ä\nb.onnx"])
def test_names_of_files_mean_nothing_there(tmp_path: Path, name: str) -> None:
    path, folder = tiny_onnx.write(tmp_path / name), tmp_path / "a $(touch oops) 'folder'"
    with _device(folder) as device, device.open_session(path, threads=1) as session:
        assert session.infer(tiny_onnx.pixels(2)).shape == (2, 10)
    assert [file.rpartition("/")[2] for file in _files(folder) if "pixels" not in file] == ["model.onnx"]
    assert not list(tmp_path.rglob("oops"))


def test_weights_beside_a_file_keep_the_name_that_it_calls_them_by(tmp_path: Path) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx", external="weights of it.bin")
    with _device(tmp_path / "device") as device, device.open_session(path, threads=1) as session:
        assert session.infer(tiny_onnx.pixels(1)).shape == (1, 10)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "..", "", "a/../../out"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with _device(tmp_path / "in" / "device") as device, pytest.raises(DeviceError, match="no name of a file"):
        device._link.request("put", key=name, name="x", size=1, sha256="")
    assert not list(tmp_path.rglob("out"))


def test_what_arrives_with_another_content_is_not_kept(tmp_path: Path) -> None:
    with _device(tmp_path / "device") as device:
        with pytest.raises(DeviceError, match="another content"):
            device._link.put("key", "x", (tmp_path / "x").open("wb+"), 0, "0" * 64)
        assert device.keep(b"good", "x") == hashlib.sha256(b"good").hexdigest()
    assert list(_files(tmp_path / "device").values()) == [b"good"]


def test_a_full_disk_there_is_said_and_the_connection_goes_on(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk: writing fails just so, half-way through."""
    small = ("sh", "-c", 'ulimit -f 100; exec "$0" "$@"', *PYTHON)
    large = tiny_onnx.write(tmp_path / "large.onnx", hidden=1000)
    little = tiny_onnx.write(tmp_path / "little.onnx")
    with _device(tmp_path / "device", small) as device:
        with (
            pytest.raises(DiskFullError, match="device: no room") as caught,
            device.open_session(large, threads=1),
        ):
            pass
        assert "--device-dir" in caught.value.hint
        assert _files(tmp_path / "device") == {}
        with device.open_session(little, threads=1):
            pass


def test_a_file_larger_than_what_is_free_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with _device(tmp_path / "device") as device, pytest.raises(DiskFullError):
        device._link.request("put", key="key", name="x", size=1 << 60, sha256="")
    assert _files(tmp_path / "device") == {}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="file") as caught, _device(tmp_path / "file" / "device"):
        pass
    assert "--device-dir" in caught.value.hint


def test_a_missing_runtime_is_named_with_what_to_run(tmp_path: Path) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "onnxruntime.py").write_text("raise ModuleNotFoundError('No module onnxruntime')")
    lacking = ("env", f"PYTHONPATH={tmp_path / 'lacking'}", *PYTHON)
    with (
        _device(tmp_path / "device", lacking) as device,
        pytest.raises(DeviceDependencyError, match="onnxruntime cannot be imported") as caught,
        device.open_session(path, threads=1),
    ):
        pass
    assert caught.value.exit_code is ExitCode.MISSING_DEPENDENCY
    assert f"{sys.executable} -m pip install onnxruntime numpy" in caught.value.hint


def test_a_file_that_a_runtime_there_refuses_is_named_with_both_versions(tmp_path: Path) -> None:
    """As an older one does, which does not know the file's operators; here, an operator of nobody."""
    import onnx

    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    model.graph.node[2].op_type = "Futuristic"
    onnx.save(model, path)
    with (
        _device(tmp_path / "device") as device,
        pytest.raises(BenchmarkError, match=r"onnxruntime [\d.]+ there refuses it:.*Futuristic") as caught,
        device.open_session(path, threads=1),
    ):
        pass
    assert "this machine has onnxruntime" in caught.value.hint
    assert caught.value.exit_code is ExitCode.STAGE_FAILED


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGILL, "illegal instruction")]
)
def test_a_runner_that_dies_takes_nothing_with_it(tmp_path: Path, number: signal.Signals, said: str) -> None:
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    with _device(tmp_path / "device") as device:
        with device.start(path, 1) as doomed:
            doomed.wait_ready()
            _processes(device)[-1].send_signal(number)
            with pytest.raises(BenchmarkError, match=said):
                doomed.open()
        with device.start(path, 1) as fine:
            fine.wait_ready()
            assert fine.open() > 0


def test_a_login_script_that_prints_is_borne(tmp_path: Path) -> None:
    talkative = ("sh", "-c", 'echo "Welcome to Device OS"; echo; exec "$0" "$@"', *PYTHON)
    with _device(tmp_path / "device", talkative) as device:
        assert device.environment.cores >= 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_nothing_stays_when_the_other_end_is_killed(tmp_path: Path, busy: bool) -> None:
    """Also in the middle of an inference that would go on for long, and of a file."""
    path = tiny_onnx.write(tmp_path / "tiny.onnx")
    with _device(tmp_path / "device") as device, device.start(path, 1) as running:
        running.wait_ready()
        running.open()
        if busy:
            device._link.send(json.dumps(_ask(0, "run 100000000")).encode() + b"\n")
            time.sleep(0.2)
        processes = _processes(device)
        assert len(processes) == 2
        assert device._link.process.stdin is not None
        device._link.process.stdin.close()  # what the system does with the pipe of a killed process
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
        with pytest.raises(DeviceError, match="the connection ended"):
            device._link.request("have", key="x", files={})


def test_a_device_that_comes_back_after_a_while_says_that_it_was_not_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_RETRY_S", 0.05)
    away = tmp_path / "away"
    command = ("sh", "-c", 'if rm "$0" 2> /dev/null; then exit 1; fi; exec "$@"', str(away), *PYTHON)
    with _device(tmp_path / "device", command) as device:
        away.write_text("")
        device._link.process.kill()
        with pytest.raises(DeviceError, match="the connection ended") as caught:
            device._link.request("have", key="x", files={})
    assert "it was not restarted" in caught.value.hint
    assert not away.exists()


def test_one_that_stays_away_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_RETRY_S", 0.05)
    monkeypatch.setattr(link, "_RETURN_S", 0.1)
    away = tmp_path / "away"
    command = ("sh", "-c", 'test -e "$0" && exit 1; exec "$@"', str(away), *PYTHON)
    with _device(tmp_path / "device", command) as device:
        away.write_text("")
        device._link.process.kill()
        with pytest.raises(DeviceError, match="the connection ended") as caught:
            device._link.request("have", key="x", files={})
    assert "see that it was not restarted" in caught.value.hint


def test_a_file_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    with _device(tmp_path / "device") as device:
        device._link.request("put", key="key", name="x", size=10**6, sha256="")
        device._link.send(b'{"do": "data", "bytes": 1000}\n' + bytes(500))
        assert _wait(lambda: bool(_files(tmp_path / "device")))
    assert _files(tmp_path / "device") == {}


def test_a_killed_agent_leaves_a_part_that_the_next_one_removes(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with _device(folder) as device:
        device._link.request("put", key="key", name="x", size=10**6, sha256="")
        device._link.process.kill()
    (part,) = folder.glob("*.part")
    with _device(folder):
        assert part.exists(), "whether its writer is alive is not asked within the first minute"
    os.utime(part, (1, 1))
    with _device(folder):
        assert not part.exists()


def test_a_part_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with _device(folder) as slow:
        slow._link.request("put", key="key", name="x", size=10**6, sha256="")
        (part,) = folder.glob("*.part")
        os.utime(part, (1, 1))
        with _device(folder):
            assert part.exists()


def test_what_is_long_unused_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with _device(folder) as device:
        old, recent = device.keep(b"old", "x"), device.keep(b"recent", "x")
    os.utime(folder / old, (1, 1))
    with _device(folder):
        pass
    assert list(_files(folder)) == [f"{recent}/x"]


def test_an_agent_ends_when_it_hears_nothing() -> None:
    """A cable that is pulled closes no connection."""
    script = Path(agent.__file__).read_bytes().replace(b"SILENCE_S = 60.0", b"SILENCE_S = 0.5")
    started = subprocess.Popen(PYTHON, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin is not None
    assert started.stdout is not None
    started.stdin.write(b'%d\n%s""\n' % (len(script), script))
    started.stdin.flush()
    assert started.stdout.readline().decode().strip() == agent.HELLO
    assert started.wait(timeout=10) == 0
    started.stdin.close()
    started.stdout.close()


def test_two_clients_at_once(tmp_path: Path) -> None:
    path, folder = tiny_onnx.write(tmp_path / "tiny.onnx"), tmp_path / "device"
    images = tiny_onnx.pixels(5)
    with (
        _device(folder) as one,
        _device(folder) as other,
        one.open_session(path, threads=1) as first,
        other.open_session(path, threads=1) as second,
    ):
        assert first.infer(images).tobytes() == second.infer(images).tobytes()
    assert len(_files(folder)) == 2


def test_what_is_no_agent_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(DeviceError, match=r"connection ended \(exit code 3\)"),
        _device(tmp_path, ("sh", "-c", "exit 3")),
    ):
        pass


def _ask(number: int, request: str) -> dict[str, Any]:
    return {"do": "ask", "runner": number, "request": request, "timeout_s": 600}
