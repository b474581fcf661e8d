"""Fewer channels through a whole run: for every runtime, measured against the model as it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Finished, in_process

pytestmark = pytest.mark.usefixtures("digits_once")

OPTIONS = ("-t", "tflite-int8,onnx-float32", "--prune", "channels:15%/8", "--effort", "fast", "--json")
QUICK = ("--rounds", "10", "--min-seconds", "0")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"EDGEFX_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "EDGEFX_CACHE_SIZE": "1GB"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: dict[str, str]) -> tuple[Finished, Path]:
    out = tmp_path_factory.mktemp("channels") / "out"
    return in_process("compile", "digits", *OPTIONS, *QUICK, "-o", out, env=cache), out


@pytest.fixture(scope="module")
def effects(run: tuple[Finished, Path]) -> dict[str, Any]:
    done, _ = run
    assert done.code == 0, done.stderr
    return {one["target"]: one["compression"] for one in done.json["targets"]}


def test_every_target_is_smaller_and_says_what_it_lost(effects: dict[str, Any]) -> None:
    removals = [effect["removal"] for effect in effects.values()]
    assert removals[0]["blocks"] == removals[1]["blocks"]
    assert all(block["after"] % 8 == 0 for block in removals[0]["blocks"])
    assert removals[0]["parameters_after"] <= 0.85 * removals[0]["parameters_before"]
    assert removals[0]["macs_after"] < removals[0]["macs_before"]
    for effect in effects.values():
        before, after = effect["before"], effect["after"]
        assert effect["asked"] == "--prune channels:15%/8"
        assert after["footprint"]["zipped_bytes"] < 0.93 * before["footprint"]["zipped_bytes"]
        assert effect["images"] == 360
        assert abs(before["drop_pp"]) < 2
        assert after["drop_pp"] < 8
        assert effect["removal"]["drop_pp"] < 8
        assert before["p50_ms"] > 0
        assert after["p50_ms"] > 0
    # The float artifact differs from the graph by rounding only.
    assert effects["onnx-float32"]["after"]["drop_pp"] == removals[1]["drop_pp"]


def test_the_graph_that_is_compared_with_the_model_is_the_whole_one(run: tuple[Finished, Path]) -> None:
    assert run[0].json["canonical_max_abs_dp"] < 1e-5
    assert set(run[0].json["model"]) >= {"macs"}
    names = {path.name for path in run[1].iterdir() if path.suffix in (".tflite", ".onnx")}
    assert names == {"digits-int8.tflite", "digits-float32.onnx"}, "not those that were compared with"


def test_again_all_of_it_comes_from_the_cache(
    effects: dict[str, Any], cache: dict[str, str], tmp_path: Path
) -> None:
    again = in_process("compile", "digits", *OPTIONS, "--no-benchmark", "-o", tmp_path / "again", env=cache)
    assert again.code == 0, again.stderr
    assert not [one for one in again.json["timings"] if one["stage"] in ("convert", "canonicalize")]
    assert [one["compression"]["removal"] for one in again.json["targets"]] == [
        effect["removal"] for effect in effects.values()
    ]
