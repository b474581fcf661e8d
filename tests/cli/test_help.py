"""Help, version and completion."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import click
import pytest

import edgefx as package
from edgefx.cli import COMMANDS
from edgefx.cli.compile import _SECTIONS
from edgefx.cli.compile import command as compile_command
from tests.cli.conftest import Edgefx

_PROBE = """
import contextlib, io, json, sys
from edgefx.cli import run
found = {}
for argv in (["--help"], ["targets"], ["compile", "--help"], ["doctor", "--help"], ["models"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(argv)
    found[" ".join(argv)] = [code, sorted({name.partition(".")[0] for name in sys.modules})]
print(json.dumps(found))
"""
_HEAVY = {
    "tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert",
    "ai_edge_quantizer", "tf2onnx", "numpy", "PIL",
}  # fmt: skip


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(edgefx: Edgefx, flag: str) -> None:
    outcome = edgefx(flag)
    assert outcome.code == 0
    assert outcome.err == ""
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name}" in outcome.out
        assert summary in outcome.out
    assert "_EDGEFX_COMPLETE=bash_source" in outcome.out
    assert "130 interrupted" in " ".join(outcome.out.split())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_has_help_with_an_example(edgefx: Edgefx, name: str) -> None:
    outcome = edgefx(name, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: edgefx {name} ")
    assert "Example" in outcome.out
    assert f"edgefx {name}" in outcome.out.split("Example", 1)[1]
    assert "--json" in outcome.out
    assert "--debug" in outcome.out


def test_every_option_of_compile_has_a_heading(edgefx: Edgefx) -> None:
    sections = dict(compile_command.sections(click.Context(compile_command)))
    named = {one.name for options in sections.values() for one in options}
    assert {name for names in _SECTIONS.values() for name in names} <= named
    others = {one.name for one in sections["Other options"] if one.expose_value}
    assert others == {"seed", "dump_recipe", "dry_run"}
    shown = edgefx("compile", "--help").out
    assert all(f"\n{heading}:\n" in shown for heading in sections)


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((name,) for name in COMMANDS),
        *(("recipe", name) for name in ("list", "show", "check", "schema")),
    ],
)
def test_help_is_made_of_whole_lines_and_sentences(edgefx: Edgefx, command: tuple[str, ...]) -> None:
    shown = edgefx(*command, "--help").out
    assert "\\b" not in shown  # Click's mark for "leave the lines as they are", shown where Click misses it
    assert "\b" not in shown
    assert not re.search(r"^ {2,}(-\S+ .*)?  +(Of|Likewise)\b", shown, re.MULTILINE)
    examples = [line for line in shown.splitlines() if re.search(r"(^|  )edgefx \w", line)]
    assert all(line.count("edgefx ") == 1 for line in examples), "examples are glued together"


@pytest.mark.parametrize(
    ("words", "at", "expected"),
    [
        ("edgefx compile digits -t tflite-int", 4, {"tflite-int8", "tflite-int16x8"}),
        ("edgefx compile digits --target tflite-int8,onnx-i", 4, {"tflite-int8,onnx-int8"}),
        ("edgefx compile v2-b", 2, {"v2-b0", "v2-b1", "v2-b2", "v2-b3"}),
        ("edgefx compile b0 --weights im", 4, {"imagenet"}),
        ("edgefx run digits", 2, {"digits-demo", "digits-mcu"}),
        ("edgefx recipe show b0-q", 3, {"b0-qat-distill"}),
        ("edgefx compile ./photos/mod", 2, {"./photos/mod"}),
        ("edgefx debug dig", 2, {"digits"}),
        ("edgefx debug digits -t tflite-int", 4, {"tflite-int8", "tflite-int16x8"}),
        ("edgefx debug b0 --weights r", 4, {"random"}),
        ("edgefx inspect v2-b", 2, {"v2-b0", "v2-b1", "v2-b2", "v2-b3"}),
        ("edgefx inspect b0 --weights im", 4, {"imagenet"}),
        ("edgefx evaluate m.tflite test --baseline dig", 5, {"digits"}),
        ("edgefx evaluate m.tflite test --baseline b0 --weights im", 7, {"imagenet"}),
        ("edgefx recipe init v2-s", 3, {"v2-s"}),
    ],
)
def test_values_are_completed(
    edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch, words: str, at: int, expected: set[str]
) -> None:
    monkeypatch.setenv("_EDGEFX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(at))
    lines = edgefx().out.split()
    assert {line.partition(",")[2] for line in lines} == expected


def test_version(edgefx: Edgefx) -> None:
    assert edgefx("--version").out == f"edgefx {package.__version__}\n"


def test_completion_offers_commands_and_options(edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_EDGEFX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "edgefx comp")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert edgefx().out == "plain,compile\n"
    monkeypatch.setenv("COMP_WORDS", "edgefx targets --js")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert edgefx().out == "plain,--json\n"


def test_nothing_heavy_is_imported_to_list_and_help() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(result.stdout)
    for argv, (code, modules) in found.items():
        assert code == 0, argv
        assert not _HEAVY & set(modules), argv
    assert not {"rich", "pydantic", "yaml"} & set(found["--help"][1])
    assert "pydantic" not in found["compile --help"][1]
