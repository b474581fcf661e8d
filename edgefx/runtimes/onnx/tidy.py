"""The passes that make tf2onnx's graph small and give its tensors the canonical names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgefx.runtimes.onnx.graph import OnnxGraph, attribute, integers, layer_of, set_attribute

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run all passes; the result has the same inputs, outputs and, up to rounding, the same values."""
    graph = OnnxGraph(model)
    _drop_views(graph)
    _fold_scale_behind_convolutions(graph)
    _fold_scale_in_front_of_the_stem(graph)
    _fold_padding(graph)
    _fuse_dense(graph)
    graph.drop_unused()
    graph.sort()
    _rename(graph)
    return graph.model()


def _drop_views(graph: OnnxGraph) -> None:
    """Remove chains of views that end in the shape they began with.

    A pooled [1, C, 1, 1] map goes through Squeeze to [1, C] and through Reshape back, in every SE block. On
    maps of one position tf2onnx sometimes leaves a Transpose and a Reshape back, and sometimes not, for the
    same graph: it goes through sets, whose order differs from run to run.
    """
    shapes = graph.shapes()
    roots: dict[str, list[str]] = {}  # tensor -> the tensors it is a view of, nearest first
    for node in graph.nodes:
        if node.op_type not in _VIEWS and not _is_transposed_view(node, shapes):
            continue
        source, result = node.input[0], node.output[0]
        roots[result] = [source, *roots.get(source, [])]
        if result in graph.output_names or result not in shapes:
            continue
        same = [root for root in roots[result] if shapes.get(root) == shapes[result]]
        if same:
            graph.replace_tensor(result, same[-1])
    graph.drop_unused()


def _is_transposed_view(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a Transpose moves nothing but dimensions of size one, and so no value."""
    shape = shapes.get(node.input[0])
    if node.op_type != "Transpose" or shape is None:
        return False
    order = integers(node, "perm", tuple(reversed(range(len(shape)))))
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


def _constant_operand(graph: OnnxGraph, node: onnx.NodeProto) -> tuple[str, NDArray[Any], bool] | None:
    """Split a binary node with one constant operand into (variable, constant, constant comes second)."""
    if len(node.input) != 2:
        return None
    left, right = node.input
    if right in graph.constants and left not in graph.constants:
        return left, graph.constants[right], True
    if left in graph.constants and right not in graph.constants:
        return right, graph.constants[left], False
    return None


def _per_channel(value: NDArray[Any], channels: int, axis: int, rank: int) -> NDArray[np.float64] | None:
    """Return a broadcast constant as one value per channel, or None when it varies along another axis."""
    import numpy as np

    if value.ndim > rank:
        return None
    full = value.reshape((1,) * (rank - value.ndim) + value.shape)
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    if full.shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)


def _affine(
    graph: OnnxGraph, node: onnx.NodeProto, channels: int, axis: int, rank: int
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]] | None:
    """Read a Mul/Div/Add/Sub with a constant as ``y = x * scale + shift`` per channel."""
    import numpy as np

    split = _constant_operand(graph, node) if node.op_type in ("Mul", "Div", "Add", "Sub") else None
    if split is None:
        return None
    variable, value, second = split
    constant = _per_channel(value, channels, axis, rank)
    if constant is None or (node.op_type == "Div" and not second):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return variable, constant, zero
    if node.op_type == "Div":
        return variable, 1 / constant, zero
    if node.op_type == "Add":
        return variable, one, constant
    return (variable, one, -constant) if second else (variable, -one, constant)


def _fold_scale_behind_convolutions(graph: OnnxGraph) -> None:
    """Multiply what scales and shifts a convolution's output (batch normalization) into its weights."""
    import numpy as np

    consumers = graph.consumers()
    for node in list(graph.nodes):
        if node.op_type != "Conv" or node.input[1] not in graph.constants:
            continue
        while True:
            readers = consumers[node.output[0]]
            if len(readers) != 1 or node.output[0] in graph.output_names:
                break
            weight = graph.constants[node.input[1]]
            found = _affine(graph, readers[0], weight.shape[0], 1, weight.ndim)
            if found is None or (len(node.input) > 2 and node.input[2] not in graph.constants):
                break
            _, scale, shift = found
            bias = graph.constants[node.input[2]] if len(node.input) > 2 else np.zeros(weight.shape[0])
            scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
            bias_name = graph.derive(
                node.input[2] if len(node.input) > 2 else node.input[1],
                (bias * scale + shift).astype(np.float32),
            )
            node.input[1:] = [graph.derive(node.input[1], scaled.astype(np.float32)), bias_name]
            node.output[0] = readers[0].output[0]
            graph.remove(readers)


def _fold_scale_in_front_of_the_stem(graph: OnnxGraph) -> None:
    """Turn Rescaling and Normalization into one Add and scaled stem weights.

    ``conv((x * s + b)) = conv'(x + b / s)`` with the scale in the weights. The shift has to stay where it is:
    the stem pads with zeros *behind* it, which no bias can imitate at the border.
    """
    import numpy as np

    consumers = graph.consumers()
    start = graph.inputs[0].name
    chain: list[onnx.NodeProto] = []
    scale, shift = np.ones(3), np.zeros(3)
    tensor, transposed = start, False
    while len(consumers[tensor]) == 1 and tensor not in graph.output_names:
        node = consumers[tensor][0]
        if node.op_type == "Transpose" and integers(node, "perm", ()) == (0, 3, 1, 2) and not transposed:
            transposed = True
        elif (found := _affine(graph, node, 3, 1 if transposed else 3, 4)) is not None:
            scale, shift = scale * found[1], shift * found[1] + found[2]
        else:
            break
        chain.append(node)
        tensor = node.output[0]
    stem = consumers[tensor][0] if len(consumers[tensor]) == 1 else None
    pad = stem if stem is not None and _is_zero_pad(graph, stem) else None
    if pad is not None:
        stem = consumers[pad.output[0]][0] if len(consumers[pad.output[0]]) == 1 else None
    arithmetic = [node for node in chain if node.op_type != "Transpose"]
    if stem is None or stem.op_type != "Conv" or not transposed or not arithmetic or np.any(scale == 0):
        return
    if stem.input[1] not in graph.constants or graph.constants[stem.input[1]].shape[1] != 3:
        return
    weight = graph.constants[stem.input[1]]
    stem.input[1] = graph.derive(stem.input[1], (weight * scale.reshape(1, 3, 1, 1)).astype(np.float32))
    transpose = next(node for node in chain if node.op_type == "Transpose")
    transpose.input[0] = start
    source = transpose.output[0]
    if np.any(shift):
        graph.constants["normalization/shift"] = (shift / scale).astype(np.float32).reshape(1, 3, 1, 1)
        keep = arithmetic[-1]
        keep.op_type, keep.name = "Add", "normalization/Add"
        keep.input[:] = [source, "normalization/shift"]
        keep.output[:] = ["normalization/Add"]
        source = "normalization/Add"
        graph.nodes.remove(keep)
        graph.nodes.insert(graph.nodes.index(transpose) + 1, keep)
        arithmetic = arithmetic[:-1]
    (pad if pad is not None else stem).input[0] = source
    graph.remove(arithmetic)


def _is_zero_pad(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Whether a node pads the spatial axes of a map with constant zeros."""
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return False
    if len(node.input) < 2 or node.input[1] not in graph.constants or len(node.input) > 3:
        return False
    if len(node.input) == 3 and node.input[2] and graph.constants[node.input[2]].reshape(-1)[0] != 0:
        return False
    pads = graph.constants[node.input[1]].reshape(-1)
    return len(pads) == 8 and not pads[[0, 1, 4, 5]].any() and bool((pads >= 0).all())


def _fold_padding(graph: OnnxGraph) -> None:
    """Let convolutions do the zero padding in front of them."""
    consumers = graph.consumers()
    for pad in [node for node in graph.nodes if _is_zero_pad(graph, node)]:
        readers = consumers[pad.output[0]]
        if pad.output[0] in graph.output_names or not readers:
            continue
        if any(
            reader.op_type != "Conv" or attribute(reader, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
            for reader in readers
        ):
            continue
        amounts = [int(amount) for amount in graph.constants[pad.input[1]].reshape(-1)]
        extra = amounts[2:4] + amounts[6:8]
        for reader in readers:
            had = integers(reader, "pads", (0, 0, 0, 0))
            set_attribute(reader, "auto_pad", "NOTSET")
            set_attribute(reader, "pads", [a + b for a, b in zip(had, extra, strict=True)])
            reader.input[0] = pad.input[0]
        graph.remove([pad])


def _fuse_dense(graph: OnnxGraph) -> None:
    """Turn MatMul with a constant matrix and the Add of its bias into one Gemm."""
    shapes = graph.shapes()
    consumers = graph.consumers()
    for node in list(graph.nodes):
        if node.op_type != "MatMul" or node.input[1] not in graph.constants:
            continue
        readers = consumers[node.output[0]]
        if len(shapes.get(node.input[0], ())) != 2 or len(readers) != 1 or readers[0].op_type != "Add":
            continue
        split = _constant_operand(graph, readers[0])
        columns = graph.constants[node.input[1]].shape[1]
        if split is None or split[1].size != columns or node.output[0] in graph.output_names:
            continue
        bias = next(name for name in readers[0].input if name in graph.constants)
        node.op_type = "Gemm"
        node.input.append(graph.derive(bias, graph.constants[bias].reshape(-1)))
        node.output[0] = readers[0].output[0]
        graph.remove(readers)


def _rename(graph: OnnxGraph) -> None:
    """Name nodes ``<layer>/<Op>``, their output like the node, their weights ``<layer>/weight`` and so on."""
    taken: set[str] = {info.name for info in (*graph.inputs, *graph.outputs)}
    renamed: dict[str, str] = {}
    constants: dict[str, str] = {}
    roles = {
        "Conv": ("", "weight", "bias"),
        "Gemm": ("", "weight", "bias"),
        "MatMul": ("", "weight"),
    }

    def free(wanted: str) -> str:
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name)
        return name

    for node in graph.nodes:
        layer = _layer_name(graph, node)
        node.name = free(f"{layer}/{node.op_type}" if layer else node.op_type)
        for index, name in enumerate(node.input):
            if name in graph.constants and name not in constants:
                role = roles.get(node.op_type, ())
                kind = role[index] if index < len(role) else "constant"
                constants[name] = free(f"{layer}/{kind}" if layer else f"{node.name}/{kind}")
        for index, output in enumerate(node.output):
            if output not in graph.output_names:
                renamed[output] = node.name if index == 0 else f"{node.name}:{index}"
    table = {**renamed, **constants}
    for node in graph.nodes:
        node.input[:] = [table.get(name, name) for name in node.input]
        node.output[:] = [table.get(name, name) for name in node.output]
    graph.constants = {constants.get(name, name): value for name, value in graph.constants.items()}


def _layer_name(graph: OnnxGraph, node: onnx.NodeProto) -> str:
    """Find the layer of a node from its name, else from its weights' (tf2onnx makes up names: Conv__237)."""
    candidates = [node.name, *node.output, *(name for name in node.input if name in graph.constants)]
    for candidate in candidates:
        layer = layer_of(_NOISE.sub("", candidate.removesuffix(":0")))
        if layer:
            return layer
    return ""


_NOISE = re.compile(r"(__\d+)+$")


_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
