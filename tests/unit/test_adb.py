"""Phones: what `benchmark_model` has printed on real ones, and what the real `adb` says where there is none.

No phone is attached when these tests run. The logs are excerpts of what others have published of theirs.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices import benchmark_model, book
from edgefx.benchmarking.devices.adb import Adb, explained
from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.phone import Phone
from edgefx.benchmarking.latency import measure
from edgefx.errors import BenchmarkError, DeviceError, ExitCode, MissingToolError, UsageError
from edgefx.protocols import SILENT
from edgefx.results import Latency
from edgefx.runtimes.tflite.runtime import TfliteRuntime
from tests.unit.phones import RECENT, Conversation, program

# TensorFlow Lite 2.x on an emulated board: no percentiles, and averages in another notation.
OLDER = """\
STARTING!
Log parameter values verbosely: [0]
Graph: [./mobilenet_v1_1.0_224.tflite]
Loaded model ./mobilenet_v1_1.0_224.tflite
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): \
2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
"""
# TensorFlow Lite 2.4 on a phone.
OLDEST = """\
count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442
Inference timings in us: Init: 16242, First inference: 360262, Warmup (avg): 304586, Inference (avg): 249684
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
# LiteRT 2, whose tool sums up in words of its own; from its documentation.
LITERT = """\
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 1 out of 1 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for \
subgraph 0.
INFO: The input model file size (MB): 3.27774
INFO: Initialized session in 4.478ms.
INFO: count=1055 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

INFO: [./litert/tools/benchmark_litert_model.h:81]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:86] Warmup (avg):         0.47 ms (1055 runs)
INFO: [./litert/tools/benchmark_litert_model.h:88] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:112]
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:114] Init footprint:       8.94 MB
INFO: [./litert/tools/benchmark_litert_model.h:116] Overall footprint:    11.51 MB
INFO: [./litert/tools/benchmark_litert_model.h:123] Peak memory usage not available. (peak_mem_mb <= 0)
"""


def test_a_recent_tool_prints_percentiles() -> None:
    found = benchmark_model.parse(RECENT)
    assert (found.count, found.median_ms, found.p95_ms) == (25, 141.253, 187.533)
    assert (found.min_ms, found.mean_ms, found.std_ms) == (140.071, 145.528, 13.583)
    assert (found.init_ms, found.first_ms) == (92.318, 187.533)
    assert found.memory_mb == pytest.approx(73.4102 * 1.048576)
    assert found.coverage == pytest.approx(539 / 548)
    assert found.delegates[0].name == "TfLiteXNNPackDelegate"


def test_older_tools_print_averages() -> None:
    found = benchmark_model.parse(OLDER)
    assert (found.count, found.median_ms, found.p95_ms) == (50, None, None)
    assert (found.mean_ms, found.init_ms, found.first_ms) == (2950.34, 17.187, 3512.391)
    assert (found.delegates, found.coverage) == ((), None)
    oldest = benchmark_model.parse(OLDEST)
    assert oldest.min_ms == 247.067
    assert oldest.memory_mb == pytest.approx(138.809 * 1.048576)


def test_the_tool_of_litert_2_sums_up_in_words_of_its_own() -> None:
    found = benchmark_model.parse(LITERT)
    assert (found.count, found.median_ms, found.p95_ms, found.min_ms) == (2112, 0.462, 0.478, 0.442)
    assert (found.init_ms, found.first_ms, found.coverage) == (4.48, 1.03, 1.0)
    assert found.memory_mb == pytest.approx(11.51 * 1.048576)
    peak = "Peak memory:          12.75 MB"
    found = benchmark_model.parse(LITERT.replace("Peak memory usage not available. (peak_mem_mb <= 0)", peak))
    assert found.memory_mb == pytest.approx(12.75 * 1.048576)


def test_several_delegates_share_the_nodes() -> None:
    """NNAPI takes 5 of 64 nodes, then XNNPACK 59 of the 62 that are left with the five in three."""
    lines = "".join(
        f"VERBOSE: Replacing {nodes} out of {of} node(s) with delegate ({name}) node, yielding 1 partitions "
        "for the whole graph.\n"
        for nodes, of, name in ((5, 64, "TfLiteNnapiDelegate"), (59, 62, "TfLiteXNNPackDelegate"))
    )
    found = benchmark_model.parse(lines + OLDER)
    assert [one.name for one in found.delegates] == ["TfLiteNnapiDelegate", "TfLiteXNNPackDelegate"]
    assert found.coverage == 1.0


@pytest.mark.parametrize(
    "output",
    [
        "",
        "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'.\nFailed to initialize",
        "count=50 first=1 curr=1 min=1 max=1 avg=1 std=0",
        "Inference timings in us: Init: 17187, First inference: ",
        RECENT[: RECENT.index("Inference timings")],
        LITERT[: LITERT.index("Warmup (first)")],
    ],
)
def test_what_holds_no_result_is_none(output: str) -> None:
    with pytest.raises(ValueError, match="does not say how long"):
        benchmark_model.parse(output)


# ------------------------------------------------------------------------------------------------ the bridge


@pytest.mark.parametrize(
    ("said", "meant", "advice"),
    [
        ("error: device 'R58M' not found", "there is no such phone", "USB debugging"),
        ("error: no devices/emulators found", "there is no such phone", "USB debugging"),
        (
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb",
            "does not trust this machine",
            "allow USB debugging",
        ),
        ("error: device still authorizing", "does not trust this machine", "allow USB debugging"),
        ("error: device offline", "is offline", "plug its cable in again"),
        ("error: more than one device/emulator", "more than one phone", "adb://SERIAL"),
        ("error: insufficient permissions for device", "may not open the phone's USB port", "udev"),
        (
            "* daemon not running; starting now at tcp:5037\nerror: closed",
            "adb failed (exit code 1): error: closed",
            "",
        ),
    ],
)
def test_what_adb_says_is_explained(said: str, meant: str, advice: str) -> None:
    error = explained("pixel", 1, said.splitlines())
    assert error.message.startswith("pixel: ")
    assert meant in error.message
    assert advice in error.hint


@pytest.mark.parametrize("url", ["adb://-s", "adb://a b", "adb://$(touch x)", "adb://a/b", "adb://;x"])
def test_serial_numbers_are_no_options_and_no_commands(url: str) -> None:
    with pytest.raises(UsageError, match="no serial number"):
        Adb(url)


def test_without_adb_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(MissingToolError, match="adb") as caught,
        connected(DeviceChoice(device="adb://R58M"), SILENT),
    ):
        pass
    assert caught.value.exit_code is ExitCode.MISSING_DEPENDENCY


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real program, with a server of its own that sees no phone; it is ended afterwards."""
    if shutil.which("adb") is None:
        pytest.skip("there is no adb here (Debian: apt install adb)")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(5200 + os.getpid() % 1000))
    monkeypatch.setenv("ADB_USB", "0")
    yield
    adb = Adb("adb://")
    adb.run("kill-server", timeout_s=20)


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("url", ["adb://no-such-phone", "adb://127.0.0.1:1"])
def test_the_real_adb_without_a_phone(url: str) -> None:
    with (
        pytest.raises(DeviceError, match="there is no such phone"),
        connected(DeviceChoice(device=url), SILENT),
    ):
        pass


# ------------------------------------------------------------------------------------- the tool, and names


def _program(path: Path, machine: int) -> Path:
    path.write_bytes(program(machine=machine))
    return path


@pytest.fixture
def adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Adb:
    """A bridge whose program exists; nothing here runs it."""
    program = tmp_path / "adb"
    program.write_text("")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Adb("adb://R58M", "phone")


def test_the_tool_must_be_a_program_for_android(adb: Adb, tmp_path: Path) -> None:
    for content, said in ((b"#!/bin/sh\n", "no program for Android"), (b"", "no program for Android")):
        (tmp_path / "tool").write_bytes(content)
        with pytest.raises(UsageError, match=said):
            Phone(adb, tmp_path / "tool", threads=None, progress=SILENT)
    with pytest.raises(UsageError, match="another kind of CPU"):
        Phone(adb, _program(tmp_path / "tool", 8), threads=None, progress=SILENT)
    with pytest.raises(UsageError, match="cannot be read"):
        Phone(adb, tmp_path / "none", threads=None, progress=SILENT)
    assert Phone(adb, _program(tmp_path / "tool", 183), threads=None, progress=SILENT).name == "phone"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    monkeypatch.setattr(TfliteRuntime, "stated_precision", lambda *_: "int8")
    paths = [tmp_path / f"{name}.tflite" for name in ("float32", "int8")]
    return [Subject(key=path.stem, path=path, float_key="float32") for path in paths]


def _measured(adb: Conversation, subjects: list[Subject], tool: Path) -> tuple[dict[str, Latency], list[str]]:
    failures: list[str] = []
    with Phone(adb, tool, threads=4, progress=SILENT) as phone:
        assert phone.environment.cpu.startswith("Example Phone 1")
        assert str(phone.hardware) == "aarch64+dotprod"
        found = measure(
            subjects,
            Timing(rounds=100, warmup=5, budget_s=30, least_s=1.0),
            threads=phone.threads,
            progress=SILENT,
            on_failure=lambda _, error: failures.append(error.message),
            device=phone,
        )
    return found, failures


def test_the_tool_is_called_in_turn_and_leaves_nothing(files: list[Subject], tmp_path: Path) -> None:
    phone = Conversation()
    found, failures = _measured(phone, files, _program(tmp_path / "tool", 183))
    assert failures == []
    assert phone.pushed == ["tool benchmark_model", "float32.tflite 0.tflite", "int8.tflite 1.tflite"]
    order = [one.partition("/0.tflite")[1] for one in phone.said if "--graph=" in one]
    assert order == ["/0.tflite", "", "", "/0.tflite"] * 2 + [
        "/0.tflite",
        "",
    ]  # back and forth, five launches
    assert "--num_threads=4 --num_runs=20 --min_secs=0.2" in next(
        one for one in phone.said if "--graph" in one
    )
    int8 = found["int8"]
    assert int8.ratio_to_float == pytest.approx(0.5, rel=0.01)
    low, high = int8.ratio_ci95 or (0.0, 0.0)
    assert low < 0.5 < high
    assert (int8.device, int8.launches, int8.rounds, int8.threads) == ("phone", 5, 125, 4)
    assert int8.delegate_coverage == pytest.approx(539 / 548)
    assert phone.said[-1].startswith("rm -rf /data/local/tmp/edgefx-")


def test_a_phone_that_restarts_ends_the_measurement_and_is_tidied(
    files: list[Subject], tmp_path: Path
) -> None:
    phone = Conversation(restarts_after=3)
    with pytest.raises(DeviceError, match="it was restarted in the middle"):
        _measured(phone, files, _program(tmp_path / "tool", 183))
    assert phone.said[-1].startswith("rm -rf ")


def test_a_file_that_the_tool_refuses_fails_alone(files: list[Subject], tmp_path: Path) -> None:
    others = [*files, Subject(key="onnx", path=tmp_path / "a.onnx")]
    found, failures = _measured(Conversation(fails="/1.tflite"), others, _program(tmp_path / "tool", 183))
    assert list(found) == ["float32"]
    assert "int8.tflite: on phone: benchmark_model failed (exit code 1)" in failures[0]
    assert ".tflite files only" in failures[1]


def test_a_tool_for_another_cpu_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="it is for x86_64, and phone is arm64-v8a"),
        Phone(Conversation(), _program(tmp_path / "tool", 62), threads=None, progress=SILENT),
    ):
        pass


def test_a_restart_is_noticed(adb: Adb) -> None:
    phone = Phone(adb, None, threads=None, progress=SILENT)
    phone._boot = "1c2a"
    phone._same_boot("1c2a\n")
    with pytest.raises(DeviceError, match="it was restarted in the middle"):
        phone._same_boot("77ff\n")


def test_answers_are_not_seen_and_that_is_said(adb: Adb, tmp_path: Path) -> None:
    phone = Phone(adb, None, threads=None, progress=SILENT)
    with pytest.raises(BenchmarkError, match="only latency can be measured") as caught:
        phone.refuse(tmp_path / "a.tflite")
    assert "--device-python" in caught.value.hint
    assert "onnx" not in phone.lacks("tflite")
    assert ".tflite files only" in phone.lacks("onnx")


def test_two_names_of_one_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "devices.yaml"
    monkeypatch.setenv(book.VARIABLE, str(file))
    file.write_text("a: ssh://pi@board\nphone: {address: adb://R58M, benchmark_model: ~/tool}\n")
    assert book.device("phone").benchmark_model == Path.home() / "tool"
    file.write_text("a: ssh://pi@board\nb: {address: ssh://pi@Board/}\n")
    with pytest.raises(UsageError, match="'a' and 'b' are one device"):
        book.devices()
