"""The arithmetic of the INT8 forms, and which nodes they are given to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefx.errors import ConversionError
from edgefx.quantize.ranges import Consumer, Range
from edgefx.runtimes.onnx import placement, quantize, writer

_RNG = np.random.default_rng(1)


def network(*, channels: int = 64, bias: float = 1.0, size: int = 8) -> onnx.ModelProto:
    """Stem -> swish -> expand -> swish -> depthwise -> pool -> dense."""
    shapes = {
        "stem/weight": (channels, 3, 1, 1),
        "expand/weight": (channels, channels, 1, 1),
        "depthwise/weight": (channels, 1, 3, 3),
    }
    constants = {name: _RNG.normal(size=shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    constants |= {
        name.replace("weight", "bias"): (bias * _RNG.normal(size=shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }
    constants["head/weight"] = _RNG.normal(size=(channels, 10)).astype(np.float32)
    constants["axes"] = np.array([2, 3])

    def conv(layer: str, source: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(
            "Conv",
            [source, f"{layer}/weight", f"{layer}/bias"],
            [f"{layer}/Conv"],
            name=f"{layer}/Conv",
            **attributes,  # type: ignore[arg-type]
        )

    def swish(layer: str, source: str) -> list[onnx.NodeProto]:
        gate, result = f"{layer}/Sigmoid", f"{layer}/Mul"
        return [
            helper.make_node("Sigmoid", [source], [gate], name=gate),
            helper.make_node("Mul", [source, gate], [result], name=result),
        ]

    nodes = [
        conv("stem", "image"),
        *swish("a", "stem/Conv"),
        conv("expand", "a/Mul"),
        *swish("b", "expand/Conv"),
        conv("depthwise", "b/Mul", group=channels, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["depthwise/Conv"], ["pool"], name="pool"),
        helper.make_node("Squeeze", ["pool", "axes"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "head/weight"], ["dense"], name="head/Gemm"),
        helper.make_node("Softmax", ["dense"], ["probabilities"], name="head/Softmax", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_activation_grids_hold_zero_exactly() -> None:
    for limits in (Range(-1.5, 6.0), Range(0.5, 2.0), Range(-3.0, -1.0), Range(-0.27, 40.0)):
        scale, zero_point = writer.activation_parameters(limits)
        assert scale > 0
        low, high = (0 - int(zero_point)) * float(scale), (255 - int(zero_point)) * float(scale)
        assert low <= 0 <= high
        assert low == pytest.approx(min(limits.low, 0), abs=float(scale))
        assert high == pytest.approx(max(limits.high, 0), abs=float(scale))
    scale, zero_point = writer.activation_parameters(Range(0.0, 0.0))  # a dead tensor
    assert scale > 0
    assert zero_point == 0


def test_weights_are_symmetric_per_channel_and_half_a_step_away() -> None:
    weight = (
        _RNG.normal(size=(5, 4, 3, 3)).astype(np.float32) * np.array([1e-3, 1, 10, 1, 1])[:, None, None, None]
    )
    weight = weight.astype(np.float32)
    codes, scale = writer.weight_parameters(weight, 0)
    assert codes.dtype == np.int8
    assert (np.abs(codes.astype(int)).max(axis=(1, 2, 3)) == 127).all()
    error = np.abs(codes * scale[:, None, None, None] - weight)
    assert (error <= 0.5001 * scale[:, None, None, None]).all()


def test_a_dead_channel_keeps_a_bias_that_int32_can_hold() -> None:
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "expand/weight":
            weight = numpy_helper.to_array(tensor).copy()
            weight[3] = 0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    made = quantize.static(model, placement.plan(model), _ranges(model))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    restored = stored["expand/bias/int32"] * stored["expand/bias/scale"].astype(np.float64)
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}["expand/bias"]
    np.testing.assert_allclose(restored, wanted, rtol=1e-3, atol=1e-3)


def _ranges(model: onnx.ModelProto) -> dict[str, Range]:
    return dict.fromkeys(placement.plan(model).tensors, Range(-4.0, 8.0))


def test_only_convolutions_with_much_arithmetic_are_planned() -> None:
    plan = placement.plan(network(channels=64))
    assert plan.convolutions == {"expand/Conv"}
    assert plan.tensors == {"a/Mul": Consumer.GENERIC, "expand/Conv": Consumer.SWISH}


def test_a_small_network_still_computes_most_of_its_work_in_int8() -> None:
    assert placement.plan(network(channels=8)).convolutions == {"expand/Conv"}


def test_a_network_without_convolutions_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["image"], ["probabilities"])],
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
    )
    with pytest.raises(ConversionError, match="no convolution"):
        placement.plan(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_a_swish_behind_int8_is_one_node_and_others_are_left() -> None:
    model = network()
    made = quantize.static(model, placement.plan(model), _ranges(model))
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("QuickGelu") == 1
    assert kinds.count("Sigmoid") == 1  # behind the stem, which stays in float
    assert [info.name for info in made.graph.value_info] == ["b/Mul"]


def test_a_sigmoid_that_others_read_is_not_fused() -> None:
    model = network()
    model.graph.node.insert(6, helper.make_node("Tanh", ["b/Sigmoid"], ["extra"], name="extra"))
    model.graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 64, 8, 8]))
    made = quantize.static(model, placement.plan(model), _ranges(model))
    assert "QuickGelu" not in [node.op_type for node in made.graph.node]


def test_weights_too_large_for_float16_are_refused() -> None:
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "expand/weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1e6, tensor.name))
    with pytest.raises(ConversionError, match="expand"):
        quantize.float16(model)
