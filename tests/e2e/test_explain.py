"""What answers rest on, asked of a real artifact: images between two classes, some of which change theirs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefx.system import resources
from tests.e2e.conftest import in_process

pytestmark = pytest.mark.usefixtures("digits_once")


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are half of one digit and half of the next, so that little decides between them."""
    folder = tmp_path_factory.mktemp("undecided")
    by_class = [
        sorted(one.iterdir())
        for one in sorted((resources.folder("calibration") / "digits" / "val").iterdir())
        if one.is_dir()
    ]
    for first, second in pairwise([*by_class, by_class[0]]):
        (folder / first[0].parent.name).mkdir()
        for one, other in zip(first[:30], second[:30], strict=False):
            both = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path in (one, other)]
            mixed = Image.fromarray(((both[0] + both[1]) / 2).round().astype(np.uint8))
            mixed.save(folder / first[0].parent.name / one.name)
    return folder


def test_changed_images_are_explained_and_drawn_again(undecided: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = in_process(
        *("compile", "digits", "-t", "tflite-dynamic", "--eval", undecided, "--explain", "2"),
        *("--no-benchmark", "-o", out, "--json"),
    )
    assert run.code == 0, run.stderr
    surest = run.json["targets"][0]["changes"]["surest"]
    found = run.json["explanations"]
    assert [one["image"] for one in found] == [one["image"] for one in surest[:2]]
    for one, flip in zip(found, surest, strict=False):
        before, after = one["maps"]
        assert (before["target"], after["target"]) == ("", "tflite-dynamic")
        assert (before["label"], after["label"]) == (flip["before"], flip["after"])
        assert before["confidence"] == pytest.approx(flip["before_confidence"], abs=1e-3)
        assert after["confidence"] == pytest.approx(flip["after_confidence"], abs=1e-3)
        drops = np.array([before["drops"], after["drops"]])
        assert drops.shape == (2, 7, 7)
        assert abs(drops).max() > 0.05

    again = in_process("report", out, "--report", tmp_path / "again.html")
    assert again.code == 0, again.stderr
    assert (tmp_path / "again.html").read_text().count('alt="tflite-dynamic: ') == len(found)
    assert len(json.loads((out / "report.json").read_text())["explanations"]) == len(found)

    page = tmp_path / "evaluated.html"
    artifact = out / "digits-dynamic.tflite"
    alone = in_process(
        *("evaluate", artifact, undecided, "--baseline", "digits", "--explain", "2"), "--plot", page
    )
    assert alone.code == 0, alone.stderr
    for one, flip in zip(found, surest, strict=False):
        assert f"{one['image']}: float model, {flip['before']} " in " ".join(alone.stdout.split())
    text = page.read_text()
    assert text.count(f'alt="{artifact.name}: ') == len(found)
    assert text.count("data:image/jpeg") == 3 * len(found)

    page = tmp_path / "debugged.html"
    examined = in_process(
        *("debug", "digits", "-t", "tflite-dynamic", "--artifact", artifact, "--eval", undecided),
        *("--images", "300", "--explain", "2", "--json", "--plot", page),
    )
    assert examined.code == 0, examined.stderr
    for one, was in zip(examined.json["explanations"], found, strict=True):
        assert one["image"] == was["image"]
        for ours, theirs in zip(one["maps"], was["maps"], strict=True):
            assert (ours["target"], ours["label"]) == (theirs["target"], theirs["label"])
            assert np.allclose(ours["drops"], theirs["drops"], atol=2e-3)
    assert page.read_text().count('alt="tflite-dynamic: ') == len(found)


def test_a_float_model_must_be_there_to_be_asked(tmp_path: Path) -> None:
    artifact = tmp_path / "x.tflite"
    artifact.touch()
    run = in_process("evaluate", artifact, tmp_path, "--explain", "2")
    assert run.code == 2
    assert "--explain asks the float model, too, and none is given" in run.stderr
    run = in_process("evaluate", artifact, tmp_path, "--explain", "13")
    assert run.code == 2


def test_there_must_be_answers_to_explain(tmp_path: Path) -> None:
    run = in_process(
        "compile", "digits", "-t", "tflite-float32", "--no-eval", "--explain", "2", "-o", tmp_path / "x"
    )
    assert run.code == 2
    assert "--explain needs answers to compare, which there are none of: --no-eval" in run.stderr
    assert not (tmp_path / "x").exists()
