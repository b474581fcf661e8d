"""Poor calibration images, from the folder to the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from edgefx.cli import run
from edgefx.data import digits

from .conftest import Finished

pytestmark = pytest.mark.usefixtures("digits_once")


def compiled(capfd: pytest.CaptureFixture[str], calibration: Path, out: Path) -> Finished:
    capfd.readouterr()
    evaluation = ("--eval", str(digits.evaluation_folder()), "--eval-limit", "50")
    flags = (*evaluation, "-t", "tflite-int8", "--effort", "fast", "--no-benchmark", "--json", "-o", str(out))
    code = run(["compile", "digits", "--calib", str(calibration), *flags])
    captured = capfd.readouterr()
    return Finished(code, captured.out, captured.err)


def test_what_is_poor_is_reported(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    files = sorted(digits.calibration_folder().rglob("*.png"))[::8]
    for number, file in enumerate(files):
        shutil.copy(file, photos / f"{number}.png")
    shutil.copy(files[0], photos / "copy.png")
    Image.new("RGB", (32, 32)).save(photos / "black.png")
    Image.new("RGB", (32, 32)).save(photos / "dark.png")
    done = compiled(capfd, photos, tmp_path / "out")
    assert done.code == 0, done.stderr
    checks = {check["name"]: check for check in done.json["checks"]}
    poor = {name for name, check in checks.items() if not check["passed"]}
    assert {"size", "duplicates", "blank images"} <= poor
    assert {"pixel range", "overlap with the evaluation images", "colour"} <= checks.keys() - poor
    for name in poor:
        assert checks[name]["advice"]
        (warning,) = [
            line for line in done.json["warnings"] if line.startswith(f"calibration images, {name}")
        ]
        assert f"warning: {warning}" in done.stderr


def test_nothing_but_blank_images_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for value in (90, 130, 170):
        Image.new("RGB", (32, 32), (value, value, value)).save(photos / f"{value}.png")
    done = compiled(capfd, photos, tmp_path / "out")
    assert done.code == 2
    assert "blank" in done.stderr
    assert "130.png is one grey" in done.stderr
    assert not list((tmp_path / "out").glob("*.tflite"))
