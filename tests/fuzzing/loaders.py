"""What reads files of others: how each is given valid files to start from, and how it is called.

An input is the files of one folder. `load` may return or raise an `EdgefxError`; all else is a finding.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import records
from .mutations import Files, read

CORPUS = Path(__file__).with_name("corpus")  # past findings: LOADER/NAME/files


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Something that reads files.

    Attributes:
        load: Reads the input in a folder.
        seeds: Valid inputs; may use the folder that it is given.
        imports_tensorflow: Whether it is slow to start.
    """

    load: Callable[[Path], object]
    seeds: Callable[[Path], list[Files]]
    imports_tensorflow: bool = False


# ---------------------------------------------------------------------------------------- images, labels


def _picture() -> Any:
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8))


def _images(_folder: Path) -> list[Files]:
    from PIL import Image

    image, seeds = _picture(), []
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[Any, str, dict[str, Any]]] = [
        (image, "PNG", {}),
        (image, "JPEG", {"exif": exif.tobytes()}),
        (image, "JPEG", {"progressive": True}),
        (image.convert("CMYK"), "JPEG", {}),
        (image, "WEBP", {"lossless": True}),
        (image, "BMP", {}),
        (image.convert("P"), "GIF", {}),
        (image.convert("P"), "PNG", {"transparency": 3}),
        (image.convert("LA"), "PNG", {}),
        (Image.fromarray(np.arange(99, dtype=np.uint16).reshape(9, 11) * 600), "PNG", {}),
        (image, "GIF", {"save_all": True, "append_images": [image]}),
    ]
    for one, form, options in forms:
        stream = io.BytesIO()
        one.save(stream, form, **options)
        seeds.append({"image": stream.getvalue()})
    return seeds


def _load_image(folder: Path) -> object:
    from edgefx.data.pixels import read
    from edgefx.types import Resize

    return [read(folder / "image", 8, 8, resize) for resize in Resize]


def _labels(_folder: Path) -> list[Files]:
    stream = io.BytesIO()
    _picture().save(stream, "PNG")
    tables = (
        "file,label\na.png,0\nb.png,1\n",
        "file,label,author\na.png,cat,x\nb.png,dog,y\n",
        '"file","label"\r\n"a.png","cat, ""x"""\r\nb.png,dog\r\n',
        "label,file\nn01440764,a.png\nn01443537,b.png\n",
        "file,label\na.png,3.0\nb.png,10.0\n",
    )
    return [{"labels.csv": text.encode(), "a.png": stream.getvalue(), "b.png": b""} for text in tables]


def _load_labels(folder: Path) -> object:
    from edgefx.data import calibration, folders
    from edgefx.types import Resize

    dataset = folders.check_labels(folders.scan(folder), 1000 if folder.name[-1:] in "02468ace" else 2)
    calibration.split(dataset, samples=1, seed=0)
    return folders.fingerprint(dataset, height=4, width=4, resize=Resize.STRETCH)


# -------------------------------------------------------------------------------------------------- models


def _keras_models(*names: str) -> Callable[[Path], list[Files]]:
    def seeds(folder: Path) -> list[Files]:
        from tests.contract.models_zoo import save_case

        found: list[Files] = []
        for name in names:
            path = save_case(name, folder)
            if path.is_file():
                found.append({f"model{path.suffix}": path.read_bytes()})
            else:
                found.append({f"model/{file}": content for file, content in read(path).items()})
        return found

    return seeds


def _load_model(name: str) -> Callable[[Path], object]:
    """Load a model, and run it once where it takes a small image."""

    def load(folder: Path) -> object:
        from edgefx.models.load import load

        loaded = load(str(folder / name))
        if max(loaded.spec.height, loaded.spec.width) > 512:
            return loaded
        return loaded.predict(np.zeros((1, loaded.spec.height, loaded.spec.width, 3), np.uint8))

    return load


# ----------------------------------------------------------------------------------------------- artifacts


def _onnx(_folder: Path) -> list[Files]:
    from tests.unit.test_hostile_artifacts import model

    external = np.ones(3, np.float32).tobytes()
    return [
        {"m.onnx": model()},
        {"m.onnx": model(shape=("batch", 4, 4, 3))},
        {"m.onnx": model(nested=True)},
        {"m.onnx": model(location="m.data"), "m.data": external},
        {"m.onnx": _quantized_onnx()},
    ]


def _quantized_onnx() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.array(0.02, np.float32), "scale"),
        numpy_helper.from_array(np.array(-3, np.int8), "zero"),
        numpy_helper.from_array(np.ones((2, 3, 1, 1), np.int8), "kernel"),
        numpy_helper.from_array(np.ones(2, np.float32), "scales"),
        numpy_helper.from_array(np.zeros(2, np.int8), "zeros"),
    ]
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2], name="transpose"),
        helper.make_node("QuantizeLinear", ["nchw", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["kernel", "scales", "zeros"], ["w"], axis=0, name="w"),
        helper.make_node("Conv", ["d", "w"], ["c"], kernel_shape=[1, 1], name="conv"),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2, 3], keepdims=0, name="mean"),
        helper.make_node("Softmax", ["m"], ["probabilities"], name="softmax"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 4, 4, 3]), ("probabilities", [1, 2]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


def _openvino(folder: Path) -> list[Files]:
    import openvino as ov

    from tests.unit.test_hostile_artifacts import model

    found = []
    for number, content in enumerate((model(), _quantized_onnx())):
        (folder / "m.onnx").write_bytes(content)
        ov.save_model(ov.convert_model(folder / "m.onnx"), folder / f"{number}.xml", compress_to_fp16=False)
        found.append(
            {
                "m.xml": (folder / f"{number}.xml").read_bytes(),
                "m.bin": (folder / f"{number}.bin").read_bytes(),
            }
        )
    return found


def _tflite(folder: Path) -> list[Files]:
    import tensorflow as tf

    keras = tf.keras
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    found = []
    for integer in (False, True):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if integer:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([np.full((1, 8, 8, 3), v, "f4")] for v in (0, 255))
            converter.inference_input_type = converter.inference_output_type = tf.uint8
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        found.append({"m.tflite": converter.convert()})
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _load_artifact(name: str) -> Callable[[Path], object]:
    """Read an artifact back, and run it once where it takes a small image."""

    def load(folder: Path) -> object:
        from edgefx import runtimes

        path = folder / name
        runtime = runtimes.for_artifact(path)
        artifact = runtime.describe(path)
        shape = artifact.inputs[0].shape if artifact.inputs else ()
        if len(shape) != 4 or not all(0 < size <= 512 for size in shape[1:]):
            return artifact
        with runtime.open_session(path, threads=1) as session:
            return session.infer(np.zeros((1, *shape[1:3], 3), np.uint8))

    return load


# -------------------------------------------------------------------------------------------------- recipes


def _recipes(_folder: Path) -> list[Files]:
    from edgefx.system import resources

    return [{"r.yaml": path.read_bytes()} for path in sorted(resources.folder("recipes").glob("*.yaml"))] + [
        {"r.yaml": _MATRIX}
    ]


_MATRIX = b"""\
version: 1
model: {source: digits, input_size: 32}
quantize: {method: qat, train: ., mode: distill, sizes: [32, 40], learning_rate: 1e-3}
targets: ['*-int8', {target: tflite-int8, effort: high, keep_float: [stem*], gates: {max_drop: 0.5%}}]
matrix:
  seed: [1, 2]
  targets: [[tflite-int8], 'onnx-*']
  exclude: [{seed: 1, targets: 'onnx-*'}]
gates: {max_size: 6MB, max_p95_ms: 20ms, min_images: 5}
output: ${OUT:-out}
"""


def _load_recipe(folder: Path) -> object:
    from edgefx.recipe import dump
    from edgefx.recipe.load import load_runs

    return [dump.to_yaml(run.recipe) for run in load_runs(folder / "r.yaml", [])]


LOADERS: dict[str, Loader] = {
    "images": Loader(load=_load_image, seeds=_images),
    "labels": Loader(load=_load_labels, seeds=_labels),
    "recipes": Loader(load=_load_recipe, seeds=_recipes),
    "lock": Loader(load=records.load_lock, seeds=records.lock),
    "report": Loader(load=records.load_report, seeds=records.report),
    "runs": Loader(load=records.load_runs, seeds=records.runs),
    "bundle": Loader(load=records.load_bundle, seeds=records.bundle),
    "rollout": Loader(load=records.load_rollout, seeds=records.rollout),
    "cache": Loader(load=records.load_cache, seeds=records.cache),
    "devices": Loader(load=records.load_devices, seeds=records.devices),
    "cards": Loader(load=records.load_cards, seeds=records.cards),
    "power": Loader(load=records.load_power, seeds=records.power),
    "conditions": Loader(load=records.load_conditions, seeds=records.conditions),
    "metadata": Loader(load=records.load_metadata, seeds=records.metadata),
    "onnx": Loader(load=_load_artifact("m.onnx"), seeds=_onnx),
    "openvino": Loader(load=_load_artifact("m.xml"), seeds=_openvino),
    "tflite": Loader(load=_load_artifact("m.tflite"), seeds=_tflite),
    "keras": Loader(
        load=_load_model("model.keras"),
        seeds=_keras_models("functional", "nested functional", "unusual layers"),
        imports_tensorflow=True,
    ),
    "h5": Loader(
        load=_load_model("model.h5"),
        seeds=_keras_models("nested functional h5", "tf_keras unusual h5"),
        imports_tensorflow=True,
    ),
    "savedmodel": Loader(
        load=_load_model("model"),
        seeds=_keras_models("exported SavedModel", "tf_keras SavedModel"),
        imports_tensorflow=True,
    ),
}
