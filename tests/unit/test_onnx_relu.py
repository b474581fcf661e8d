"""INT8 of networks of ReLUs, such as MobileNets: chains in integers, and biases that hold the mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefx.protocols import SILENT
from edgefx.quantize.ranges import Consumer
from edgefx.runtimes.onnx import bias, calibrate, placement, quantize
from edgefx.system import cpu
from edgefx.types import ImageSet, Resize

_CHANNELS = 32


def bottleneck(*, relu6: bool = True) -> onnx.ModelProto:
    """Expand, depthwise, project, as MobileNetV2 has them; a few depthwise channels have small weights."""
    rng = np.random.default_rng(5)
    sizes = np.geomspace(0.02, 1, _CHANNELS).reshape(-1, 1, 1, 1)
    constants: dict[str, NDArray[Any]] = {
        "expand/weight": rng.normal(size=(_CHANNELS, 3, 1, 1)) / 50,
        "expand/bias": rng.normal(size=_CHANNELS),
        "depthwise/weight": rng.normal(size=(_CHANNELS, 1, 3, 3)) * sizes,
        "depthwise/bias": rng.normal(size=_CHANNELS),
        "project/weight": rng.normal(size=(_CHANNELS, _CHANNELS, 1, 1)) / 8,
        "project/bias": rng.normal(size=_CHANNELS),
    }
    constants |= {"zero": np.array(0.0), "six": np.array(6.0)}
    node = helper.make_node

    def convolution(layer: str, source: str, result: str, **attributes: Any) -> onnx.NodeProto:
        inputs = [source, f"{layer}/weight", f"{layer}/bias"]
        return node("Conv", inputs, [result], name=f"{layer}/Conv", **attributes)

    def relu(layer: str) -> onnx.NodeProto:
        if not relu6:
            return node("Relu", [f"{layer}/Conv"], [f"{layer}_relu/Clip"], name=f"{layer}_relu/Relu")
        inputs = [f"{layer}/Conv", "zero", "six"]
        return node("Clip", inputs, [f"{layer}_relu/Clip"], name=f"{layer}_relu/Clip")

    nodes = [
        node("Transpose", ["image"], ["stem/Transpose"], name="stem/Transpose", perm=[0, 3, 1, 2]),
        convolution("expand", "stem/Transpose", "expand/Conv"),
        relu("expand"),
        convolution("depthwise", "expand_relu/Clip", "depthwise/Conv", group=_CHANNELS, pads=[1, 1, 1, 1]),
        relu("depthwise"),
        convolution("project", "depthwise_relu/Clip", "scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, _CHANNELS, 8, 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(6).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    paths = tuple(Path(str(number)) for number in range(len(pixels)))
    return ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH)


def _int8(
    model: onnx.ModelProto, plan: placement.Placement, images: ImageSet, *, correct: bool = False
) -> onnx.ModelProto:
    model = onnx.ModelProto.FromString(model.SerializeToString())  # it is used up
    ranges = calibrate.ranges(model, plan, (), images, SILENT)
    if correct:
        model = bias.correct(model, plan, ranges, {}, calibration=images, progress=SILENT)
    # In the form that this CPU computes rightly: that of others saturates where there is no VNNI.
    return quantize.static(model, plan, ranges, unsigned=cpu.detect().saturates_pairs)


def _run(model: onnx.ModelProto, images: ImageSet, *, optimized: bool = True) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [session.run(None, {"image": image[None].astype(np.float32)})[0] for image in images.pixels]
    return np.concatenate(found)


@pytest.mark.parametrize("relu6", [True, False])
def test_a_chain_of_convolutions_and_relus_stays_in_integers(images: ImageSet, *, relu6: bool) -> None:
    model = bottleneck(relu6=relu6)
    plan = placement.plan(model, intensity=0)
    assert plan.convolutions == {"expand/Conv", "depthwise/Conv", "project/Conv"}
    assert plan.tensors == {
        "stem/Transpose": Consumer.GENERIC,
        "expand_relu/Clip": Consumer.LINEAR,
        "depthwise_relu/Clip": Consumer.LINEAR,
        "scores": Consumer.LINEAR,
    }
    made = _int8(model, plan, images)
    assert not {"Clip", "Relu"} & {node.op_type for node in made.graph.node}  # the grids clip
    exact, found = _run(model, images), _run(made, images)
    assert np.square(found - exact).mean() < 1e-3 * np.square(exact).mean()


def test_a_float_convolution_between_integers_is_not_quantized_by_onnx_runtime(images: ImageSet) -> None:
    model = bottleneck()
    plan = placement.plan(model, keep_float=["depthwise"], intensity=0)
    assert plan.convolutions == {"expand/Conv", "project/Conv"}
    made = _int8(model, plan, images)
    exact, found = _run(made, images, optimized=False), _run(made, images)
    # A value on the border between two codes may fall to either side; weights on one scale do far more.
    assert np.square(found - exact).mean() < 1e-6 * np.square(exact).mean()


def test_biases_make_up_for_what_rounding_shifts(images: ImageSet) -> None:
    model = bottleneck()
    plan = placement.plan(model, intensity=0)
    exact = _run(model, images)

    def shift(made: onnx.ModelProto) -> float:
        return float(np.square((_run(made, images) - exact).mean(axis=(0, 2, 3))).sum())

    assert shift(_int8(model, plan, images, correct=True)) < 0.3 * shift(_int8(model, plan, images))


def test_biases_of_networks_without_relus_stay(images: ImageSet) -> None:
    model = bottleneck()
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Tanh"
            del node.input[1:]
    plan = placement.plan(model, intensity=0)
    ranges = calibrate.ranges(model, plan, (), images, SILENT)
    assert bias.correct(model, plan, ranges, {}, calibration=images, progress=SILENT) is model
