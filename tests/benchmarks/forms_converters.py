"""What each runtime's own converter makes of a frozen graph with its defaults, and what that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.models.graph.freeze import imported, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answers = NDArray[np.float32]  # [N, ...]


def _batches(pixels: Any) -> Iterator[Any]:
    for image in pixels:
        yield image[None].astype(np.float32)


def tflite(graph: Path, output: str, calibration: Any, pixels: Any) -> Answers:
    """TensorFlow's converter, full integer, uint8 ends."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    definition = read(graph)
    function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    pruned = function.prune("image:0", f"{output}:0")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([pruned], trackable_obj=function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in _batches(calibration))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for one in _batches(pixels):
        scale, zero = image["quantization"]
        stored = np.clip(np.round(one / scale + zero), 0, 255).astype(np.uint8)
        interpreter.set_tensor(image["index"], stored)
        interpreter.invoke()
        scale, zero = scores["quantization"]
        rows.append((interpreter.get_tensor(scores["index"])[0].astype(np.float32) - zero) * scale)
    return np.asarray(rows, np.float32)


def onnx(graph: Path, output: str, calibration: Any, pixels: Any) -> Answers:
    """tf2onnx and `quantize_static`."""
    import onnxruntime
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    float_path, path = graph.with_name("converter-float.onnx"), graph.with_name("converter.onnx")
    with imported(read(graph)).as_default():
        tf2onnx.convert.from_graph_def(
            read(graph),
            input_names=["image:0"],
            output_names=[f"{output}:0"],
            opset=17,
            output_path=str(float_path),
        )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # without types
        def __init__(self) -> None:
            self.rest = _batches(calibration)

        def get_next(self) -> Any:
            image = next(self.rest, None)
            return None if image is None else {"image:0": image}

    quantize_static(str(float_path), str(path), Reader())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray([session.run(None, {"image:0": image})[0][0] for image in _batches(pixels)], np.float32)


def openvino(graph: Path, output: str, calibration: Any, pixels: Any) -> Answers:
    """`ov.convert_model` and `nncf.quantize`."""
    import nncf
    import openvino as ov

    del output
    size = calibration.shape[1:]
    model = ov.convert_model(str(graph), input=[1, *size])
    model = nncf.quantize(model, nncf.Dataset(list(_batches(calibration))))
    compiled = ov.compile_model(model, "CPU")
    return np.asarray([next(iter(compiled(image).values()))[0] for image in _batches(pixels)], np.float32)


CONVERTERS: dict[str, Callable[[Path, str, Any, Any], Answers]] = {
    "tflite-int8": tflite,
    "onnx-int8": onnx,
    "openvino-int8": openvino,
}
