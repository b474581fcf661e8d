"""`edgefx debug`: what is refused before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Edgefx


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("m.keras",), "--target"),
        (("m.keras", "-t", "tflite-int9"), "unknown target 'tflite-int9'"),
        (("m.keras", "-t", "tflite-int8"), "needs calibration images"),
        (("m.keras", "-t", "tflite-int8", "--calib", "absent"), "absent: no such folder"),
        (("digits", "-t", "tflite-int8", "--plot", "layers.png"), "the plot is an HTML page"),
        (("digits", "-t", "tflite-int8", "--artifact", "a.onnx"), "goes with one target"),
        (("digits", "-t", "*-int8", "--artifact", "a.onnx"), "goes with one target"),
        (("digits", "-t", "onnx-int8", "--artifact", "absent.onnx"), "absent.onnx: no such file"),
        (("digits", "-t", "onnx-int8", "--images", "0"), "--images"),
    ],
)
def test_what_cannot_be_examined_is_said_at_once(
    edgefx: Edgefx,
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = edgefx("debug", *arguments)
    assert outcome.code in (2, 4)
    assert said in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
