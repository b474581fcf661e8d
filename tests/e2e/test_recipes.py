"""Recipes run for real: the demo as it ships, and a matrix with a run that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Finished, in_process

pytestmark = pytest.mark.usefixtures("digits_once")

# Whatever else this machine does: what is noisy would not be kept.
ROUNDS = (
    "--set",
    "benchmark.rounds=20",
    "--set",
    "benchmark.min_seconds=0",
    "--set",
    "benchmark.max_noise=100",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """`digits-demo`, with fewer timed rounds and a report in Markdown."""
    out = tmp_path_factory.mktemp("demo") / "out"
    settings = (*ROUNDS, "--set", "report.formats=[markdown]")
    return in_process("run", "digits-demo", *settings, "-o", out, "--json", env=_cache(out)), out


def _cache(out: Path) -> dict[str, str]:
    """A cache of this module's own; the tests' process has it off."""
    return {"EDGEFX_CACHE_DIR": str(out.parent / "cache"), "EDGEFX_CACHE_SIZE": "1GB"}


def test_the_demo_meets_its_gates(demo: tuple[Finished, Path]) -> None:
    run, out = demo
    assert run.code == 0, run.stderr
    targets = {one["target"]: one for one in run.json["targets"]}
    assert list(targets) == ["tflite-int8", "onnx-int8", "openvino-int8"]
    for one in targets.values():
        assert one["verdict"] == "PASS"
        assert one["search"]["limit"] == {"value": 2.0, "unit": "pp"}
        assert {gate["gate"]["metric"] for gate in one["gates"]} == {"drop_pp", "size_bytes"}
    assert "| tflite-int8" in (out / "report.md").read_text()


def test_then_a_dry_run_shows_all_of_it_as_cached(demo: tuple[Finished, Path], tmp_path: Path) -> None:
    run, out = demo
    assert run.code == 0
    settings = (*ROUNDS, "-o", tmp_path / "never", "--json")
    (view,) = in_process("run", "digits-demo", *settings, "--dry-run", env=_cache(out)).json
    states = {(step["stage"], step["target"]): step["cached"] for step in view["steps"]}
    never_kept = {stage for stage in states if stage[0] in ("gate", "report")}
    assert {stage: state for stage, state in states.items() if state is not True} == dict.fromkeys(never_kept)
    (changed,) = in_process(
        "run", "digits-demo", *settings, "--dry-run", "--set", "quantize.effort=high", env=_cache(out)
    ).json
    assert {step["cached"] for step in changed["steps"] if step["stage"] == "convert"} == {False}
    assert not (tmp_path / "never").exists()


def test_flags_and_the_recipe_that_they_dump_do_the_same(tmp_path: Path) -> None:
    flags = ("digits", "-t", "tflite-int8", "--effort", "fast", "--samples", "30", "--no-benchmark")
    recipe = tmp_path / "r.yaml"
    assert in_process("compile", *flags, "--dump-recipe", recipe).code == 0
    results = [
        in_process("compile", *flags, "-o", tmp_path / "flags", "--json"),
        in_process("run", recipe, "-o", tmp_path / "recipe", "--json"),
    ]
    first, second = (run.json["targets"][0] for run in results)
    assert first["artifact"]["files"][0]["sha256"] == second["artifact"]["files"][0]["sha256"]
    assert first["accuracy"]["top1"] == second["accuracy"]["top1"]


def test_options_of_single_targets_reach_the_artifacts(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        """\
version: 1
model: digits
quantize: {effort: fast, ranges: min-max}
targets:
  - '*-int8'
  - {target: tflite-int8, io_dtype: int8, ranges: percentile, gates: {max_size: 1kB}}
  - {target: onnx-int8, ranges: mse, keep_float: 'kind:Dense'}
benchmark: null
evaluate: {limit: 100}
"""
    )
    run = in_process("run", recipe, "-o", tmp_path / "out", "--json")
    assert run.code == 1, run.stderr
    targets = {one["target"]: one for one in run.json["targets"]}
    assert targets["tflite-int8"]["artifact"]["inputs"][0]["dtype"] == "int8"
    assert targets["onnx-int8"]["artifact"]["inputs"][0]["dtype"] == "float32"
    assert [name for name, one in targets.items() if one["verdict"]] == ["tflite-int8"]
    assert targets["tflite-int8"]["verdict"] == "FAIL"
    assert all(one["accuracy"]["top1"] > 0.9 for one in targets.values())
    default = in_process(
        "run", recipe, "-o", tmp_path / "other", "--json", "--set", "targets=[tflite-int8, onnx-int8]",
        "--set", "quantize.ranges=auto",
    )  # fmt: skip
    hashes = [
        {one["target"]: one["artifact"]["files"][0]["sha256"] for one in result.json["targets"]}
        for result in (run, default)
    ]
    for name in ("tflite-int8", "onnx-int8"):
        assert hashes[0][name] != hashes[1][name]


def test_a_matrix_reports_on_all_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "many.yaml"
    recipe.write_text(
        """\
version: 1
model: digits
targets: [tflite-float16]
benchmark: null
output: out
matrix:
  model.input_size: [32, 40]
  evaluate.limit: [50]
"""
    )
    run = in_process("run", recipe, cwd=tmp_path)
    report = json.loads((tmp_path / "out" / "matrix.json").read_text())
    names = [one["name"] for one in report["runs"]]
    assert names == ["32_50", "40_50"]
    assert run.code == report["exit_code"] == max(one["exit_code"] for one in report["runs"])
    first = report["runs"][0]["report"]
    assert first["targets"][0]["accuracy"]["images"] == 50
    assert (tmp_path / "out" / "32_50" / "digits-float16.tflite").is_file()
    assert (tmp_path / "out" / "32_50" / "report.json").is_file()
    assert "| 32_50 | tflite-float16 |" in (tmp_path / "out" / "matrix.md").read_text()
    for name in names:
        assert name in run.stdout
    assert "Traceback" not in run.stderr
