"""What a user or a file calls something reaches the terminal as text, never as a command to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Edgefx

NAME = "a\x1b[31m\nerror: forged\x9b1m.tflite"


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", NAME),
        ("benchmark", NAME),
        ("evaluate", NAME, "photos"),
        ("run", NAME),
        ("compile", NAME, "-t", NAME),
        ("compile", "digits", "-t", "tflite-int8", "--calib", NAME),
        ("compile", "digits", "-t", "tflite-int8", "--max-size", NAME),
        ("diff", NAME, NAME),
        ("reproduce", NAME),
        (NAME,),
        ("recipe", "show", NAME),
        ("inspect", "--classes", NAME),
    ],
)
def test_a_hostile_name_in_an_error(edgefx: Edgefx, argv: tuple[str, ...]) -> None:
    outcome = edgefx(*argv)
    assert outcome.code in (2, 4), outcome.err
    assert "\x1b" not in outcome.err + outcome.out
    assert "\x9b" not in outcome.err + outcome.out
    assert "\nerror: forged" not in outcome.err
    assert "forged" in outcome.err


def test_a_hostile_name_in_a_data_error(edgefx: Edgefx, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "labels.csv").write_text('file,label\n"b\x1b[31m\nerror: forged.jpg",0\n')
    outcome = edgefx("compile", "digits", "-t", "tflite-int8", "--calib", str(folder), "--dry-run")
    assert outcome.code == 2, outcome.err
    assert "\x1b" not in outcome.err
    assert "\nerror: forged" not in outcome.err
