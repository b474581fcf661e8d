"""Constants of equal content are one initializer: an untrained network's biases, all zero, have one name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefx.quantize.ranges import Range
from edgefx.runtimes.onnx import gates, placement, quantize
from edgefx.runtimes.onnx import session as onnx_session

_CHANNELS = 32


def network(*, shared_weights: bool = False) -> onnx.ModelProto:
    """Three convolutions that share one bias of zeros, the last two also their weights where asked."""
    generator = np.random.default_rng(3)
    first = (generator.normal(size=(_CHANNELS, 3, 1, 1)) / 256).astype(np.float32)
    second, third = (
        (generator.normal(size=(_CHANNELS, _CHANNELS, 1, 1)) / 4).astype(np.float32) for _ in range(2)
    )
    constants = {
        "a/weight": first,
        "b/weight": second,
        "zeros": np.zeros(_CHANNELS, np.float32),
        "axes": np.array([2, 3]),
    }
    if not shared_weights:
        constants["c/weight"] = third
    last = "b/weight" if shared_weights else "c/weight"
    nodes = [
        helper.make_node("Conv", ["image", "a/weight", "zeros"], ["a/Conv"], name="a/Conv"),
        helper.make_node("Conv", ["a/Conv", "b/weight", "zeros"], ["b/Conv"], name="b/Conv"),
        helper.make_node("Conv", ["b/Conv", last, "zeros"], ["c/Conv"], name="c/Conv"),
        helper.make_node("GlobalAveragePool", ["c/Conv"], ["pool"], name="pool"),
        helper.make_node("Squeeze", ["pool", "axes"], ["flat"], name="flat"),
        helper.make_node("Softmax", ["flat"], ["probabilities"], name="probabilities", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, _CHANNELS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with weights and a bias of its own for each convolution."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for index in (1, 2) if node.op_type == "Conv" else ():
            own = f"{node.name}/own{index}"
            model.graph.initializer.append(numpy_helper.from_array(stored[node.input[index]], own))
            node.input[index] = own
    return model


def converted(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """Return a model in one of the forms that rewrite weights."""
    if form == "dynamic":
        return quantize.dynamic(model)
    if form == "float16":
        return quantize.float16(model)
    plan = placement.plan(model, intensity=0.0)
    assert plan.convolutions == {"a/Conv", "b/Conv", "c/Conv"}
    return quantize.static(model, plan, _ranges(model, plan))


def scores(model: onnx.ModelProto, folder: Path) -> np.ndarray:
    """Run a model on a few random images."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return onnx_session.OrtSession(path, 1).infer(
        np.random.default_rng(5).integers(0, 256, (8, 8, 8, 3), np.uint8)
    )


@pytest.mark.parametrize("shared_weights", [False, True], ids=["biases", "weights"])
@pytest.mark.parametrize("form", ["int8", "dynamic", "float16"])
def test_each_reader_of_a_shared_constant_stores_it_under_its_own_name(
    form: str, shared_weights: bool, tmp_path: Path
) -> None:
    """The result is that of the network in which nothing is shared."""
    found, wanted = (
        scores(converted(model, form), tmp_path)
        for model in (
            network(shared_weights=shared_weights),
            unshared(network(shared_weights=shared_weights)),
        )
    )
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(wanted.argmax(axis=1))) > 1 or wanted.std() > 0.01  # the images do matter


def test_a_bias_that_moves_behind_its_convolution_stays_with_the_others(tmp_path: Path) -> None:
    model = network()
    wanted = scores(model, tmp_path)
    split = gates.split_biases(model, ["b/Conv"])
    onnx.checker.check_model(split, full_check=True)
    np.testing.assert_allclose(scores(split, tmp_path), wanted, atol=1e-6)


def _ranges(model: onnx.ModelProto, plan: placement.Placement) -> dict[str, Range]:
    """Return the real range of every tensor of a plan over the images that `scores` runs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted(set(plan.tensors) - {"image"})
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, _CHANNELS, 8, 8]) for name in names
    )
    session = onnx_session.open_session(watched.SerializeToString(), 1)
    images = np.random.default_rng(5).integers(0, 256, (8, 8, 8, 3), np.uint8).transpose(0, 3, 1, 2)
    found: dict[str, list[float]] = {name: [] for name in names}
    for image in images:
        for name, value in zip(
            names, session.run(names, {"image": image[None].astype(np.float32)}), strict=True
        ):
            found[name] += [float(value.min()), float(value.max())]
    return {"image": Range(0.0, 255.0)} | {name: Range(min(v), max(v)) for name, v in found.items()}
