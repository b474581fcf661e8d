"""Artifacts run and timed over SSH: a real OpenSSH server on loopback, and the system's own client."""

from __future__ import annotations

import csv
import io
import json
import signal
import socket
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgefx
from edgefx.benchmarking import forms
from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.remote import Remote
from edgefx.cli import run
from edgefx.errors import (
    BenchmarkError,
    DeviceDependencyError,
    DeviceError,
    DiskFullError,
    EdgefxError,
    ExitCode,
    UnknownNameError,
    UsageError,
)
from edgefx.measured import Match
from edgefx.pipeline import devices
from edgefx.protocols import SILENT, Progress, Task
from edgefx.report.console import PlainConsole
from edgefx.report.device import render_check
from edgefx.results import Latency
from edgefx.storage import hardware
from edgefx.views import Benchmark
from tests import tiny_onnx

from .ssh_server import SshServer, serving, write_known_host

DEVICE = "ssh://Device"
_OTHER_BOOT = """\
import pathlib
read_text = pathlib.Path.read_text
def read(path, *arguments, **options):
    if path.name == "boot_id":
        path = pathlib.Path.home() / "boot_id"
    return read_text(path, *arguments, **options)
pathlib.Path.read_text = read
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with serving(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture(autouse=True)
def _client(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let ssh read the server's configuration; afterwards nothing may be left on the device."""
    monkeypatch.setenv("PATH", server.path())
    write_known_host(server.folder, server.port, (server.folder / "host_key.pub").read_text())
    yield
    server.wait_until_idle()
    assert server.unfinished() == []


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx.write(tmp_path_factory.mktemp("artifact") / "tiny-float32.onnx")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images with labels of ten classes."""
    folder = tmp_path_factory.mktemp("images")
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label"])
        for number, pixels in enumerate(tiny_onnx.pixels(40)):
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", number % 10])
    return folder


class _Watching:
    """A progress that does something in the middle of a piece of work."""

    def __init__(self, label: str, steps: int, then: object) -> None:
        self._label, self._steps, self._then = label, steps, then
        self.warnings: list[str] = []

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        del total
        self._counting = label.startswith(self._label)
        yield self

    def advance(self, steps: int = 1) -> None:
        if self._counting:
            self._steps -= steps
            if self._steps == 0 and callable(self._then):
                self._then()

    def note(self, message: str) -> None:
        self.warnings.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def _benchmark(
    *artifacts: Path, device: str = DEVICE, python: str = sys.executable, progress: Progress | None = None
) -> Benchmark:
    return edgefx.benchmark(
        artifacts, rounds=40, min_seconds=0, seconds=2.0, threads=1, device=device, device_python=python,
        progress=progress or _Watching("", 0, None),
    )  # fmt: skip


def _cli(*arguments: str | Path) -> list[str]:
    return [*map(str, arguments), "--device", DEVICE, "--device-python", sys.executable]


def test_a_profile_from_there(artifact: Path) -> None:
    found = edgefx.benchmark(
        artifact,
        rounds=5,
        min_seconds=0,
        seconds=1.0,
        threads=1,
        device=DEVICE,
        device_python=sys.executable,
        profile=True,
    )
    assert not found.failures
    profile = found.profiles[str(artifact)]
    assert profile.operations_ms > 0
    assert profile.float_share + profile.conversion_share == pytest.approx(1.0)


def test_a_hardware_profile_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "FEWEST", 2)
    out = tmp_path / "device.json"
    options = ("--runtime", "onnx", "--threads", "1", "--seconds", "0.1", "-o", out)
    place = ("--device-python", sys.executable, "--device-dir", tmp_path / "kept")
    command = ("device", "profile", DEVICE, *place, *options)
    assert run([str(word) for word in command]) == 0
    found = hardware.read(out)
    assert found.onnx is not None
    assert len(found.onnx.times) == 2
    assert all(time.float_us > 0 and time.int8_us > 0 for time in found.onnx.times)


def test_latency_there(artifact: Path, tmp_path: Path, server: SshServer) -> None:
    other = tiny_onnx.write(tmp_path / "it's $(touch oops) `x`; y-int8.onnx", seed=1)
    found = _benchmark(artifact, other)
    assert found.device == DEVICE
    assert found.environment.packages["numpy"] == np.__version__
    assert {*found.latencies} == {str(artifact), str(other)}
    latency: Latency = found.latencies[str(other)]
    assert latency.device == DEVICE
    assert latency.rounds == 40
    assert latency.ratio_to_float is not None
    assert not list(server.home.rglob("oops"))
    kept = sorted(path.name for path in (server.home / ".cache" / "edgefx").rglob("*.onnx"))
    assert kept == ["model.onnx"] * 2


def test_accuracy_there(artifact: Path, images: Path) -> None:
    here = edgefx.evaluate(artifact, images)
    there = edgefx.evaluate(artifact, images, device=DEVICE, device_python=sys.executable)
    assert here.device is None
    assert there.device is not None
    assert there.device.match is Match.IDENTICAL
    assert (there.device.images, there.device.same_top1, there.device.max_abs_difference) == (8, 8, 0.0)
    assert (there.top1, there.top5, there.images) == (here.top1, here.top5, 40)
    assert there.images_per_s > 0


def test_the_command_line_shows_it(
    artifact: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a $(folder) of the 'device'"
    assert run([*_cli("evaluate", artifact, images), "--device-dir", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert "every score is identical, bit by bit" in shown
    assert f"images/s on {DEVICE}" in shown
    assert list(folder.rglob("model.onnx"))
    assert run([*_cli("benchmark", artifact, "--rounds", "5", "--min-seconds", "0")]) == 0
    shown = capfd.readouterr().out
    assert f"on {DEVICE} (" in shown
    assert "host latency" not in shown


def test_an_artifact_for_other_hardware_is_said(tmp_path: Path) -> None:
    import onnx

    path = tiny_onnx.write(tmp_path / "arm.onnx")
    model = onnx.load(path)
    model.metadata_props.add(key="edgefx.hardware", value="aarch64+i8mm, whose speed was never measured")
    onnx.save(model, path)
    progress = _Watching("", 0, None)
    found = _benchmark(path, progress=progress)
    assert any(f"laid out for aarch64+i8mm, and {DEVICE} is {found.hardware}" in note for note in found.notes)
    assert progress.warnings == list(found.notes)


def test_a_connection_that_is_cut_while_timing(artifact: Path, server: SshServer) -> None:
    with pytest.raises(DeviceError, match=f"{DEVICE}: the connection ended") as caught:
        _benchmark(artifact, progress=_Watching("latency", 10, server.cut))
    assert caught.value.exit_code is ExitCode.STAGE_FAILED
    assert "it was not restarted" in caught.value.hint


def test_a_device_that_is_restarted_is_told_from_a_network_that_fails(
    artifact: Path, server: SshServer
) -> None:
    """Its kernel names each of its starts; here a Python that is told another name stands in for it."""
    boot, patched = server.home / "boot_id", server.home / "patched"
    boot.write_text("first")
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(_OTHER_BOOT)
    python = server.home / "restarting"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH=~/patched\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def restart() -> None:
        boot.write_text("second")
        server.cut()

    with pytest.raises(DeviceError, match=f"{DEVICE}: it was restarted in the middle") as caught:
        _benchmark(artifact, python=str(python), progress=_Watching("latency", 10, restart))
    assert "power supply" in caught.value.hint


def test_a_connection_that_is_cut_while_copying(tmp_path: Path, server: SshServer) -> None:
    large = tiny_onnx.write(tmp_path / "large.onnx", hidden=20_000)
    with pytest.raises(DeviceError, match="the connection ended"):
        _benchmark(large, progress=_Watching("copy", 50, server.cut))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_nothing_there(
    artifact: Path, server: SshServer, number: signal.Signals
) -> None:
    """Ctrl-C ends in good order; after SIGKILL it is the device that notices."""
    command = [sys.executable, "-m", "edgefx", *_cli("benchmark", artifact)]
    command += ["--rounds", "100000000", "--seconds", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        for line in started.stderr:
            if line.startswith("latency"):
                break
        assert len([line for line in server.strays() if "python" in line]) >= 2
        started.send_signal(number)
        code = started.wait(timeout=30)
    assert code == (130 if number == signal.SIGINT else -number)


@pytest.mark.parametrize(
    ("device", "kind", "said", "advice"),
    [
        ("ssh://Refused", DeviceError, "none of your keys is accepted: .*Permission denied", "ssh Refused; "),
        ("ssh://no-such.invalid", UsageError, "no such host", "by hand: ssh no-such.invalid"),
        (
            "ssh://pi@127.0.0.1:{closed}",
            DeviceError,
            "cannot be reached: .*refused",
            "ssh -p {closed} pi@127",
        ),
        ("telnet://0123", UsageError, "unknown kind of device 'telnet'", "ssh"),
        ("pi5", UsageError, "unknown device 'pi5'", "ssh://user@host"),
        ("ssh://-oProxyCommand=x", UsageError, "no host", "ssh://user@host"),
        ("ssh://-l@host", UsageError, "no name of a user", "ssh://user@host"),
        ("ssh://pi:secret@host", UsageError, "more than a user", "ssh://user@host"),
        ("ssh://host/path", UsageError, "more than a user", "ssh://user@host"),
        ("ssh://host:99999", UsageError, "[Pp]ort", "ssh://user@host"),
    ],
)
def test_a_device_that_cannot_be_connected(
    artifact: Path, device: str, kind: type[EdgefxError], said: str, advice: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = str(free.getsockname()[1])
    with pytest.raises(EdgefxError, match=said) as caught:
        _benchmark(artifact, device=device.replace("{closed}", closed))
    assert isinstance(caught.value, kind)
    assert advice.replace("{closed}", closed) in caught.value.hint


def test_a_wrong_host_key(artifact: Path, server: SshServer) -> None:
    write_known_host(server.folder, server.port, (server.folder / "wrong_key.pub").read_text())
    with pytest.raises(DeviceError, match="another host key than it used to") as caught:
        _benchmark(artifact)
    assert "ssh-keygen -f" in caught.value.hint


def test_an_unknown_host_key(artifact: Path, server: SshServer) -> None:
    (server.folder / "known_hosts").write_text("")
    with pytest.raises(DeviceError, match="host key is not known") as caught:
        _benchmark(artifact)
    assert "compare the fingerprint that is shown: ssh Device" in caught.value.hint


@pytest.mark.parametrize("python", ["/no such/$(touch oops)/python's", "~/no such/python"])
def test_no_python_there(artifact: Path, server: SshServer, python: str) -> None:
    with pytest.raises(DeviceDependencyError, match="there is no") as caught:
        _benchmark(artifact, python=python)
    assert caught.value.exit_code is ExitCode.MISSING_DEPENDENCY
    assert "--device-python" in caught.value.hint
    assert not list(server.home.rglob("oops"))


def test_a_python_by_its_path_from_home(artifact: Path, server: SshServer) -> None:
    link = server.home / "my python's"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    assert _benchmark(artifact, python="~/my python's").latencies


def test_a_python_without_the_runtime(artifact: Path, server: SshServer) -> None:
    bare = server.home / "bare"
    (server.home / "lacking").mkdir()
    (server.home / "lacking" / "numpy.py").write_text("raise ModuleNotFoundError('No module named numpy')")
    bare.write_text(f'#!/bin/sh\nexport PYTHONPATH=~/lacking\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(DeviceDependencyError, match="NumPy cannot be imported") as caught:
        _benchmark(artifact, python=str(bare))
    assert "-m pip install onnxruntime numpy" in caught.value.hint


def test_a_full_disk_there(tmp_path: Path, server: SshServer) -> None:
    cramped = server.home / "cramped"
    cramped.write_text(f'#!/bin/sh\nulimit -f 10\nexec {sys.executable} "$@"\n')
    cramped.chmod(0o755)
    with pytest.raises(DiskFullError, match=f"{DEVICE}: no room") as caught:
        _benchmark(tiny_onnx.write(tmp_path / "large.onnx", hidden=2000), python=str(cramped))
    assert "--device-dir" in caught.value.hint


def test_one_that_cannot_be_measured_does_not_take_the_others_down(artifact: Path, tmp_path: Path) -> None:
    import onnx

    path = tiny_onnx.write(tmp_path / "new.onnx")
    model = onnx.load(path)
    model.graph.node[2].op_type = "Futuristic"
    onnx.save(model, path)
    found = _benchmark(artifact, path)
    assert list(found.latencies) == [str(artifact)]
    assert "refuses it" in found.failures[str(path)]
    with pytest.raises(BenchmarkError, match="no artifact could be measured"):
        _benchmark(path)


def test_two_at_once(tmp_path: Path) -> None:
    """Two connections, whose agents are given the same file at the same time."""
    path = tiny_onnx.write(tmp_path / "both.onnx", seed=7, hidden=4000)
    with ThreadPoolExecutor(max_workers=2) as pool:
        for found in pool.map(_benchmark, [path, path]):
            assert list(found.latencies) == [str(path)]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A devices.yaml with a device, and with one that cannot be reached."""
    file = tmp_path / "devices.yaml"
    file.write_text(
        f"board: {{address: ssh://Device, python: {sys.executable}, threads: 1, notes: on the desk}}\n"
        "gone: ssh://127.0.0.1:1\n"
    )
    monkeypatch.setenv("EDGEFX_DEVICES", str(file))
    return file


@pytest.mark.usefixtures("named")
def test_a_device_by_its_name(artifact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = edgefx.benchmark(artifact, rounds=5, min_seconds=0, device="board")
    (latency,) = found.latencies.values()
    assert (latency.device, latency.threads) == ("board", 1)
    with pytest.raises(UnknownNameError, match="unknown device 'bord'") as caught:
        edgefx.benchmark(artifact, device="bord")
    assert "did you mean board?" in caught.value.hint
    assert run(["device", "list"]) == 0
    shown = capfd.readouterr().out
    assert "board" in shown
    assert "on the desk" in shown


@pytest.mark.usefixtures("named")
def test_check_says_what_a_device_is_and_one_that_is_gone_fails_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found, code = devices.check([DeviceChoice(device="board"), DeviceChoice(device="gone")], SILENT)
    assert code is ExitCode.STAGE_FAILED
    board, gone = found.devices
    assert board.lacking == {"tflite": "", "onnx": "", "openvino": ""}
    assert board.disk_free_mb > 0
    assert "cannot be reached" in gone.error
    stream = io.StringIO()
    render_check(found, PlainConsole(file=stream, width=120, color_system=None))
    assert f"numpy {np.__version__}" in stream.getvalue()
    assert "artifacts can be run" in stream.getvalue()
    assert run(["device", "check", "gone", "--json"]) == ExitCode.STAGE_FAILED
    assert json.loads(capfd.readouterr().out)["devices"][0]["device"] == "gone"


def test_setup_without_internet_installs_wheels_that_this_machine_has_downloaded(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a folder instead of an index, and wheels that hold next to nothing."""
    pip = pytest.importorskip("pip", reason="this environment has no pip to download wheels with")
    _wheel(tmp_path, "numpy", "__init__.py")
    _wheel(tmp_path, "ai_edge_litert", "interpreter.py")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # An environment that is there already is used: to unpack pip into a new one takes long.
    made = server.home / ".cache" / "edgefx" / "venv"
    venv.create(made, symlinks=True)
    (packages,) = made.glob("lib/python3*/site-packages")
    (packages / "pip").symlink_to(Path(pip.__file__).parent)
    command = ["device", "setup", DEVICE, "--offline", "--device-python", sys.executable]
    assert run(command) == 0
    shown, said = capfd.readouterr()
    python = made / "bin" / "python"
    assert (packages / "ai_edge_litert").is_dir()
    assert "ai-edge-litert 9.9" in shown
    assert f"--device-python '{python}'" in said
    with connected(DeviceChoice(device=DEVICE, python=sys.executable), SILENT) as device:
        assert isinstance(device, Remote)
        with pytest.raises(DeviceError, match="no wheels of onnxruntime for Python 3"):
            devices._download(device, ["onnxruntime"], tmp_path / "none")


def _wheel(folder: Path, name: str, module: str) -> None:
    info = f"{name}-9.9.dist-info"
    with zipfile.ZipFile(folder / f"{name}-9.9-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/{module}", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_options_of_a_device_need_one(artifact: Path) -> None:
    with pytest.raises(UsageError, match="belong to --device"):
        edgefx.benchmark(artifact, device_python="python3")
