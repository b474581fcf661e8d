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

from .conftest import Finished

IMAGES = 400


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mixtures of two digits, labelled by the float model: it is always right, and INT8 errs now and then."""
    from edgefx.models.load import load

    folder = tmp_path_factory.mktemp("between")
    files = sorted(digits.evaluation_folder().rglob("*.png"))
    sources = np.stack([np.asarray(Image.open(file).convert("L"), np.float32) for file in files])
    generator = np.random.default_rng(0)
    share = generator.uniform(0.35, 0.65, (IMAGES, 1, 1))
    one, other = generator.integers(0, len(sources), (2, IMAGES))
    mixed = (share * sources[one] + (1 - share) * sources[other]).astype(np.uint8)
    large = []
    for number, pixels in enumerate(mixed):
        image = Image.fromarray(pixels)
        image.save(folder / f"{number:03}.png")
        large.append(np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)))
    labels = load("digits").predict(np.stack(large)).argmax(1)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *((f"{n:03}.png", k) for n, k in enumerate(labels))])
    return folder


def compiled(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Finished:
    capfd.readouterr()
    code = run([str(argument) for argument in ("compile", "digits", "--no-benchmark", "--json", *arguments)])
    captured = capfd.readouterr()
    return Finished(code, captured.out, captured.err)


def drop_pp(trial: Any) -> float:
    return float(trial["accuracy"]["drop_pp"])


def test_the_search_keeps_the_best_candidate(
    capfd: pytest.CaptureFixture[str], between: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = tmp_path / "reports" / "r.md"
    flags = ("--effort", "fast", "--max-drop", "0.1%", "--eval", between, "-o", out, "--report", report)
    done = compiled(capfd, "-t", "tflite-int8", *flags)
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
    assert target["gates"][0]["gate"] == {"metric": "drop_percent", "limit": 0.1, "targets": ["*"]}
    assert target["verdict"] == ("INCONCLUSIVE" if chosen["meets"] else "FAIL")  # by its interval
    (file,) = target["artifact"]["files"]
    content = (out / "digits-int8.tflite").read_bytes()
    assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert {path.name for path in out.iterdir()} == {
        "digits-int8.tflite",
        "digits-labels.txt",
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
    capfd: pytest.CaptureFixture[str], between: Path, tmp_path: Path
) -> None:
    done = compiled(
        capfd, "-t", "tflite-int8", "--integer-only", "--max-drop", "0pp", "--eval", between, "-o", tmp_path
    )
    assert done.code == 1
    (target,) = done.json["targets"]
    assert target["artifact"]["compute_float"] == 0
    assert [trial["effort"] for trial in target["search"]["trials"]] == ["balanced", "high"]
    assert target["search"]["gap"] > 0
    assert target["search"]["ranked"] == []
    assert "integer-only" in target["search"]["ended"]


def test_float_ends_of_an_integer_artifact_are_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ("-t", "tflite-int16x8,tflite-int8", "--integer-only", "--effort", "fast", "--no-eval")
    done = compiled(capfd, *flags, "-o", tmp_path)
    assert done.code == 0
    warned = {target["target"]: target["warnings"] for target in done.json["targets"]}
    assert warned["tflite-int8"] == []
    assert [text.partition(":")[0] for text in warned["tflite-int16x8"]] == ["integer only between its ends"]


def test_interrupted_search_keeps_the_best_so_far(between: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "edgefx", "compile", "digits", "-t", "tflite-int8", "--no-benchmark"]
    process = subprocess.Popen(
        [*command, "--effort", "fast", "--max-drop", "0pp", "--eval", between, "-o", out],
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
    assert [path.name for path in out.iterdir()] == ["digits-int8.tflite"]
    described = subprocess.run(
        [sys.executable, "-m", "edgefx", "inspect", out / "digits-int8.tflite", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(described.stdout)["artifact"]["compute_float"] == 0
