"""Rewrites of the canonical graph that are exact up to rounding.

Batch normalisation in inference is ``x * scale + offset`` per channel (Ioffe & Szegedy 2015, section 3.1), as
are Keras' Rescaling and Normalization: all three arrive here as `Affine`. Folding is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph.ir import (
    IMAGE,
    Affine,
    Conv,
    Dense,
    DepthwiseConv,
    GlobalPool,
    Graph,
    Node,
    Op,
    Pad,
    Reshape,
)

_Weighted = Conv | DepthwiseConv | Dense

# x * a + b is written as (x + b/a) * a, and the factor moves into the next convolution. With pixels in
# [0, 255] an offset of this size costs less than 1e-4 of a pixel in float32.
_LARGEST_PIXEL_OFFSET = 1024.0


def simplify(graph: Graph) -> None:
    """Apply all passes to `graph`, in place."""
    _each_pair(graph, _merge_affines)
    _each_pair(graph, _affine_into_producer)
    _each_pair(graph, _affine_into_consumer)
    _pixel_scale_into_stem(graph)
    _each_pair(graph, _keep_dimensions)


def _each_pair(graph: Graph, rewrite: Callable[[Node, Node], Op | None]) -> None:
    """Replace ``producer -> consumer`` by one node wherever `rewrite` returns an operation for it.

    Only pairs where the consumer is the producer's only reader are offered. The merged node takes the name of
    the one that carries weights, so that a convolution stays that convolution in every report.
    """
    position = 0
    while position < len(graph.nodes):
        consumer = graph.nodes[position]
        nodes = graph.by_name()
        producer = nodes.get(consumer.inputs[0].node) if len(consumer.inputs) == 1 else None
        if producer is None or graph.consumers()[producer.name] != 1:
            position += 1
            continue
        op = rewrite(producer, consumer)
        if op is None:
            position += 1
            continue
        keep = consumer if isinstance(consumer.op, _Weighted) else producer
        merged = Node(name=keep.name, kind=keep.kind, inputs=producer.inputs, op=op)
        graph.nodes[position] = merged
        graph.nodes.remove(producer)
        _redirect(graph, consumer.name, merged.name)
        position = graph.nodes.index(merged)


def _redirect(graph: Graph, old: str, new: str) -> None:
    """Let every reader of `old` read `new`."""
    for index, node in enumerate(graph.nodes):
        if any(ref.node == old for ref in node.inputs):
            inputs = tuple(ref._replace(node=new) if ref.node == old else ref for ref in node.inputs)
            graph.nodes[index] = replace(node, inputs=inputs)
    graph.outputs = tuple(ref._replace(node=new) if ref.node == old else ref for ref in graph.outputs)


def _merge_affines(producer: Node, consumer: Node) -> Op | None:
    first, second = producer.op, consumer.op
    if not (isinstance(first, Affine) and isinstance(second, Affine)):
        return None
    return Affine(first.scale * second.scale, first.offset * second.scale + second.offset)


def _affine_into_producer(producer: Node, consumer: Node) -> Op | None:
    """Convolution -> BatchNorm: scale the kernel's output channels, move the rest into the bias."""
    op, affine = producer.op, consumer.op
    if not (isinstance(op, _Weighted) and isinstance(affine, Affine)):
        return None
    kernel = op.kernel.astype(np.float64)
    if isinstance(op, DepthwiseConv):
        outputs = kernel.shape[2] * kernel.shape[3]
        kernel = kernel * np.broadcast_to(affine.scale, outputs).reshape(kernel.shape[2:])
    else:
        outputs = kernel.shape[-1]
        kernel = kernel * affine.scale
    bias = np.zeros(outputs) if op.bias is None else op.bias.astype(np.float64)
    bias = bias * affine.scale + affine.offset
    return replace(op, kernel=_f32(kernel), bias=_f32(bias), spread=affine.spread)


def _affine_into_consumer(producer: Node, consumer: Node) -> Op | None:
    """BatchNorm -> Dense or pointwise convolution: exact, as nothing is padded."""
    affine, op = producer.op, consumer.op
    if not isinstance(affine, Affine):
        return None
    if isinstance(op, Conv):
        if op.kernel.shape[:2] != (1, 1) or op.kernel.shape[2] not in (affine.scale.size, affine.offset.size):
            return None  # zero padding, or groups whose channels the affine's do not match one to one
    elif not isinstance(op, Dense):
        return None
    kernel = op.kernel.astype(np.float64)
    scale, offset = (np.broadcast_to(value, kernel.shape[-2]) for value in (affine.scale, affine.offset))
    bias = np.zeros(kernel.shape[-1]) if op.bias is None else op.bias.astype(np.float64)
    bias = bias + offset @ kernel.reshape(-1, kernel.shape[-1])
    return replace(op, kernel=_f32(kernel * scale[:, None]), bias=_f32(bias))


def _pixel_scale_into_stem(graph: Graph) -> None:
    """``(x * a + b) -> pad -> stem`` becomes ``(x + b/a) -> pad -> stem'``: one addition left on the pixels.

    Zero padding commutes with a factor, not with an offset, so only the factor moves. What remains between
    uint8 pixels and the first convolution is one operation, whose INT8 error is a fraction of a pixel step.
    """
    affine_at = [
        i
        for i, node in enumerate(graph.nodes)
        if isinstance(node.op, Affine) and node.inputs[0].node == IMAGE
    ]
    consumers = graph.consumers()
    if len(affine_at) != 1 or consumers[IMAGE] != 1:
        return
    node = graph.nodes[affine_at[0]]
    follower = node
    while True:
        readers = [n for n in graph.nodes if any(ref.node == follower.name for ref in n.inputs)]
        if len(readers) != 1 or consumers[follower.name] != 1:
            return
        follower = readers[0]
        if not isinstance(follower.op, Pad):
            break
    affine, stem = node.op, follower.op
    assert isinstance(affine, Affine)
    if not isinstance(stem, Conv | DepthwiseConv) or not np.all(affine.scale):
        return
    shift = affine.offset / affine.scale
    if np.abs(shift).max() > _LARGEST_PIXEL_OFFSET or affine.scale.size not in (1, stem.kernel.shape[2]):
        return
    factor = affine.scale[:, None]  # broadcasts over [in, out] (or [in, multiplier])
    graph.nodes[graph.nodes.index(follower)] = replace(
        follower, op=replace(stem, kernel=_f32(stem.kernel.astype(np.float64) * factor))
    )
    if np.any(shift):
        graph.nodes[affine_at[0]] = replace(node, op=Affine(np.ones_like(shift), shift))
    else:
        graph.nodes.remove(node)
        _redirect(graph, node.name, IMAGE)


def _keep_dimensions(producer: Node, consumer: Node) -> Op | None:
    """Global pooling -> Reshape((1, 1, C)), as in squeeze-and-excitation: pool with the dimensions kept."""
    pool, reshape = producer.op, consumer.op
    if not (isinstance(pool, GlobalPool) and isinstance(reshape, Reshape)) or pool.keepdims:
        return None
    if len(reshape.shape) != 3 or reshape.shape[:2] != (1, 1):
        return None
    return replace(pool, keepdims=True)


def _f32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)
