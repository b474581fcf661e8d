"""The main job end to end: the embedded model, all targets, real runtimes, real images."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from edgefx import runtimes
from edgefx.system import resources
from edgefx.targets import TARGETS
from tests.documents import violations

from .conftest import Finished

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels


def _by_target(run: Finished) -> dict[str, Any]:
    return {result["target"]: result for result in run.json["targets"]}


def test_succeeds_and_writes_what_it_prints(everything: tuple[Finished, Path]) -> None:
    run, out = everything
    assert run.code == 0, run.stderr
    # The file names artifacts relative to its folder, so that the folder can be moved; stdout in full.
    assert (out / "report.json").read_text().strip() == run.stdout.strip().replace(f"{out}{os.sep}", "")
    assert set(_by_target(run)) == set(TARGETS)


def test_nothing_but_artifacts_report_and_log_is_left(everything: tuple[Finished, Path]) -> None:
    _, out = everything
    suffixes = {".tflite", ".onnx", ".xml", ".bin", ".json", ".log", ".txt"}
    assert {path.suffix for path in out.iterdir()} == suffixes
    assert len(list(out.glob("*.xml"))) == len(list(out.glob("*.bin"))) == 4


def test_report_and_lock_are_as_their_schemas_say(everything: tuple[Finished, Path]) -> None:
    _, out = everything
    for name, schema in (("report.json", "report.schema.json"), ("edgefx.lock.json", "lock.schema.json")):
        assert violations(schema, json.loads((out / name).read_text(encoding="utf-8"))) == []


def test_hashes_and_sizes_are_those_of_the_files(everything: tuple[Finished, Path]) -> None:
    run, out = everything
    for result in run.json["targets"]:
        for file in result["artifact"]["files"]:
            content = (out / Path(file["path"]).name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert len(content) == file["size_bytes"]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_accuracy(everything: tuple[Finished, Path], target: str) -> None:
    accuracy = _by_target(everything[0])[target]["accuracy"]
    on_a_sample = target == "tflite-int16x8"  # whose kernels are slow
    assert (accuracy["images"], accuracy["sampled_of"]) == ((100, 360) if on_a_sample else (360, None))
    assert accuracy["baseline_top1"] >= 0.97
    if target.endswith("float32"):
        assert accuracy["drop_pp"] == 0
        assert accuracy["agreement"] == 1.0
        assert accuracy["max_abs_dp"] < 1e-3
    else:
        assert accuracy["drop_pp"] <= 1.5
        assert accuracy["agreement"] >= 0.97
    # uint8 scores; the float model's are rounded to the same steps before KL is computed.
    assert accuracy["score_step"] == (1 / 256 if target == "tflite-int8" else None)
    assert accuracy["mean_kl"] < 0.02


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_latency_was_measured(everything: tuple[Finished, Path], target: str) -> None:
    latency = _by_target(everything[0])[target]["latency"]
    assert 0 < latency["min_ms"] <= latency["p50_ms"] <= latency["p95_ms"]
    assert latency["cold_start_ms"] >= latency["min_ms"]
    assert latency["peak_memory_mb"] > 10
    assert latency["ratio_to_float"] > 0


def test_int8_tflite_is_fully_integer(everything: tuple[Finished, Path]) -> None:
    artifact = _by_target(everything[0])["tflite-int8"]["artifact"]
    assert artifact["compute_float"] == 0
    assert artifact["inputs"][0]["dtype"] == artifact["outputs"][0]["dtype"] == "uint8"
    assert artifact["inputs"][0]["name"] == "image"
    assert artifact["outputs"][0]["name"] == "probabilities"
    names = {entry["op"] for entry in artifact["ops"]}
    assert not names & {"SHAPE", "STRIDED_SLICE", "PACK", "CUSTOM"}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_features_are_those_of_the_float_model(
    everything: tuple[Finished, Path], target: str, tmp_path: Path
) -> None:
    pixels = _digits()[::12]
    run, out = everything
    exact, found = (
        _answers(run, out, name, pixels, cut_in=tmp_path) for name in ("openvino-float32", target)
    )
    assert found.shape == (30, 320)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.9


def test_features_are_what_the_last_layer_makes_scores_of(
    everything: tuple[Finished, Path], tmp_path: Path
) -> None:
    """More images than features: only a linear layer's input explains all logits to the last digits."""
    pixels = _digits()
    features = _answers(*everything, "openvino-float32", pixels, cut_in=tmp_path)
    logits = np.log(_answers(*everything, "openvino-float32", pixels).astype(np.float64))
    logits -= logits.mean(1, keepdims=True)
    points = np.concatenate([features, np.ones((360, 1), np.float32)], 1).astype(np.float64)
    solved = np.linalg.lstsq(points, logits, rcond=None)[0]
    assert np.abs(points @ solved - logits).max() < 1e-3 * np.abs(logits).max()


def _digits() -> Pixels:
    paths = sorted((resources.folder("calibration") / "digits" / "val").glob("*/*.png"))
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in paths])


def _answers(
    run: Finished, out: Path, target: str, pixels: Pixels, *, cut_in: Path | None = None
) -> NDArray[np.float32]:
    path = out / Path(_by_target(run)[target]["artifact"]["files"][0]["path"]).name
    runtime = runtimes.for_artifact(path)
    if cut_in is not None:
        assert runtime.write_features(path, cut_in / path.name)
        path = cut_in / path.name
    with runtime.open_session(path, threads=1) as session:
        return session.infer(pixels)


def test_the_canonical_graph_equals_the_model(everything: tuple[Finished, Path]) -> None:
    assert everything[0].json["canonical_max_abs_dp"] <= 1e-5


def test_calibration_and_evaluation_are_recorded(everything: tuple[Finished, Path]) -> None:
    data = {entry["role"]: entry for entry in everything[0].json["data"]}
    assert data["calibration"]["images"] == 100
    assert data["evaluation"]["images"] == 360
    assert data["calibration"]["sha256"] != data["evaluation"]["sha256"]
    assert data["evaluation"]["resize"] == "stretch"
