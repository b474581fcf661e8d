"""`--max-drop` as a budget: real conversions, measured on images between the classes, where INT8 errs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefx.cli import run
from edgefx.data import digits
from tests.contract.models_zoo import one_block

from .conftest import Finished

MIXTURES = 1600
IMAGES = 400  # of them


def between(folder: Path, model: str) -> Path:
    """Save mixtures of two digits between the classes of a float model, labelled by it: INT8 errs on some."""
    from edgefx.models.load import load

    files = sorted(digits.evaluation_folder().rglob("*.png"))
    sources = np.stack([np.asarray(Image.open(file).convert("L"), np.float32) for file in files])
    generator = np.random.default_rng(0)
    share = generator.uniform(0.35, 0.65, (MIXTURES, 1, 1))
    one, other = generator.integers(0, len(sources), (2, MIXTURES))
    mixed = [
        Image.fromarray(pixels.astype(np.uint8))
        for pixels in share * sources[one] + (1 - share) * sources[other]
    ]
    large = [image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR) for image in mixed]
    scores = load(model).predict(np.stack([np.asarray(image) for image in large]))
    second, best = np.sort(scores, axis=1)[:, -2:].T
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for number in np.argsort(best - second)[:IMAGES]:
            mixed[number].save(folder / f"{number:04}.png")
            rows.writerow((f"{number:04}.png", scores[number].argmax()))
    return folder


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of one block, whose candidates are converted in a second each, and images that are hard."""
    import keras

    made = one_block(keras, classes=10)
    files = sorted(digits.calibration_folder().rglob("*.png"))
    images = [Image.open(file).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR) for file in files]
    pixels = np.stack([np.asarray(image, np.float32) for image in images])
    head = made.layers[-1]
    found = keras.Model(made.input, head.input).predict(pixels, verbose=0)
    design = np.c_[found, np.ones(len(found))]
    wanted = 10 * np.eye(10)[[int(file.parent.name) for file in files]]
    fitted = np.linalg.lstsq(design, wanted, rcond=None)[0]
    head.set_weights([fitted[:-1], fitted[-1]])
    folder = tmp_path_factory.mktemp("block")
    made.save(folder / "block.keras")
    return folder / "block.keras", between(folder / "between", str(folder / "block.keras"))


def compiled(capfd: pytest.CaptureFixture[str], given: tuple[Path, Path], *arguments: str | Path) -> Finished:
    capfd.readouterr()
    model, images = given
    flags = ("--calib", digits.calibration_folder(), "--eval", images, "--no-benchmark")
    code = run([str(argument) for argument in ("compile", model, *flags, "--json", *arguments)])
    captured = capfd.readouterr()
    return Finished(code, captured.out, captured.err)


def drop_pp(trial: Any) -> float:
    return float(trial["accuracy"]["drop_pp"])


def test_the_search_keeps_the_best_candidate(
    capfd: pytest.CaptureFixture[str], block: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = tmp_path / "reports" / "r.md"
    flags = ("--effort", "fast", "--max-drop", "0.1%", "-o", out, "--report", report)
    done = compiled(capfd, block, "-t", "tflite-int8", *flags)
    (target,) = done.json["targets"]
    search = target["search"]
    trials, chosen = search["trials"], search["trials"][search["chosen"]]
    assert drop_pp(trials[0]) > 0.1, "these images were made to be hard"
    assert search["limit"] == {"value": 0.1, "unit": "%"}
    assert [trial["effort"] for trial in trials[:2]] == ["fast", "balanced"]
    assert search["chosen_on_evaluation"]
    # What was chosen is what was published, judged and reported.
    assert target["accuracy"] == chosen["accuracy"]
    assert target["effort"] == chosen["effort"]
    measured = [trial for trial in trials if trial["accuracy"]]
    assert chosen["meets"] == any(trial["meets"] for trial in measured)
    if not chosen["meets"]:
        assert drop_pp(chosen) == min(map(drop_pp, measured))
        assert search["gap"] == pytest.approx(drop_pp(chosen) - 0.1)  # the baseline is right everywhere
    assert done.code == (0 if chosen["meets"] else 1)
    assert target["gates"][0]["gate"] == {
        "metric": "drop_percent",
        "limit": 0.1,
        "targets": ["*"],
        "devices": [],
    }
    assert target["verdict"] == ("INCONCLUSIVE" if chosen["meets"] else "FAIL")  # by its interval
    (file,) = target["artifact"]["files"]
    content = (out / "block-int8.tflite").read_bytes()
    assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert {path.name for path in out.iterdir()} == {
        "block-int8.tflite",
        "block-labels.txt",
        "report.json",
        "edgefx.lock.json",
        "predictions.json",
        "edgefx.log",
    }
    for trial in trials[3:]:  # fewest first, in the order of the sensitivities
        ranked = [entry["layer"] for entry in search["ranked"]]
        assert trial["keep_float"] == ranked[: len(trial["keep_float"])]
    assert "Candidates for tflite-int8" in report.read_text()
    assert "tflite-int8: 0.1% m" in report.read_text()


def test_integer_only_never_falls_back_to_float(
    capfd: pytest.CaptureFixture[str], block: tuple[Path, Path], tmp_path: Path
) -> None:
    done = compiled(capfd, block, "-t", "tflite-int8", "--integer-only", "--max-drop", "0pp", "-o", tmp_path)
    assert done.code == 1
    (target,) = done.json["targets"]
    assert target["artifact"]["compute_float"] == 0
    assert [trial["effort"] for trial in target["search"]["trials"]] == ["balanced", "high"]
    assert target["search"]["gap"] > 0
    assert target["search"]["ranked"] == []
    assert "integer-only" in target["search"]["ended"]


def test_float_ends_of_an_integer_artifact_are_named(
    capfd: pytest.CaptureFixture[str], block: tuple[Path, Path], tmp_path: Path
) -> None:
    flags = ("-t", "tflite-int16x8,tflite-int8", "--integer-only", "--effort", "fast", "--eval-limit", "50")
    done = compiled(capfd, block, *flags, "-o", tmp_path)
    assert done.code == 0
    warned = {target["target"]: target["warnings"] for target in done.json["targets"]}
    assert warned["tflite-int8"] == []
    assert [text.partition(":")[0] for text in warned["tflite-int16x8"]] == ["integer only between its ends"]


def test_interrupted_search_keeps_the_best_so_far(
    capfd: pytest.CaptureFixture[str], block: tuple[Path, Path], tmp_path: Path
) -> None:
    out, (model, hard) = tmp_path / "out", block
    images = ("--calib", str(digits.calibration_folder()), "--eval", str(hard))
    flags = ("-t", "tflite-int8", "--no-benchmark", "--effort", "fast", "--max-drop", "0pp", *images)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgefx", "compile", str(model), *flags, "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if "effort fast: drop" in line:
            break
    assert not list(out.glob("*.tflite")), "nothing is published before the choice"
    process.send_signal(signal.SIGINT)
    seen += process.stderr.read()
    assert process.wait(timeout=60) == 130, seen
    assert "interrupted" in seen
    assert "is the best so far" in seen
    assert "Traceback" not in seen
    assert [path.name for path in out.iterdir()] == ["block-int8.tflite"]
    capfd.readouterr()
    assert run(["inspect", str(out / "block-int8.tflite"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["artifact"]["compute_float"] == 0
