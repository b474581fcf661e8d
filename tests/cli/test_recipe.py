"""`edgefx recipe …`, and what `run` and `compile` do with recipes short of running them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from edgefx.recipe.load import load, shipped
from tests.cli.conftest import Edgefx


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nmodel: digits\ntargets: [tflite-int8]\nefort: high\nseed: x\n")
    return path


def test_list(edgefx: Edgefx) -> None:
    outcome = edgefx("recipe", "list")
    assert outcome.code == 0
    for name in shipped():
        assert name in outcome.out
    rows = json.loads(edgefx("recipe", "list", "--json").out)
    assert {row["recipe"] for row in rows} == set(shipped())
    assert all(len(row["summary"]) > 20 and Path(row["path"]).is_file() for row in rows)


def test_show_prints_a_recipe_that_can_be_run(edgefx: Edgefx, tmp_path: Path) -> None:
    outcome = edgefx("recipe", "show", "digits-mcu", "--set", "seed=5")
    assert outcome.code == 0
    path = tmp_path / "shown.yaml"
    path.write_text(outcome.out)
    assert (
        load(path).model_dump() == load(shipped()["digits-mcu"]).model_copy(update={"seed": 5}).model_dump()
    )
    (shown,) = json.loads(edgefx("recipe", "show", "digits-mcu", "--json").out)
    assert shown["name"] == ""
    assert shown["recipe"]["quantize"]["budget"] == "0.5pp"


def test_show_as_written_is_a_copy(edgefx: Edgefx) -> None:
    outcome = edgefx("recipe", "show", "ci-gate", "--as-written")
    assert (outcome.code, outcome.out) == (0, shipped()["ci-gate"].read_text(encoding="utf-8"))
    refused = edgefx("recipe", "show", "ci-gate", "--as-written", "--set", "seed=1")
    assert (refused.code, refused.out) == (2, "")
    assert "--as-written" in refused.err


def test_show_prints_every_run_of_a_matrix(edgefx: Edgefx, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\nextends: digits-demo\nmatrix: {seed: [0, 1]}\n")
    documents = list(yaml.safe_load_all(edgefx("recipe", "show", str(path)).out))
    assert [(one["seed"], one["output"]) for one in documents] == [(0, "edgefx-out/0"), (1, "edgefx-out/1")]


def test_check_says_everything_on_stderr(edgefx: Edgefx, bad: Path) -> None:
    outcome = edgefx("recipe", "check", str(bad))
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {bad}: 2 mistakes" in outcome.err
    assert f"  {bad}:4:1: unknown key 'efort'\n    4 | efort: high\n      | ^^^^^\n" in outcome.err
    assert f"  {bad}:5:7: 'seed' must be a whole number, not 'x'\n" in outcome.err
    assert edgefx("run", str(bad)).err == outcome.err


def test_check_of_several(edgefx: Edgefx, bad: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("version: 3\n")
    outcome = edgefx("recipe", "check", "digits-demo", str(bad), str(other), "nowhere.yaml")
    assert outcome.code == 2
    assert outcome.out == "digits-demo: no mistakes\n"
    assert "error: 3 of 4 recipes have mistakes" in outcome.err
    assert f"{other}:1:10: '3' is not a version" in outcome.err
    assert "nowhere.yaml: no such recipe file" in outcome.err


def test_check_as_json(edgefx: Edgefx, bad: Path) -> None:
    outcome = edgefx("recipe", "check", str(bad), "digits-demo", "--json")
    assert (outcome.code, outcome.err) == (2, "")
    first, second = json.loads(outcome.out)
    assert (first["valid"], second["valid"], second["runs"]) == (False, True, 1)
    assert [(one["line"], one["column"]) for one in first["problems"]] == [(4, 1), (5, 7)]
    assert first["problems"][0]["file"] == str(bad)


def test_check_with_settings(edgefx: Edgefx) -> None:
    outcome = edgefx("recipe", "check", "digits-demo", "--set", "gates.max_drop=1")
    assert outcome.code == 2
    assert (
        "--set: max_drop: 1: the unit is missing\n  | gates.max_drop=1\n  |                ^\n" in outcome.err
    )
    assert edgefx("recipe", "check", "b0-tflite-int8", "--set", "calibration.images=.").code == 0


def test_schema(edgefx: Edgefx) -> None:
    plain = edgefx("recipe", "schema")
    assert plain.code == 0
    assert json.loads(plain.out)["properties"]["version"]["const"] == 1
    assert edgefx("recipe", "schema", "--json").out == plain.out


def test_init_never_replaces_a_file_unasked(edgefx: Edgefx, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    outcome = edgefx("recipe", "init", "digits", "--output", str(path))
    assert (outcome.code, outcome.out) == (0, f"wrote {path}\n")
    assert edgefx("recipe", "check", str(path)).code == 0
    path.write_text("precious")
    refused = edgefx("recipe", "init", "digits", "--output", str(path))
    assert refused.code == 2
    assert "exists already" in refused.err
    assert path.read_text() == "precious"
    assert edgefx("recipe", "init", "digits", "--output", str(path), "--force", "--json").code == 0
    assert "version: 1" in path.read_text()


def test_init_takes_folders_as_arguments_and_as_options(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        Path(name, "cat").mkdir(parents=True)
        Path(name, "cat", "a.png").write_bytes(b"")
    written = []
    for folders in (("train", "test"), ("train", "--eval", "test"), ("--calib", "train", "--eval", "test")):
        outcome = edgefx("recipe", "init", "b0", *folders, "-o", "r.yaml", "--force")
        assert outcome.code == 0
        assert "evaluation images: test" in outcome.err
        written.append(Path("r.yaml").read_text())
    assert "calibration:\n  images: train\n" in written[0]
    assert "evaluate:\n  images: test\n" in written[0]
    assert len(set(written)) == 1
    twice = edgefx("recipe", "init", "b0", "train", "test", "--eval", "test", "-o", "s.yaml")
    assert twice.code == 2
    assert "EVALUATION and --eval are the same folder" in twice.err
    assert not Path("s.yaml").exists()


def test_unknown_names(edgefx: Edgefx) -> None:
    assert "did you mean check" in edgefx("recipe", "chek").err
    assert "did you mean digits-demo" in edgefx("recipe", "show", "digit-demo").err
    assert edgefx("run", "digits-demo", "--set", "x").code == 2


# --------------------------------------------------------------------------------------------- compile, run


def test_dumped_flags_are_the_same_recipe(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.cli.compile import _options, command
    from edgefx.recipe.load import parse
    from edgefx.recipe.options import document

    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = [
        "b0", "-t", "tflite-int8", "-t", "onnx-*", "--calib", "photos", "--samples", "20", "--eval", "test",
        "--eval-limit", "50", "--weights", "random", "--classes", "5", "--input-size", "64",
        "--effort", "high", "--resize", "crop", "--skip-bad-images", "--threads", "2",
        "--rounds", "7", "--max-drop", "0.5%", "--max-p95-ms", "20", "--max-size", "1.5MiB", "--seed", "4",
        "-o", "there",
    ]  # fmt: skip
    outcome = edgefx("compile", *flags, "--dump-recipe", "sub/r.yaml")
    assert (outcome.code, outcome.out) == (0, "")
    with command.make_context("compile", list(flags)) as context:
        ignored = {"as_json", "report_files", "log_to", "dump_recipe", "dry_run", "no_cache", "resume"}
        ignored |= {"phi", "width", "depth", "resolution"}  # are said by the model's name
        wanted = {name: value for name, value in context.params.items() if name not in ignored}
    expected = parse(document({"model": wanted.pop("model"), **_options(**wanted)}), where="test")
    again = load(Path("sub/r.yaml"))
    changed = {"calibration": again.calibration, "evaluate": again.evaluate}
    assert again.model_dump() == expected.model_copy(update=changed).model_dump()
    assert again.calibration is not None
    assert again.evaluate is not None
    assert again.calibration.images is not None
    assert again.calibration.images.resolve() == tmp_path / "photos"
    assert again.evaluate.limit == 50

    refused = edgefx("compile", *flags, "--dump-recipe", "sub/r.yaml")
    assert refused.code == 2
    assert "exists already" in refused.err


def test_flags_of_training(edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    flags = ["--qat", "distill", "--train", "photos", "--epochs", "3", "--max-drop", "1pp"]
    outcome = edgefx("compile", "digits", "-t", "tflite-int8", *flags, "--dump-recipe")
    assert outcome.code == 0
    document = yaml.safe_load(outcome.out)
    quantize = document["quantize"]
    assert (quantize["method"], quantize["epochs"]) == ("qat", 3)
    assert "budget" not in quantize  # nothing is searched for: the gate judges what was trained
    assert document["gates"] == {"max_drop": "1pp"}

    lonely = edgefx("compile", "digits", "-t", "tflite-int8", "--batch-size", "8")
    assert lonely.code == 2
    assert "--batch-size is for training" in lonely.err


def test_a_dumped_recipe_in_json_is_one_document_and_a_recipe(edgefx: Edgefx, tmp_path: Path) -> None:
    dumped = edgefx("compile", "digits", "-t", "tflite-int8", "--effort", "fast", "--dump-recipe", "--json")
    assert json.loads(dumped.out)["quantize"]["effort"] == "fast"
    (tmp_path / "r.yaml").write_text(dumped.out)
    assert edgefx("recipe", "check", str(tmp_path / "r.yaml")).code == 0


def test_dump_on_stdout(edgefx: Edgefx) -> None:
    outcome = edgefx("compile", "digits", "-t", "tflite-int8", "--no-eval", "--no-benchmark", "--dump-recipe")
    assert outcome.code == 0
    document = yaml.safe_load(outcome.out)
    assert document == {
        "version": 1,
        "model": "digits",
        "targets": ["tflite-int8"],
        "evaluate": None,
        "benchmark": None,
    }


@pytest.mark.parametrize("argv", [("run", "digits-demo"), ("compile", "digits", "-t", "tflite-int8")])
def test_dry_run_refuses_and_shows_report_files_as_the_run_does(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "cache"))
    outcome = edgefx(*argv, "--dry-run", "--report", "junit.pdf")
    assert outcome.code == 2
    assert "--report junit.pdf: the suffix must name a format" in outcome.err
    outcome = edgefx(*argv, "--dry-run", "--report", "ci/report.md")
    assert outcome.code == 0
    assert "report.json, ci/report.md" in outcome.out


@pytest.mark.parametrize("argv", [("run", "digits-demo"), ("compile", "digits", "-t", "*-int8")])
def test_dry_run_shows_every_stage_and_does_nothing(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "cache"))
    outcome = edgefx(*argv, "--dry-run", "-o", "out")
    assert outcome.code == 0
    for word in ("tflite-int8", "onnx-int8", "openvino-int8", "load", "convert", "evaluate", "benchmark"):
        assert word in outcome.out
    assert not (tmp_path / "out").exists()
    (view,) = json.loads(edgefx(*argv, "--dry-run", "-o", "out", "--json").out)
    assert view["output"] == "out"
    stages = [(step["stage"], step["target"]) for step in view["steps"]]
    assert stages[0] == ("load", "")
    assert ("convert", "openvino-int8") in stages
    assert stages[-1] == ("report", "")
