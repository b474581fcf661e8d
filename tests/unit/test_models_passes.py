"""The rewrites of the canonical graph, computed in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph import ir
from edgefx.models.graph.ir import IMAGE, Graph, Node, Ref
from edgefx.models.graph.passes import simplify

RNG = np.random.default_rng(0)


def chain(*ops: ir.Op) -> Graph:
    """A graph in which each operation reads the one before it."""
    nodes, previous = [], IMAGE
    for index, op in enumerate(ops):
        name = f"{type(op).__name__.lower()}{index}"
        nodes.append(Node(name=name, kind=type(op).__name__, inputs=(Ref(previous),), op=op))
        previous = name
    return Graph(nodes, (Ref(previous),))


def affine(channels: int) -> ir.Affine:
    return ir.Affine(RNG.uniform(0.5, 2, channels), RNG.normal(0, 1, channels))


def pointwise(inputs: int, outputs: int, *, padding: str = "SAME") -> ir.Conv:
    kernel = RNG.normal(0, 1, (1, 1, inputs, outputs)).astype(np.float32)
    return ir.Conv(kernel, None, (1, 1), (1, 1), padding)


def run(graph: Graph, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Evaluate a chain of affine, pointwise and dense operations on [N, channels]."""
    for node in graph.nodes:
        op = node.op
        if isinstance(op, ir.Affine):
            x = x * op.scale + op.offset
        elif isinstance(op, ir.Conv | ir.Dense):
            kernel = op.kernel.reshape(op.kernel.shape[-2:])
            x = x @ kernel + (0 if op.bias is None else op.bias)
        elif isinstance(op, ir.Activation):
            x = np.maximum(x, 0)
    return x


def test_affines_fold_into_what_they_follow_and_lead_to() -> None:
    dense = ir.Dense(RNG.normal(0, 1, (6, 4)).astype(np.float32), None)
    graph = chain(pointwise(3, 6), affine(6), ir.Activation("relu"), affine(6), affine(6), dense, affine(4))
    x = RNG.normal(0, 1, (5, 3))
    before = run(graph, x)
    simplify(graph)
    assert [type(node.op).__name__ for node in graph.nodes] == ["Conv", "Activation", "Dense"]
    assert [node.name for node in graph.nodes] == ["conv0", "activation2", "dense5"]
    assert graph.outputs == (Ref("dense5"),)
    np.testing.assert_allclose(run(graph, x), before, rtol=1e-5, atol=1e-5)


def test_a_batchnorm_whose_convolution_has_another_reader_stays() -> None:
    graph = chain(pointwise(3, 6), affine(6), ir.Activation("relu"))
    graph.nodes.append(Node(name="add", kind="Add", inputs=(Ref("conv0"), Ref("activation2")), op=ir.Add()))
    graph.outputs = (Ref("add"),)
    simplify(graph)
    assert [node.name for node in graph.nodes] == ["conv0", "affine1", "activation2", "add"]


def test_the_output_counts_as_a_reader() -> None:
    graph = chain(pointwise(3, 6), affine(6))
    graph.outputs = (Ref("conv0"),)
    simplify(graph)
    assert len(graph.nodes) == 2


def test_an_offset_is_not_folded_through_padding() -> None:
    kernel = RNG.normal(0, 1, (3, 3, 6, 4)).astype(np.float32)
    graph = chain(
        pointwise(3, 6), ir.Activation("relu"), affine(6), ir.Conv(kernel, None, (1, 1), (1, 1), "SAME")
    )
    simplify(graph)
    assert [node.name for node in graph.nodes] == ["conv0", "activation1", "affine2", "conv3"]


def test_pixels_keep_one_addition_and_the_factor_moves_into_the_stem() -> None:
    kernel = RNG.normal(0, 1, (3, 3, 3, 4)).astype(np.float32)
    rescaling = ir.Affine(np.full(1, 1 / 255), np.zeros(1))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalization = ir.Affine(1 / deviation, -mean / deviation)
    stem = ir.Conv(kernel, None, (2, 2), (1, 1), "VALID")
    graph = chain(rescaling, normalization, ir.Pad(((0, 1), (0, 1))), stem)
    simplify(graph)
    left, pad, folded = (node.op for node in graph.nodes)
    assert isinstance(left, ir.Affine)
    assert isinstance(pad, ir.Pad)
    assert isinstance(folded, ir.Conv)
    np.testing.assert_array_equal(left.scale, 1.0)
    np.testing.assert_allclose(left.offset, -255 * mean)
    np.testing.assert_allclose(folded.kernel, kernel / (255 * deviation)[:, None], rtol=1e-6)


def test_a_mere_factor_on_the_pixels_vanishes() -> None:
    kernel = RNG.normal(0, 1, (3, 3, 3, 1)).astype(np.float32)
    stem = ir.DepthwiseConv(kernel, None, (1, 1), (1, 1), "SAME")
    graph = chain(ir.Affine(np.full(1, 1 / 255), np.zeros(1)), stem)
    simplify(graph)
    (node,) = graph.nodes
    assert node.inputs == (Ref(IMAGE),)
    assert isinstance(node.op, ir.DepthwiseConv)
    np.testing.assert_allclose(node.op.kernel, kernel / 255, rtol=1e-6)


def test_depthwise_channels_are_scaled_in_their_order() -> None:
    kernel = RNG.normal(0, 1, (3, 3, 2, 2)).astype(np.float32)
    scale = np.array([1.0, 2.0, 3.0, 4.0])
    graph = chain(ir.DepthwiseConv(kernel, None, (1, 1), (1, 1), "SAME"), ir.Affine(scale, scale))
    simplify(graph)
    op = graph.nodes[0].op
    assert isinstance(op, ir.DepthwiseConv)
    # Output channel 2 * c + m comes from input channel c and multiplier m.
    np.testing.assert_allclose(op.kernel, kernel * np.array([[1.0, 2.0], [3.0, 4.0]]), rtol=1e-6)
    assert op.bias is not None
    np.testing.assert_allclose(op.bias, scale)


def test_squeeze_keeps_its_dimensions() -> None:
    graph = chain(ir.GlobalPool("mean", keepdims=False), ir.Reshape((1, 1, 6)), pointwise(6, 2))
    simplify(graph)
    assert graph.nodes[0].op == ir.GlobalPool("mean", keepdims=True)
    assert [node.name for node in graph.nodes] == ["globalpool0", "conv2"]
