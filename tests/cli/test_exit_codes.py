"""Exit codes and messages: DESIGN, contract 6."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgefx.cli import cli, run
from tests.cli.conftest import Edgefx

_FAIL = """
import sys
from edgefx.cli import cli, run
cli.commands_table["fail"] = ("tests.cli.fail_command:command", "Fail.")
sys.exit(run(sys.argv[1:]))
"""
_ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("_with_fail_command")
@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("ok", 0, []),
        ("gate", 1, []),
        ("usage", 2, ["error: --x cannot be\n", "hint: leave it out\n"]),
        ("dependency", 3, ["the package 'openvino', needed for openvino-int8", "pip install 'openvino"]),
        ("module", 3, ["'yaml'", "pip install 'pyyaml>="]),
        ("stage", 4, ["error: the converter refused\n", "  op 19\n", "10 more", "hint: try float32"]),
        ("full", 4, ["/data/out.tflite: no space left on the device", "hint: free some space"]),
        ("wrapped-full", 4, ["/data/out.tflite: no space left on the device"]),
        ("native-full", 4, ["no space left on the device"]),
        ("memory", 4, ["out of memory"]),
        ("bug", 70, ["this is a bug in edgefx: ValueError: unexpected\n"]),
        ("pipe-bug", 70, ["this is a bug in edgefx: BrokenPipeError"]),
        ("interrupt", 130, ["interrupted\n"]),
        ("abort", 130, ["interrupted\n"]),
        ("term", 143, ["terminated\n"]),
        ("swallowed", 130, ["interrupted\n"]),
        ("disguised", 130, ["interrupted\n"]),
    ],
)
def test_every_ending_has_its_code_and_message(
    edgefx: Edgefx, ending: str, code: int, said: list[str]
) -> None:
    outcome = edgefx("fail", ending)
    assert outcome.code == code
    assert outcome.out == ""
    for text in said:
        assert text in outcome.err
    assert bool(outcome.err) == bool(said)
    assert "Traceback" not in outcome.err


@pytest.mark.usefixtures("_with_fail_command")
def test_a_bug_names_the_log_that_holds_traceback_and_native_output(edgefx: Edgefx) -> None:
    outcome = edgefx("fail", "noisy-bug", "--log")
    assert outcome.code == 70
    assert "native last words" not in outcome.err
    log = Path(outcome.err.split("log: ")[1].strip())
    text = log.read_text()
    assert "native last words" in text
    assert "ValueError: unexpected" in text
    assert "Traceback" in text


@pytest.mark.usefixtures("_with_fail_command")
def test_a_failed_stage_names_its_log_only_when_it_says_something(edgefx: Edgefx, tmp_path: Path) -> None:
    assert "log:" not in edgefx("fail", "stage").err
    assert "log:" not in edgefx("fail", "stage", "--log").err
    assert list((tmp_path / "state" / "edgefx" / "logs").iterdir()) == []
    log = edgefx("fail", "noisy-stage", "--log").err.split("log: ")[1].strip()
    assert Path(log).read_text() == "native last words\n"


@pytest.mark.usefixtures("_with_fail_command")
@pytest.mark.parametrize("argv", [("--debug", "fail", "stage"), ("fail", "stage", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(edgefx: Edgefx, argv: tuple[str, ...]) -> None:
    outcome = edgefx(*argv)
    assert outcome.code == 4
    assert "Traceback" in outcome.err
    assert "ConversionError" in outcome.err


def test_unknown_command_names_the_nearest(edgefx: Edgefx) -> None:
    outcome = edgefx("compil")
    assert outcome.code == 2
    assert "unknown command 'compil'" in outcome.err
    assert "did you mean compile?" in outcome.err


def test_unknown_option_names_the_nearest_and_the_help(edgefx: Edgefx) -> None:
    outcome = edgefx("targets", "--jsn")
    assert outcome.code == 2
    assert "--jsn" in outcome.err
    assert "--json" in outcome.err
    assert "edgefx targets --help" in outcome.err


def test_unknown_global_option(edgefx: Edgefx) -> None:
    outcome = edgefx("--colr", "never", "targets")
    assert outcome.code == 2
    assert "--color" in outcome.err


def test_no_command_prints_the_help_on_stderr(edgefx: Edgefx) -> None:
    outcome = edgefx()
    assert outcome.code == 2
    assert outcome.out == ""
    assert "compile" in outcome.err


def test_sigterm_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(["--version"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_commands_are_named_as_in_the_table() -> None:
    assert list(cli.commands_table) == [
        "compile",
        "run",
        "recipe",
        "reproduce",
        "diff",
        "gate",
        "report",
        "evaluate",
        "drift",
        "benchmark",
        "device",
        "debug",
        "inspect",
        "check",
        "npu",
        "bundle",
        "verify",
        "rollout",
        "setup",
        "targets",
        "models",
        "cache",
        "doctor",
    ]


def test_ctrl_c_exits_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _FAIL, "fail", "wait"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == "interrupted\n"


@pytest.mark.parametrize(("argv", "code"), [(["fail", "printed-gate"], 1), (["--help"], 0)])
def test_a_reader_that_leaves_changes_no_exit_code(argv: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-c", _FAIL, *argv],
        cwd=_ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (code, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_noticed() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "edgefx", "--version"],
            cwd=_ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 4
    assert result.stderr.startswith("error: no space left on the device\n")
    assert "Exception ignored" not in result.stderr


def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m edgefx targets --json >&- 2>&-"],
        cwd=_ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    assert result.returncode == 0
