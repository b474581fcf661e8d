"""evaluate, benchmark and inspect on a real artifact, as users run them; ONNX Runtime, but no TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefx.cli import run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

COLOURS = ("blue", "green", "red")  # class indices in sorted order


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that tells blue, green and red apart by the mean of each channel."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32) / 64
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 16, 24, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("artifact") / "colours-float32.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images a class; one of the red ones is green."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name in COLOURS:
        (root / name).mkdir()
        for number in range(4):
            shown = "green" if (name, number) == ("red", 3) else name
            pixels = generator.integers(0, 60, (20, 30, 3), np.uint8)
            pixels[..., ("red", "green", "blue").index(shown)] += 190
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_evaluate(artifact: Path, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(artifact), str(photos), "--json", "--threads", "1"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["images"] == 12
    assert found["top1"] == pytest.approx(11 / 12)
    assert found["top5"] is None
    assert found["comparison"] is None
    assert found["precision_ran"] == "float32"
    assert found["data"]["resize"] == "stretch"
    assert run(["evaluate", str(artifact), str(photos)]) == 0
    assert "91.67%" in capfd.readouterr().out


def test_evaluate_a_sample(artifact: Path, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(artifact), str(photos), "--limit", "6", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["images"] == 6
    assert found["data"]["note"].startswith("6 sampled of 12 images")


def test_evaluate_names_bad_images_or_counts_them(
    artifact: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in COLOURS:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "good.png").write_bytes((photos / name / "0.png").read_bytes())
    bad = tmp_path / "data" / "red" / "bad.png"
    bad.write_bytes((photos / "red" / "1.png").read_bytes()[:200])
    assert run(["evaluate", str(artifact), str(tmp_path / "data"), "--json"]) == 2
    captured = capfd.readouterr()
    assert json.loads(captured.out)["error"]["code"] == 2
    assert str(bad) in captured.err
    assert run(["evaluate", str(artifact), str(tmp_path / "data"), "--json", "--skip-bad-images"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["data"]["skipped"] == 1
    assert str(bad) in captured.err


def test_unlabelled_images_need_a_baseline(
    artifact: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes((photos / "red" / "0.png").read_bytes())
    assert run(["evaluate", str(artifact), str(tmp_path / "flat")]) == 2
    assert "--baseline MODEL" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["evaluate", "absent.onnx", "photos"], 2, "absent.onnx: no such file or folder"),
        (["evaluate", "ARTIFACT", "absent"], 2, "absent"),
        (["evaluate", "ARTIFACT", "PHOTOS", "--weights", "random"], 2, "--weights belongs to --baseline"),
        (["evaluate", "ARTIFACT", "PHOTOS", "--resize", "squash"], 2, "squash"),
        (["evaluate", "BROKEN", "PHOTOS"], 4, "broken.onnx"),
        (["benchmark", "absent.tflite"], 2, "absent.tflite: no such file or folder"),
        (["benchmark", "PHOTOS"], 2, "not an artifact edgefx can open"),
        (["benchmark"], 2, "ARTIFACTS"),
        (["inspect", "absent.xml"], 2, "absent.xml: no such file or folder"),
        (["inspect", "BROKEN"], 4, "broken.onnx"),
        (["inspect", "ARTIFACT", "--layers"], 2, "is an artifact"),
    ],
)
def test_bad_input(
    *,
    artifact: Path,
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    said: str,
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(artifact.read_bytes()[:100])
    names = {"ARTIFACT": str(artifact), "PHOTOS": str(photos), "BROKEN": str(broken)}
    assert run([names.get(word, word) for word in argv]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_an_artifact_with_other_classes_is_refused(
    artifact: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in (*COLOURS, "yellow"):
        (tmp_path / "data" / name).mkdir()
        (tmp_path / "data" / name / "a.png").write_bytes((photos / "red" / "0.png").read_bytes())
    assert run(["evaluate", str(artifact), str(tmp_path / "data")]) == 2
    assert "4" in capfd.readouterr().err


def test_inspect(artifact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(artifact), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["kind"] == "artifact"
    assert found["artifact"]["inputs"][0]["shape"] == [1, 16, 24, 3]
    assert found["artifact"]["compute_int8"] == 0
    assert {entry["op"] for entry in found["artifact"]["ops"]} == {"ReduceMean", "MatMul", "Softmax"}
    assert run(["inspect", str(artifact)]) == 0
    table = capfd.readouterr().out
    assert "image float32 [1, 16, 24, 3]" in table
    assert "ReduceMean" in table
    assert f"({artifact.stat().st_size} bytes)" in table


def test_benchmark_goes_on_after_a_failure_and_says_so(
    artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "colours-int8.onnx"
    other.write_bytes(artifact.read_bytes())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(artifact.read_bytes()[:100])
    argv = [
        "benchmark",
        str(artifact),
        str(other),
        str(broken),
        "--rounds",
        "20",
        "--min-seconds",
        "0",
        "--threads",
        "1",
        "--json",
    ]
    assert run(argv) == 4
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert list(found["latencies"]) == [str(artifact), str(other)]
    assert list(found["failures"]) == [str(broken)]
    assert str(broken) in captured.err
    latency = found["latencies"][str(other)]
    assert latency["rounds"] == 20
    assert latency["device"] == "host"
    assert latency["ratio_to_float"] > 0
    assert latency["p50_ms"] <= latency["p95_ms"]
