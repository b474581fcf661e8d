"""Each pass of the ONNX tidier removes what it should, leaves the rest, and keeps the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx import tidy

Array = NDArray[Any]
_RNG = np.random.default_rng(0)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    *,
    shape: Sequence[int] = (1, 3, 8, 8),
    output: str = "y",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def run(made: onnx.ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": x})[0]
    return result


def simplified(made: onnx.ModelProto, *, atol: float = 1e-5) -> onnx.ModelProto:
    """Simplify, and prove that nothing changed."""
    x = _RNG.normal(size=[d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim])
    x = x.astype(np.float32)
    before = run(made, x)
    result = tidy.simplify(made)
    onnx.checker.check_model(result, full_check=True)
    np.testing.assert_allclose(run(result, x), before, atol=atol)
    return result


def ops(made: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node]


def normal(*shape: int) -> Array:
    return _RNG.normal(size=shape).astype(np.float32)


def test_batch_normalization_behind_a_depthwise_convolution_goes_into_it() -> None:
    made = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="block/depthwise", group=3, pads=[1, 1, 1, 1]),
            helper.make_node("Mul", ["c", "s"], ["m"]),
            helper.make_node("Add", ["b", "m"], ["y"]),
        ],
        {"w": normal(3, 1, 3, 3), "s": normal(1, 3, 1, 1), "b": normal(3, 1, 1)},
    )
    result = simplified(made)
    assert ops(result) == ["Conv"]
    assert len(result.graph.node[0].input) == 3


def test_a_constant_that_varies_over_the_map_stays() -> None:
    made = model(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "s"], ["y"])],
        {"w": normal(4, 3, 1, 1), "s": normal(1, 1, 8, 8)},
    )
    assert ops(simplified(made)) == ["Conv", "Mul"]


def test_a_convolution_read_twice_keeps_its_weights() -> None:
    made = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Mul", ["c", "s"], ["m"]),
            helper.make_node("Add", ["c", "m"], ["y"]),
        ],
        {"w": normal(4, 3, 1, 1), "s": normal(1, 4, 1, 1)},
    )
    assert ops(simplified(made)) == ["Conv", "Mul", "Add"]


def test_folding_leaves_shared_constants_to_their_other_readers() -> None:
    shift = normal(1, 3, 1, 1)
    made = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Mul", ["c", "s"], ["m"]),
            helper.make_node("Conv", ["m", "w"], ["d"]),
            helper.make_node("Sigmoid", ["d"], ["g"]),
            helper.make_node("Add", ["g", "s"], ["y"]),
        ],
        {"w": normal(3, 3, 1, 1), "s": shift},
    )
    assert ops(simplified(made)) == ["Conv", "Conv", "Sigmoid", "Add"]


@pytest.mark.parametrize("order", ["mul first", "add first"])
def test_preprocessing_becomes_one_add(order: str) -> None:
    scale = [helper.make_node("Mul", ["{0}", "scale"], ["{1}"])]
    shift = [helper.make_node("Sub", ["{0}", "mean"], ["{1}"])]
    first, second = (scale, shift) if order == "mul first" else (shift, scale)
    chain = []
    for node, source, result in ((first[0], "x", "a"), (second[0], "a", "b")):
        node.input[0], node.output[0] = source, result
        chain.append(node)
    made = model(
        [
            *chain,
            helper.make_node("Div", ["b", "std"], ["n"]),
            helper.make_node("Transpose", ["n"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Pad", ["t", "pads"], ["p"]),
            helper.make_node("Conv", ["p", "w"], ["y"], strides=[2, 2], name="stem/conv"),
        ],
        {
            "scale": np.array(1 / 255, np.float32),
            "mean": normal(3),
            "std": np.array([0.2, 0.3, 0.25], np.float32),
            "w": normal(4, 3, 3, 3),
            "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        },
        shape=(1, 8, 8, 3),
    )
    result = simplified(made, atol=1e-4)
    assert ops(result) == ["Transpose", "Add", "Conv"]
    assert onnx_graph.integers(result.graph.node[-1], "pads", ()) == (0, 0, 1, 1)


def test_padding_with_other_values_stays() -> None:
    made = model(
        [helper.make_node("Pad", ["x", "pads", "one"], ["p"]), helper.make_node("Conv", ["p", "w"], ["y"])],
        {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.array(1, np.float32), "w": normal(2, 3, 3, 3)},
    )
    assert ops(simplified(made)) == ["Pad", "Conv"]


def test_views_that_undo_each_other_go() -> None:
    made = model(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["g"]),
            helper.make_node("Squeeze", ["g", "axes"], ["s"]),
            helper.make_node("Reshape", ["s", "shape"], ["r"]),
            helper.make_node("Conv", ["r", "w"], ["y"]),
        ],
        {"axes": np.array([2, 3]), "shape": np.array([1, 3, 1, 1]), "w": normal(2, 3, 1, 1)},
    )
    assert ops(simplified(made)) == ["GlobalAveragePool", "Conv"]


@pytest.mark.parametrize(
    ("height", "left"), [(1, ["Relu", "Relu"]), (2, ["Relu", "Transpose", "Reshape", "Relu"])]
)
def test_a_transpose_is_a_view_where_no_value_moves(height: int, left: list[str]) -> None:
    """tf2onnx leaves it or not, by the order of a set: the same model must not become two files."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    shape = (1, 3, height, 1)
    made = model(nodes, {"shape": np.array(shape, np.int64)}, shape=shape)
    assert ops(simplified(made)) == left


def test_a_view_that_is_the_output_stays() -> None:
    made = model(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["g"]),
            helper.make_node("Squeeze", ["g", "axes"], ["s"]),
            helper.make_node("Reshape", ["s", "shape"], ["y"]),
        ],
        {"axes": np.array([2, 3]), "shape": np.array([1, 3, 1, 1])},
    )
    result = simplified(made)
    assert result.graph.output[0].name == "y"


def test_a_dense_layer_becomes_gemm() -> None:
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])],
        {"w": normal(6, 4), "b": normal(1, 4)},
        shape=(1, 6),
    )
    assert ops(simplified(made)) == ["Gemm"]


def test_names_are_those_of_the_layers() -> None:
    made = model(
        [
            helper.make_node("Conv", ["x", "block1/kernel:0", "c__7"], ["block1/BiasAdd:0"], name="Conv__31"),
            helper.make_node("Sigmoid", ["block1/BiasAdd:0"], ["s:0"], name="act/Sigmoid__2"),
            helper.make_node("Mul", ["block1/BiasAdd:0", "s:0"], ["y"], name="act/mul"),
        ],
        {"block1/kernel:0": normal(2, 3, 1, 1), "c__7": normal(2)},
    )
    result = simplified(made)
    assert [node.name for node in result.graph.node] == ["block1/Conv", "act/Sigmoid", "act/Mul"]
    assert [tensor.name for tensor in result.graph.initializer] == ["block1/weight", "block1/bias"]


def test_the_order_of_the_nodes_does_not_matter() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"], name="one/Sigmoid"),
        helper.make_node("Tanh", ["x"], ["b"], name="two/Tanh"),
        helper.make_node("Mul", ["a", "b"], ["y"], name="three/Mul"),
    ]
    swapped = [nodes[1], nodes[0], nodes[2]]
    first, second = (tidy.simplify(model(order, {})).SerializeToString() for order in (nodes, swapped))
    assert first == second
