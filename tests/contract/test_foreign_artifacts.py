"""Artifacts that other tools made: what they say of themselves is used, and what they do not say is asked."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgefx
from edgefx.cli import run
from edgefx.runtimes.tflite import foreign, tables
from edgefx.runtimes.tflite.tables import Number, Table
from edgefx.types import ForeignMetadata
from edgefx.views import ArtifactInspection

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SHADES = {"dark": 20, "even": 128, "light": 235}
SIDE = 8


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark, even and light images, 16 of each, in folders."""
    root = tmp_path_factory.mktemp("shades")
    generator = np.random.default_rng(0)
    for name, level in SHADES.items():
        (root / name).mkdir()
        for number in range(16):
            pixels = level + generator.integers(-20, 20, (SIDE, SIDE, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def numbered(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images with class indices."""
    root = tmp_path_factory.mktemp("numbered")
    rows = ["file,label"]
    for label, name in enumerate(SHADES):
        for path in sorted((shades / name).iterdir()):
            (root / f"{name}{path.name}").symlink_to(path)
            rows.append(f"{name}{path.name},{label}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def classifier(
    path: Path,
    *,
    background: bool = False,
    first: bool = False,
    channels: int = 3,
    order: tuple[int, ...] = (0, 1, 2),
    said: dict[str, str] | None = None,
    batch: int | str = "batch",
) -> Path:
    """Write an ONNX file that tells the shades apart, of pixels from -1 to 1."""
    from onnx import TensorProto, helper, numpy_helper

    slope, bias = np.array([-4.0, 0.0, 4.0])[list(order)], np.array([-1.0, 0.0, -1.0])[list(order)]
    if background:
        slope, bias = np.r_[0.0, slope], np.r_[-9.0, bias]
    shape: list[int | str] = [SIDE, SIDE, channels]
    shape = [batch, *(shape[-1:] + shape[:-1] if first else shape)]
    constants = {"slope": slope[None].astype(np.float32), "bias": bias.astype(np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
            helper.make_node("MatMul", ["column", "slope"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["sum"]),
            helper.make_node("Softmax", ["sum"], ["y"], axis=1),
        ],
        "shades",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, len(bias)])],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said or {})
    onnx.save(model, path)
    return path


# -------------------------------------------------------------------------------------------------- asked


@pytest.mark.parametrize(
    ("made", "images", "said"),
    [
        ({}, "shades", "say --pixels -1..1, or --pixels imagenet; or --pixels 0..255 to read it as it is"),
        ({"first": True}, "shades", "say --pixels -1..1, or --pixels imagenet; or"),
        ({"channels": 1}, "numbered", "say --pixels -1..1; or"),
        ({"background": True}, "shades", "--background"),
        (
            {"background": True},
            "numbered",
            "say --pixels -1..1 --background, or --pixels imagenet --background; or --pixels 0..255 ",
        ),
    ],
    ids=["pixels", "nchw", "grey", "background by count", "both"],
)
def test_another_reading_is_asked_for(
    *,
    made: dict[str, Any],
    images: str,
    said: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = classifier(tmp_path / "shades.onnx", **made)
    assert run(["evaluate", str(path), str(request.getfixturevalue(images))]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert said in " ".join(captured.err.split())
    if images == "numbered" and made.get("background"):
        assert "right on 0, and on 48 when read" in " ".join(captured.err.split())


@pytest.mark.parametrize(
    ("made", "given", "right"),
    [
        ({}, {"pixels": "-1..1"}, 1),
        ({}, {"pixels": "mean=127.5/std=127.5,127.5,127.5"}, 1),
        ({"first": True}, {"pixels": "-1..1"}, 1),
        ({"channels": 1}, {"pixels": "-1..1"}, 1),
        ({"background": True}, {"pixels": "-1..1", "background": True}, 1),
        ({}, {"pixels": "0..255"}, 1 / 3),
        ({"said": {"Image.NominalPixelRange": "Normalized_1_1"}}, {}, 1),
        ({"said": {"Image.NominalPixelRange": "Normalized_1_1"}}, {"pixels": "0..255"}, 1 / 3),
    ],
)
def test_it_is_read_as_the_user_or_the_file_says(
    made: dict[str, Any], given: dict[str, Any], right: float, tmp_path: Path, shades: Path
) -> None:
    path = classifier(tmp_path / "shades.onnx", **made)
    assert edgefx.evaluate(path, shades, threads=1, **given).top1 == pytest.approx(right)


def test_openvino_names_are_those_of_the_folders(tmp_path: Path, shades: Path) -> None:
    ov = pytest.importorskip("openvino")
    source = classifier(tmp_path / "shades.onnx", order=(2, 0, 1))
    model = ov.convert_model(source)
    model.set_rt_info("light dark even", ["model_info", "labels"])
    model.set_rt_info("127.5 127.5 127.5", ["model_info", "mean_values"])
    model.set_rt_info("127.5", ["model_info", "scale_values"])
    ov.save_model(model, tmp_path / "shades.xml")
    found = edgefx.inspect(tmp_path / "shades.xml")
    assert isinstance(found, ArtifactInspection)
    assert found.foreign == ForeignMetadata(
        class_names=("light", "dark", "even"), mean=(127.5,) * 3, deviation=(127.5,)
    )
    assert edgefx.evaluate(tmp_path / "shades.xml", shades, threads=1).top1 == 1


# -------------------------------------------------------------------------------------------------- TFLite


def tflite(function: Callable[..., Any], *shapes: tuple[int | None, ...], **options: Any) -> bytes:
    """Convert a function of float tensors with TensorFlow's own converter."""
    tf = pytest.importorskip("tensorflow")
    concrete = tf.function(function).get_concrete_function(
        *(tf.TensorSpec(one, tf.float32) for one in shapes)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    for name, value in options.items():
        setattr(converter, name, value)
    content: bytes = converter.convert()
    return content


def shade(image: Any) -> Any:
    """Answer (background, light, dark, even) of pixels from -1 to 1."""
    tf = pytest.importorskip("tensorflow")
    mean = tf.reduce_mean(image, axis=[1, 2, 3])[:, None]
    return tf.nn.softmax(mean * [[0.0, 4.0, -4.0, 0.0]] + [[-9.0, -1.0, -1.0, 0.0]])


def with_metadata(content: bytes, names: str, *, mean: float = 127.5) -> bytes:
    """Add TFLite Model Metadata, laid out as TensorFlow's writer does: a buffer, and an archive behind."""
    from ai_edge_litert import schema_py_generated as schema

    from edgefx.runtimes.tflite import flatbuffer

    options: Table = {0: (mean,), 1: (127.5,)}
    image: Table = {0: "image", 4: [{0: Number("B", 1), 1: options}]}
    scores: Table = {0: "probability", 6: [{0: "labels.txt", 2: Number("B", 2)}]}
    stated = tables.flatbuffer(b"M001", {0: "shades", 3: [{2: [image], 3: [scores]}]})
    model = flatbuffer.read(content)
    buffer = schema.BufferT()
    buffer.data = list(stated)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    stream = io.BytesIO()
    stream.write(flatbuffer.write(model))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", names)
    return stream.getvalue()


@pytest.fixture(scope="module")
def float_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tflite") / "shades.tflite"
    path.write_bytes(with_metadata(tflite(shade, (1, SIDE, SIDE, 3)), "background\nlight\ndark\neven\n"))
    return path


def test_tflite_metadata_say_pixels_names_and_background(
    float_tflite: Path, shades: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(float_tflite), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["foreign"] == {
        "class_names": ["background", "light", "dark", "even"],
        "mean": [127.5],
        "deviation": [127.5],
    }
    assert run(["inspect", str(float_tflite)]) == 0
    assert "4: background, light, dark, even, says the file" in capfd.readouterr().out
    found = edgefx.evaluate(float_tflite, shades, threads=1)
    assert found.top1 == 1
    assert any("names its class 0 'background'" in note for note in found.notes)
    assert any("--pixels 0..255 overrules" in note for note in found.notes)


@pytest.mark.parametrize("damage", ["cut", "names", "infinite"])
def test_damaged_metadata_are_refused_or_left_out(float_tflite: Path, tmp_path: Path, damage: str) -> None:
    content = float_tflite.read_bytes()
    path = tmp_path / "shades.tflite"
    if damage == "cut":  # the archive with the names
        path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
        assert foreign.read(path) == ForeignMetadata(mean=(127.5,), deviation=(127.5,))
    elif damage == "names":
        path.write_bytes(with_metadata(tflite(shade, (1, SIDE, SIDE, 3)), "\x1b[31m" + "x" * 10**6))
        (name,) = foreign.read(path).class_names
        assert len(name) <= 200
        assert name.isprintable()
    else:
        path.write_bytes(with_metadata(tflite(shade, (1, SIDE, SIDE, 3)), "a", mean=float("inf")))
        assert foreign.read(path) == ForeignMetadata(class_names=("a",))


def test_a_quantized_input_takes_pixels_as_they_are_stored(tmp_path: Path, shades: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)

    def examples() -> Any:
        for level in np.linspace(-1, 1, 20):
            yield [np.clip(level + rng.normal(0, 0.1, (1, SIDE, SIDE, 3)), -1, 1).astype(np.float32)]

    path = tmp_path / "shades.tflite"
    path.write_bytes(
        tflite(
            lambda image: shade(image)[:, 1:],
            (1, SIDE, SIDE, 3),
            optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=examples,
            inference_input_type=tf.uint8,
            inference_output_type=tf.uint8,
        )
    )
    names = tmp_path / "images"  # whose folders sort as the outputs do
    names.mkdir()
    for place, name in enumerate(("light", "dark", "even")):
        (names / f"{place}").symlink_to(shades / name)
    found = edgefx.evaluate(path, names, threads=1)
    assert found.top1 == 1
    assert any("pixels are given to it as they are stored" in note for note in found.notes)


# ------------------------------------------------------------------------------- what is no classifier


def test_a_detector_is_inspected_and_timed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["scores"], axes=[2, 3], keepdims=0),
            helper.make_node("Add", ["sizes", "sizes"], ["boxes"]),
        ],
        "detector",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16]),
            helper.make_tensor_value_info("sizes", TensorProto.INT64, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("boxes", TensorProto.INT64, [1, 2]),
        ],
    )
    path = tmp_path / "detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    files = [path]
    try:
        import openvino as ov
    except ImportError:
        pass
    else:
        files.append(tmp_path / "detector.xml")
        ov.save_model(ov.convert_model(path), files[-1])
    assert run(["inspect", str(path)]) == 0
    assert "sizes int64 [1, 2]" in capfd.readouterr().out
    found = edgefx.benchmark(files, rounds=5, min_seconds=0, warmup=0, threads=1)
    assert not found.failures
    assert {latency.rounds for latency in found.latencies.values()} == {5}
    assert run(["evaluate", str(path), str(tmp_path)]) == 4
    assert "2 inputs and 2 outputs" in capfd.readouterr().err


def test_a_tflite_of_several_outputs_is_timed(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(tflite(lambda image: (image * 2.0, image[:, 0]), (1, 4, 4, 5)))
    found = edgefx.benchmark(path, rounds=5, min_seconds=0, warmup=0, threads=1)
    assert not found.failures
    assert found.latencies[str(path)].precision_ran == "float32"


def free_onnx(path: Path) -> Path:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["scores"], axes=[2, 3], keepdims=0)],
        "free",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def free_tflite(path: Path) -> Path:
    tf = pytest.importorskip("tensorflow")
    kernel = np.ones((3, 3, 3, 3), np.float32)

    def function(image: Any) -> Any:
        return tf.reduce_mean(tf.nn.conv2d(image, kernel, 2, "VALID"), axis=[1, 2])

    path.write_bytes(tflite(function, (None, None, None, 3)))
    return path


@pytest.mark.parametrize(
    ("made", "shape"),
    [(free_onnx, "image float32 [1, 3, -1, -1]"), (free_tflite, "float32 [1, -1, -1, 3]")],
    ids=["onnx", "tflite"],
)
def test_free_sizes_are_inspected_and_refused_where_they_are_run(
    made: Callable[[Path], Path], shape: str, tmp_path: Path, shades: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / made.__name__.replace("_", "."))
    assert run(["inspect", str(path)]) == 0
    assert shape in capfd.readouterr().out
    assert run(["evaluate", str(path), str(shades)]) == 4
    assert "of a fixed size" in " ".join(capfd.readouterr().err.split())
    assert run(["benchmark", str(path)]) == 4
    assert "export it with a fixed size" in " ".join(capfd.readouterr().err.split())


def test_a_fixed_batch_is_told_of_where_it_is_timed(tmp_path: Path) -> None:
    path = classifier(tmp_path / "four.onnx", batch=4)
    found = edgefx.benchmark(path, rounds=5, min_seconds=0, warmup=0, threads=1)
    assert found.notes == (f"{path}: takes 4 images at a time: its latency is that of all 4",)


def test_what_is_no_classifier_may_have_another_task(
    tmp_path: Path, shades: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = classifier(tmp_path / "vector.onnx", order=(2, 0, 1, 2, 0))  # the largest value is of no class
    assert run(["evaluate", str(path), str(shades)]) == 2
    assert "say of what: --task embedding" in " ".join(capfd.readouterr().err.split())
    assert edgefx.evaluate(path, shades, threads=1, pixels="-1..1", task="embedding").top1 == 1


def test_a_quantity_is_measured_as_it_is(tmp_path: Path, numbered: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "light.tflite"
    path.write_bytes(tflite(lambda image: tf.reduce_mean(image, axis=[1, 2, 3])[:, None], (1, SIDE, SIDE, 3)))
    rows = ["file,label"]
    for place in sorted(numbered.glob("*.png")):
        (tmp_path / place.name).symlink_to(place.resolve())
        rows.append(f"{place.name},{np.asarray(Image.open(place)).mean()}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    figures = edgefx.evaluate(path, tmp_path, threads=1, task="regression").figures
    assert figures is not None
    assert figures.r2 == pytest.approx(1)
    assert figures.mae == pytest.approx(0, abs=1e-3)
