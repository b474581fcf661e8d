"""What INT8 does to accuracy: gated products, ranges per channel, rounding with the errors in mind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.quantize import gptq
from edgefx.quantize.ranges import Consumer, Range
from edgefx.runtimes.onnx import calibrate, equalize, gates, placement, profile, quantize
from edgefx.runtimes.onnx import channels as onnx_channels
from edgefx.runtimes.onnx import rounding as onnx_rounding
from edgefx.runtimes.onnx import writer as onnx_writer
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.writer import ChannelRanges, weight_parameters
from edgefx.system import cpu
from edgefx.types import Effort, ImageSet, IoDtype, Precision, Resize
from edgefx.vocabulary import Hardware

_CHANNELS = 64


def gated(*, large: float = 1.0) -> onnx.ModelProto:
    """Expand -> swish -> squeeze, gate, excite -> project; a few channels are `large` for every image."""
    rng = np.random.default_rng(3)
    scales = np.ones(_CHANNELS, np.float32)
    scales[:3] = large
    constants: dict[str, NDArray[Any]] = {
        "expand/weight": rng.normal(size=(_CHANNELS, 3, 1, 1)) * scales.reshape(-1, 1, 1, 1) / 50,
        "expand/bias": rng.normal(size=_CHANNELS) * scales,
        "gate/weight": rng.normal(size=(_CHANNELS, _CHANNELS, 1, 1)) / 50 / large,
        "project/weight": rng.normal(size=(_CHANNELS, _CHANNELS, 1, 1)) / 8,
        "project/bias": rng.normal(size=_CHANNELS),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["stem/Transpose"], name="stem/Transpose", perm=[0, 3, 1, 2]),
        node("Conv", ["stem/Transpose", "expand/weight", "expand/bias"], ["e"], name="expand/Conv"),
        node("Sigmoid", ["e"], ["s"], name="expand/Sigmoid"),
        node("Mul", ["e", "s"], ["map"], name="expand/Mul"),
        node("GlobalAveragePool", ["map"], ["pool"], name="squeeze/GlobalAveragePool"),
        node("Conv", ["pool", "gate/weight"], ["g"], name="gate/Conv"),
        node("Sigmoid", ["g"], ["gate"], name="gate/Sigmoid"),
        node("Mul", ["map", "gate"], ["product"], name="excite/Mul"),
        node("Conv", ["product", "project/weight", "project/bias"], ["scores"], name="project/Conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, _CHANNELS, 8, 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int = 6) -> ImageSet:
    pixels = np.random.default_rng(4).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    paths = tuple(Path(str(number)) for number in range(count))
    return ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH)


def run(model: onnx.ModelProto, image: NDArray[np.uint8], *, fused: bool = True) -> NDArray[np.float32]:
    """Run a model; `fused=False` computes every operation as the file says, not in integer kernels."""
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    scores: NDArray[np.float32] = session.run(None, {"image": image[None].astype(np.float32)})[0]
    return scores


def error_db(exact: NDArray[Any], found: NDArray[Any]) -> float:
    return float(10 * np.log10(np.square(exact).mean() / np.square(exact - found).mean()))


# ------------------------------------------------------------------------------------------ gated products


def test_finds_the_convolution_behind_a_gate_and_no_other() -> None:
    graph = OnnxGraph(gated())
    (found,) = gates.find(graph, ["expand/Conv", "project/Conv"])
    assert (found.convolution, found.product, found.gate) == ("project/Conv", "product", "gate")
    graph.nodes.append(helper.make_node("Tanh", ["product"], ["other"], name="other"))
    assert gates.find(graph, ["project/Conv"]) == [], "others read the product too"


def test_factors_and_split_biases_change_nothing() -> None:
    model, image = gated(), images().pixels[0]
    factors = np.geomspace(0.1, 10, _CHANNELS).astype(np.float32)
    changed = equalize.apply_factors(model, {"project/Conv": factors})
    changed = gates.split_biases(changed, ["project/Conv"])
    kinds = [node.op_type for node in changed.graph.node]
    assert kinds.count("Mul") == 3
    assert kinds[-1] == "Add"
    np.testing.assert_allclose(run(changed, image), run(gated(), image), rtol=1e-4, atol=1e-4)


def test_channels_that_are_large_for_every_image_are_evened_out() -> None:
    model, calibration = gated(large=40.0), images()
    plan = placement.plan(model)
    assert plan.dynamic == {"project/Conv"}
    equal, errors = equalize.equalize(model, plan, calibration, seed=0, progress=SILENT)
    assert any(node.name == "gate/equalized" for node in equal.graph.node)

    def loss(start: onnx.ModelProto) -> float:
        split = gates.split_biases(start, plan.dynamic)
        planned = placement.plan(split)
        only = placement.Placement(
            convolutions=planned.dynamic, tensors=planned.tensors, dynamic=plan.dynamic
        )
        made = quantize.static(split, only, dict.fromkeys(only.tensors, Range(-60.0, 60.0)))
        return error_db(run(gated(large=40.0), calibration.pixels[0]), run(made, calibration.pixels[0]))

    assert loss(equal) > loss(gated(large=40.0)) + 3
    assert 0 < errors["project/Conv"] < 0.01


def test_one_image_is_too_few_to_choose_factors() -> None:
    model = gated()
    plan = placement.plan(model)
    same, errors = equalize.equalize(model, plan, images(1), seed=0, progress=SILENT)
    assert same == model
    assert errors == {}


def test_a_product_takes_its_range_from_the_image() -> None:
    model = gates.split_biases(gated(), ["project/Conv"])
    plan = placement.plan(model)
    assert "product" not in plan.tensors
    limits = {**dict.fromkeys(plan.tensors, Range(-8.0, 8.0)), "stem/Transpose": Range(0.0, 255.0)}
    made = quantize.static(model, plan, limits)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("DynamicQuantizeLinear") == kinds.count("QLinearConv") == 1
    image = images().pixels[0]
    for dark in (1, 40):  # a static range for the brighter one would leave the other few codes
        assert error_db(run(gated(), image // dark), run(made, image // dark)) > 28


def test_the_worst_are_spared_up_to_a_share_of_the_work() -> None:
    model = gated()
    plan = placement.plan(model)
    assert placement.costly(model, plan, {"project/Conv": 1e-4}, effort=Effort.HIGH) == set()
    # The only large convolution: sparing it would leave next to nothing.
    assert placement.costly(model, plan, {"project/Conv": 0.5}, effort=Effort.HIGH) == set()
    twin = placement.Placement(convolutions=plan.convolutions, tensors={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SPARED", dict.fromkeys(Effort, (25.0, 1.0)))
        assert placement.costly(model, twin, {"project/Conv": 0.5}, effort=Effort.HIGH) == {"project/Conv"}


# ------------------------------------------------------------------------------------------ channels


def test_a_channel_gets_a_narrower_grid_that_still_has_room() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.normal(size=(4, 4000)) * np.array([[0.1], [1], [10], [30]])).astype(np.float32)
    low, high = samples.min(1).astype(np.float64), samples.max(1).astype(np.float64)
    found = onnx_channels.choose(samples, low=low, high=high)
    assert (found.high >= high * 0.999).all()
    assert found.high[0] < found.high[3] / 3
    assert (found.low <= 0).all()
    assert (found.low >= np.minimum(low, 0)).all()
    assert found.low[3] > -12, "what swish makes zero needs no codes"


def test_a_channel_without_negative_or_any_values_has_a_grid() -> None:
    samples = np.stack([np.full(10, 2.0), np.zeros(10)]).astype(np.float32)
    found = onnx_channels.choose(samples, low=np.array([2.0, 0.0]), high=np.array([2.0, 0.0]))
    scales, zero_points = found.parameters()
    assert (scales > 0).all()
    assert zero_points.tolist() == [0, 0]


def test_a_convolution_that_makes_codes_loses_less_than_one_with_a_common_range() -> None:
    model = gated(large=20.0)
    plan = placement.plan(model)
    one = placement.Placement(convolutions=frozenset({"expand/Conv"}), tensors=plan.tensors)
    image = images().pixels[0]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.insert(0, helper.make_empty_tensor_value_info("e"))
    values = run(probe, image)[0].reshape(_CHANNELS, -1)
    limits = {"stem/Transpose": Range(0.0, 255.0), "e": Range(float(values.min()), float(values.max()))}
    channels = ChannelRanges(
        low=np.minimum(values.min(1), 0).astype(np.float64), high=np.maximum(values.max(1), 0.1).astype(float)
    )

    def made(grids: dict[str, ChannelRanges]) -> float:
        quantized = quantize.static(gated(large=20.0), one, limits, channels=grids)
        dequantized = "e/dequantized"
        quantized.graph.output.insert(0, helper.make_empty_tensor_value_info(dequantized))
        # On x86-64 without VNNI the fused kernel adds pairs of products in 16 bits, which saturates here and
        # would hide what the grids do: 22.7 dB instead of 48.7.
        found = run(quantized, image, fused=False)[0].reshape(_CHANNELS, -1)
        small = values[3:]  # the channels that a common range starves
        return error_db(small, found[3:])

    assert made({"e": channels}) > made({}) + 10


def test_unsigned_weights_hold_the_same_values_and_integer_kernels_compute_them() -> None:
    """On x86-64 without VNNI kernels for uint8 by int8 saturate; those for two unsigned operands never do."""
    model = gates.split_biases(gated(large=20.0), ["project/Conv"])
    plan = placement.plan(model)
    limits = {**dict.fromkeys(plan.tensors, Range(-400.0, 400.0)), "stem/Transpose": Range(0.0, 255.0)}
    signed = quantize.static(model, plan, limits)
    model = gates.split_biases(gated(large=20.0), ["project/Conv"])
    unsigned = quantize.static(model, plan, limits, unsigned=True)
    types = {one.name: one.data_type for one in unsigned.graph.initializer}
    assert types["project/weight/uint8"] == TensorProto.UINT8
    image = images().pixels[0]
    as_written = run(signed, image, fused=False)
    assert error_db(as_written, run(unsigned, image, fused=False)) > 60
    assert error_db(as_written, run(unsigned, image)) > 35


# ------------------------------------------------------------------------------------------ rounding


def test_rounding_with_moments_loses_less_than_rounding_to_nearest() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(48, 48)) * np.geomspace(0.01, 1, 48)
    x = mixing @ rng.normal(size=(48, 3000))
    weight = rng.normal(size=(16, 48)).astype(np.float32)
    nearest, steps = weight_parameters(weight, 0)
    codes = gptq.rounded(weight.astype(np.float64), steps.astype(np.float64), x @ x.T)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() <= 127
    fresh = mixing @ rng.normal(size=(48, 3000))
    exact = weight @ fresh
    gain = error_db(exact, (codes * steps[:, None]) @ fresh) - error_db(
        exact, (nearest * steps[:, None]) @ fresh
    )
    assert gain > 3


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 2, 1, 2]},
    ],
)
def test_columns_are_what_a_convolution_multiplies(attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=(1, 5, 6, 8)).astype(np.float32)
    weight = rng.normal(size=(4, 5, *attributes["kernel_shape"])).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, value.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": value})[0].reshape(4, -1)
    positions = np.random.default_rng(0).permutation(wanted.shape[1])[:7]
    found = weight.reshape(4, -1) @ onnx_rounding.columns(value, node, positions)
    np.testing.assert_allclose(found, wanted[:, positions], rtol=1e-4, atol=1e-4)


def test_codes_for_another_step_are_not_used() -> None:
    """Where a huge bias forces a larger step, the codes that were optimized for the small one are wrong."""
    graph = OnnxGraph(gated())
    node = next(node for node in graph.nodes if node.name == "expand/Conv")
    graph.constants["expand/bias"] = np.full(_CHANNELS, 1e8, np.float32)
    writer = onnx_writer.Writer(graph)
    writer.store_convolution(
        node, np.float32(1e-3), np.full(graph.constants["expand/weight"].shape, 99, np.int8)
    )
    assert not (graph.constants["expand/weight/int8"] == 99).any()


# ------------------------------------------------------------------------------------------ machines


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "expected"),
    [
        ("x86_64", "flags : avx512_vnni amx_bf16 amx_tile amx_int8", Hardware.X86_AMX),
        ("x86_64", "flags : sse2 avx512_vnni", Hardware.X86_VNNI),
        ("AMD64", "flags : avx2 avx_vnni", Hardware.X86_VNNI),
        ("x86_64", "flags : sse2 avx2", Hardware.X86),
        ("aarch64", "Features : fp asimd asimddp", Hardware.ARM_DOTPROD),
        ("aarch64", "Features : fp asimd", Hardware.ARM),
        ("arm64", None, Hardware.ARM_DOTPROD),
        ("riscv64", "isa : rv64gc", Hardware.OTHER),
    ],
)
def test_machines_are_told_apart(architecture: str, cpuinfo: str | None, expected: Hardware) -> None:
    assert cpu.detect(architecture=architecture, described=cpuinfo) is expected


def test_where_nothing_was_measured_it_is_said() -> None:
    def scheme(hardware: Hardware) -> QuantScheme:
        return QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, hardware=hardware)

    assert profile.caveat(scheme(Hardware.X86_VNNI)) is None
    for unmeasured in set(Hardware) - set(profile.INTENSITY):
        message = profile.caveat(scheme(unmeasured))
        assert message is not None
        assert str(unmeasured) in message
        assert profile.intensity(unmeasured) == profile.INTENSITY[Hardware.X86_VNNI]


def test_the_threshold_decides_how_much_is_quantized() -> None:
    model = gated()
    everything = placement.plan(model, intensity=0.0)
    assert everything.convolutions == {"expand/Conv", "project/Conv"}
    assert placement.plan(model, intensity=31.0).convolutions == {"project/Conv"}


def test_what_is_neither_linear_nor_a_product_gets_the_range_of_least_error() -> None:
    """Of images that differ in size, the mean of their extremes would cut off the larger ones."""
    model, tensor = gated(), "e"
    pixels = images().pixels.copy()
    pixels[1:] //= 16
    plan = placement.Placement(convolutions=frozenset(), tensors={tensor: Consumer.GENERIC})
    found = calibrate.ranges(model, plan, (), replace(images(), pixels=pixels), SILENT)[tensor]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.insert(0, helper.make_empty_tensor_value_info(tensor))
    values = np.stack([run(probe, image) for image in pixels])
    means = values.reshape(len(values), -1)
    assert found.high > 1.2 * means.max(axis=1).mean()
    assert found.low < 1.2 * means.min(axis=1).mean()
