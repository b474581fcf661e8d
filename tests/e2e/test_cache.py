"""The cache on the embedded model: what changes is computed again, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from edgefx.data import digits
from tests.contract.models_zoo import save_block

from .conftest import Finished, in_process
from .ssh_server import serving

pytestmark = pytest.mark.usefixtures("digits_once")

TARGETS = ("tflite-float32", "tflite-int8", "onnx-int8")
RECIPE = """\
version: 1
model: digits
targets: [tflite-float32, {target: tflite-int8, effort: fast}, {target: onnx-int8, effort: fast}]
calibration: {images: calib, samples: 40}
evaluate: {images: val}
benchmark: {rounds: 5, min_seconds: 0, threads: 1, max_noise: 100}
gates: {max_drop: 5pp, min_images: 50}
output: out
"""
Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, images of its own, and a cache that holds one run of it."""
    folder = tmp_path_factory.mktemp("cache")
    for name, source, every in (
        ("calib", digits.calibration_folder(), 2),
        ("val", digits.evaluation_folder(), 6),
    ):
        for path in sorted(source.rglob("*.png"))[::every]:
            (folder / name / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name / path.parent.name)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _own_cache(work: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFX_CACHE_DIR", str(work / "cache"))
        patch.setenv("EDGEFX_CACHE_SIZE", "1GB")
        yield


@pytest.fixture(scope="module")
def first(work: Path) -> dict[str, Any]:
    """The report of the first run."""
    report: dict[str, Any] = _called("run", work / "recipe.yaml", "-o", work / "first").json
    return report


@pytest.fixture
def again(work: Path, first: dict[str, Any], tmp_path: Path) -> Run:
    """Run the recipe with changes, into a folder of its own."""
    assert not first["cached"]

    def again(*settings: str, recipe: Path = work / "recipe.yaml") -> Finished:
        pairs = [part for setting in settings for part in ("--set", setting)]
        return _called("run", recipe, "-o", tmp_path / "out", *pairs)

    return again


def _called(*arguments: str | Path) -> Finished:
    return in_process(*arguments, "--json")


def computed(report: dict[str, Any]) -> set[tuple[str, str]]:
    """The stages that were not cached."""
    return {(timing["stage"], timing["target"]) for timing in report["timings"]}


def artifacts(report: dict[str, Any]) -> dict[str, list[str]]:
    return {
        target["target"]: [file["sha256"] for file in target["artifact"]["files"]]
        for target in report["targets"]
    }


def test_a_repeated_run_computes_nothing(
    work: Path, again: Run, first: dict[str, Any], tmp_path: Path
) -> None:
    report = again().json
    assert computed(report) == set()
    for before, now in zip(first["targets"], report["targets"], strict=True):
        for figure in ("accuracy", "latency", "convert_s", "size_ratio_to_float", "gates"):
            assert now[figure] == before[figure]
    assert artifacts(report) == artifacts(first)
    for target in report["targets"]:
        for file in target["artifact"]["files"]:
            content = (tmp_path / "out" / Path(file["path"]).name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    # Every figure names the entry it came from.
    named = {(entry["stage"], entry["target"]) for entry in report["cached"]}
    assert {(stage, name) for stage in ("convert", "evaluate") for name in TARGETS} <= named
    assert ("benchmark", "") in named
    for entry in report["cached"]:
        assert (work / "cache" / "v1" / entry["key"][:2] / entry["key"] / "manifest.json").is_file()


def test_a_cached_run_imports_no_framework(work: Path, first: dict[str, Any], tmp_path: Path) -> None:
    assert first
    probe = """
import json, sys
from edgefx.cli import run
code = run(sys.argv[1:])
heavy = {"tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "openvino", "numpy", "PIL"}
print(json.dumps([code, sorted(heavy & set(sys.modules))]), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe, "run", work / "recipe.yaml", "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
    assert "not measured now but on" in " ".join(done.stdout.split())


def test_changing_a_gate_only_judges_again(again: Run, first: dict[str, Any]) -> None:
    done = again("gates.max_size=1kB")
    assert done.code == 1
    report = done.json
    assert computed(report) == set()
    assert {target["verdict"] for target in report["targets"]} == {"FAIL"}
    assert artifacts(report) == artifacts(first)


def test_changing_one_targets_option_leaves_the_others_cached(
    work: Path, again: Run, first: dict[str, Any], tmp_path: Path
) -> None:
    assert first
    recipe = tmp_path / "changed.yaml"
    changed = RECIPE.replace("tflite-int8, effort: fast", "tflite-int8, effort: fast, io_dtype: int8")
    recipe.write_text(changed.replace(": calib", f": {work}/calib").replace(": val", f": {work}/val"))
    report = again(recipe=recipe).json
    # Latencies compare only within one measurement, so that all of them are measured again.
    assert computed(report) == {("convert", "tflite-int8"), ("evaluate", "tflite-int8"), ("benchmark", "")}


def test_changing_one_calibration_image(work: Path, again: Run, first: dict[str, Any]) -> None:
    chosen = json.loads((work / "first" / "edgefx.lock.json").read_text())["data"][0]
    assert chosen["role"] == "calibration"
    image = Path(chosen["root"]) / chosen["files"][7]["path"]
    original = image.read_bytes()
    try:
        ImageOps.invert(Image.open(image).convert("L")).save(image)
        report = again().json
    finally:
        image.write_bytes(original)
    int8 = ("tflite-int8", "onnx-int8")
    now, before = artifacts(report), artifacts(first)
    # Where a CPU gains nothing from INT8, onnx-int8 holds INT8 weights only, which no image changes.
    changed = [name for name in int8 if now[name] != before[name]]
    assert computed(report) == {
        ("quantize", ""),  # the checks of the calibration images
        *(("convert", name) for name in int8),
        *(("evaluate", name) for name in changed),
        ("benchmark", ""),
    }
    assert now["tflite-float32"] == before["tflite-float32"]
    assert now["tflite-int8"] != before["tflite-int8"]
    assert computed(again().json) == set(), "the old image gives the old results"


def test_changing_one_evaluation_image(work: Path, again: Run, first: dict[str, Any]) -> None:
    image = max((work / "val").rglob("*.png"))
    original = image.read_bytes()
    try:
        ImageOps.invert(Image.open(image).convert("L")).save(image)
        report = again().json
    finally:
        image.write_bytes(original)
    assert computed(report) == {
        ("load", ""),
        ("evaluate", "baseline"),
        ("quantize", ""),  # the checks compare with the evaluation images
        *(("evaluate", name) for name in TARGETS),
    }
    assert artifacts(report) == artifacts(first)


def test_random_weights_of_another_seed_are_another_model(tmp_path: Path) -> None:
    graphs = set()
    for seed in (0, 1, 0):
        done = _called(
            "compile", "digits", "--weights", "random", "--seed", str(seed), "--target", "tflite-float32",
            "--no-eval", "--no-benchmark", "-o", tmp_path,
        )  # fmt: skip
        assert done.code == 0, done.stderr
        graphs.add((seed, artifacts(done.json)["tflite-float32"][0]))
    assert len({content for _, content in graphs}) == 2
    assert computed(done.json) == set(), "the first seed is still there"


def test_a_damaged_artifact_is_made_again(
    work: Path, again: Run, first: dict[str, Any], tmp_path: Path
) -> None:
    key = next(
        entry["key"]
        for entry in again().json["cached"]
        if entry["stage"] == "convert" and entry["target"] == "tflite-int8"
    )
    (file,) = (work / "cache" / "v1" / key[:2] / key).glob("*.tflite")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    shutil.rmtree(tmp_path / "out")  # else the artifact is there already, and nothing is fetched
    done = again()
    assert f"entry {key[:12]} is removed and computed again" in done.stderr
    assert computed(done.json) == {("convert", "tflite-int8")}
    assert artifacts(done.json) == artifacts(first)


def test_a_dry_run_says_what_is_cached(work: Path, again: Run, first: dict[str, Any]) -> None:
    assert first

    def states(*settings: str) -> dict[tuple[str, str], bool | None]:
        recipe = work / "recipe.yaml"
        pairs = [part for setting in settings for part in ("--set", setting)]
        (view,) = _called("run", recipe, "--dry-run", *pairs).json
        return {(step["stage"], step["target"]): step["cached"] for step in view["steps"]}

    again()
    known = states()
    assert {state for (stage, _), state in known.items() if stage not in ("gate", "report")} == {True}
    assert known["report", ""] is None
    other = states("quantize.effort=fast", "seed=1")  # another sample of calibration images
    assert other["convert", "tflite-float32"]
    assert other["evaluate", "tflite-float32"]
    assert other["convert", "tflite-int8"] is False
    assert other["evaluate", "tflite-int8"] is None
    new = states("model.weights=random", "seed=5")
    assert new["canonicalize", ""] is False
    assert new["convert", "tflite-float32"] is None


def test_no_cache_computes_everything(work: Path, first: dict[str, Any], tmp_path: Path) -> None:
    before = sorted((work / "cache" / "v1").rglob("manifest.json"))
    done = _called("run", work / "recipe.yaml", "-o", tmp_path / "out", "--no-cache")
    assert done.code == 0
    assert not done.json["cached"]
    assert {("load", ""), *(("convert", name) for name in TARGETS)} <= computed(done.json)
    assert artifacts(done.json) == artifacts(first)
    assert sorted((work / "cache" / "v1").rglob("manifest.json")) == before


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    done = _called(
        "compile", "digits", "-t", "tflite-float32", "--no-eval", "--no-benchmark", "-o", tmp_path / "out"
    )
    assert done.code == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1


# ---------------------------------------------------------------------------------------- reproduce, diff


def test_reproduce_finds_identical_bytes(work: Path, first: dict[str, Any], tmp_path: Path) -> None:
    assert first
    done = _called("reproduce", work / "first", "-o", tmp_path / "again")
    assert done.code == 0, done.stdout
    assert done.json["changes"] == []
    assert [target["outcome"] for target in done.json["targets"]] == ["identical bytes"] * 3
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert not report["cached"], "what is proven is computed"


def test_reproduce_and_diff_name_the_image_that_changed(
    work: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    assert first
    calib = tmp_path / "calib"
    shutil.copytree(work / "calib", calib)
    locked = json.loads((work / "first" / "edgefx.lock.json").read_text())["data"][0]["files"][3]["path"]
    ImageOps.invert(Image.open(calib / locked).convert("L")).save(calib / locked)
    out = tmp_path / "again"
    done = _called("reproduce", work / "first", "-o", out, "--calib", calib)
    outcomes = {target["target"]: target["outcome"] for target in done.json["targets"]}
    assert outcomes["tflite-float32"] == "identical bytes"
    assert outcomes["tflite-int8"] in ("same metrics", "different")
    assert done.code == (1 if "different" in outcomes.values() else 0)
    changes = {change["name"]: change for change in done.json["changes"]}
    assert locked in changes["calibration: content"]["before"]
    found = _called("diff", work / "first", out).json
    assert locked in json.dumps(found["changes"])
    by_target = {target["target"]: target for target in found["targets"]}
    assert by_target["tflite-float32"]["identical"]
    assert not by_target["tflite-int8"]["identical"]
    flips = by_target["tflite-int8"]["flips"]
    assert flips["images"] == 60
    top1 = [
        next(target for target in report["targets"] if target["target"] == "tflite-int8")["accuracy"]["top1"]
        for report in (first, json.loads((out / "report.json").read_text()))
    ]
    assert flips["drop_pp"] == pytest.approx(100 * (top1[0] - top1[1]))
    assert len(flips["flipped"]) >= flips["lost"] + flips["gained"]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    commands: tuple[tuple[str | Path, ...], ...] = (("diff", tmp_path, tmp_path), ("reproduce", tmp_path))
    for command in commands:
        done = _called(*command)
        assert done.code == 2
        assert "edgefx.lock.json" in done.stderr


def test_reproduce_never_overwrites_the_run(work: Path, first: dict[str, Any]) -> None:
    assert first
    done = _called("reproduce", work / "first", "-o", work / "first")
    assert done.code == 2


def test_kills_at_random_instants(tmp_path: Path) -> None:
    """The benchmark does it with all of `digits-demo`; here each run is little more than its imports."""
    from tests.benchmarks.kills import kill

    little = (
        f"model={save_block(tmp_path)}",
        "targets=[tflite-float32, tflite-int8]",
        "quantize={effort: fast}",
        f"calibration={{images: {digits.calibration_folder()}, samples: 20}}",
        f"evaluate={{images: {digits.evaluation_folder()}, limit: 50}}",
        "gates={}",
        "benchmark=null",
    )
    settings = tuple(part for one in little for part in ("--set", one))
    outcome = kill("digits-demo", count=3, every=3, seed=1, settings=settings)
    assert (outcome.failed, outcome.wrong, outcome.damaged, outcome.left_over) == (0, 0, 0, 0)
    assert outcome.killed == 3


def test_devices_are_measured_anew_and_fail_alone(
    work: Path, again: Run, first: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One device that works, and one whose disk is full when the artifacts come."""
    (tmp_path / "ssh").mkdir()
    with serving(tmp_path / "ssh") as server:
        cramped = server.home / "cramped"
        cramped.write_text(f'#!/bin/sh\nulimit -f 10\nexec {sys.executable} "$@"\n')
        cramped.chmod(0o755)
        (tmp_path / "devices.yaml").write_text(
            f"board: {{address: ssh://Device, python: {sys.executable}, threads: 1}}\n"
            f"cramped: {{address: ssh://Other, python: {cramped}, dir: ~/small}}\n"
        )
        monkeypatch.setenv("EDGEFX_DEVICES", str(tmp_path / "devices.yaml"))
        monkeypatch.setenv("PATH", server.path())
        limits = "{board: p50_ms <= 1000, 'tflite-*@board': [drop_pp <= 90, p99_ms <= 0]}"
        done = again("benchmark.devices=[board, cramped]", f"gates.devices={limits}")
        server.wait_until_idle()
    assert done.code == 4, done.stderr
    assert computed(done.json) == {("device", "")}
    assert [one["latency"] for one in done.json["targets"]] == [None] * len(TARGETS)  # host is not named
    board, failed = done.json["devices"]
    assert [one["target"] for one in board["targets"]] == list(TARGETS)
    for one, here in zip(board["targets"], first["targets"], strict=True):
        assert one["answers"]["match"] == "identical"
        assert one["accuracy"]["drop_pp"] == here["accuracy"]["drop_pp"]
        assert (one["latency"]["device"], one["latency"]["rounds"]) == ("board", 5)
        assert one["failure"] is None
    verdicts = [[gate["verdict"] for gate in one["gates"]] for one in board["targets"]]
    assert verdicts == [["PASS", "PASS", "FAIL"], ["PASS", "PASS", "FAIL"], ["PASS"]]
    assert [one["latency"]["ratio_to_float"] is not None for one in board["targets"]] == [True, True, True]
    assert failed["failure"]["stage"] == "device"
    assert "cramped: no room" in failed["failure"]["message"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["devices"] == done.json["devices"]
    compared = _called("diff", work / "first", tmp_path / "out").json["targets"]
    (on_board,) = [one for one in compared if one["target"] == "tflite-int8@board"]
    assert on_board["before"] is None
    assert on_board["after"]["p50_ms"] == board["targets"][1]["latency"]["p50_ms"]


def test_a_device_that_cannot_be_reached_ends_a_run_before_its_work(again: Run, tmp_path: Path) -> None:
    done = again("benchmark.devices=[ssh://127.0.0.1:1]", "calibration.samples=30")
    assert done.code == 4
    assert "cannot be reached" in done.stderr
    assert not (tmp_path / "out" / "report.json").exists()
    assert again("benchmark.devices=[nowhere]").code == 2
