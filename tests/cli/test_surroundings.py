"""Names, disks and limits of the user are no bugs of edgefx."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Edgefx

LONG = "y" * 300


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", f"{LONG}.tflite"),
        ("inspect", f"{LONG}.keras"),
        ("compile", "digits", "-t", "tflite-int8", "--calib", LONG),
        ("diff", LONG, LONG),
        ("reproduce", LONG),
        ("run", f"{LONG}.yaml"),
        ("evaluate", f"{LONG}.onnx", LONG),
        ("benchmark", f"{LONG}.xml"),
    ],
)
def test_a_name_that_is_too_long(edgefx: Edgefx, argv: tuple[str, ...]) -> None:
    outcome = edgefx(*argv)
    assert outcome.code == 2, outcome.err
    assert "too long" in outcome.err or "no such recipe file" in outcome.err
    assert "hint: " in outcome.err


_EARLY = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "edgefx.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from edgefx.__main__ import main
main()
"""


def test_an_interruption_while_modules_are_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _EARLY], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
