"""Images without an answer, as `edgefx evaluate` tells of them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from edgefx.runtimes.onnx.runtime import RUNTIME
from tests import tiny_onnx
from tests.cli.conftest import Edgefx
from tests.unit.test_inference import fragile, images


def test_evaluate_says_which_images_got_no_answer(edgefx: Edgefx, tmp_path: Path) -> None:
    fragile(tmp_path / "fragile.onnx")
    with RUNTIME.open_session(tiny_onnx.write(tmp_path / "whole.onnx"), threads=1) as session:
        best = session.infer(images()).argmax(1)
    for label in range(10):
        (tmp_path / "val" / str(label)).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(images(), best, strict=True)):
        Image.fromarray(pixels).save(tmp_path / "val" / str(label) / f"{number}.png")
    done = edgefx(
        *("evaluate", str(tmp_path / "fragile.onnx"), str(tmp_path / "val"), "--pixels", "0..255", "--json")
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["error_rate"], found["top1"]) == (0.05, 0.95)
    assert "3 of 60 images got no answer" in found["notes"][-1]
