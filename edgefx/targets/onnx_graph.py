"""Tidy an ONNX classifier graph: fewer nodes, plain names, the same numbers.

What tf2onnx leaves on an EfficientNet: batch normalization as Mul/Add behind depthwise convolutions, the
three operations of Rescaling and Normalization on the largest map of the network, a Squeeze and a Reshape
around every squeeze-and-excite block, Pad in front of strided convolutions, and names such as
``const_fold_opt__577``. Each pass below removes one of these, exactly (up to float32 rounding of weights).

Works on batch-1 graphs of fixed shape whose constants are initializers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


class Graph:
    """A mutable view of a model's graph: nodes in topological order, constants by name, who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.inputs: list[onnx.ValueInfoProto] = list(model.graph.input)
        self.outputs: list[onnx.ValueInfoProto] = list(model.graph.output)
        self.opset = opset_of(model)

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Map every tensor to the node that writes it."""
        return {output: node for node in self.nodes for output in node.output}

    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Map every tensor to the nodes that read it."""
        readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                readers[name].append(node)
        return readers

    @property
    def output_names(self) -> set[str]:
        """Names of the graph outputs."""
        return {output.name for output in self.outputs}

    def replace_tensor(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def remove(self, doomed: Iterable[onnx.NodeProto]) -> None:
        """Drop nodes (by identity)."""
        gone = {id(node) for node in doomed}
        self.nodes = [node for node in self.nodes if id(node) not in gone]

    def derive(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant made from the constant `name`, which others may still read; returns its name."""
        fresh = f"{name}'"
        while fresh in self.constants:
            fresh += "'"
        self.constants[fresh] = value
        return fresh

    def drop_unused(self) -> None:
        """Drop nodes and constants that no output depends on."""
        needed = set(self.output_names)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}

    def sort(self) -> None:
        """Put the nodes in the one order that follows from the graph alone (depth first from the outputs).

        tf2onnx's order changes with Python's hash seed, and the same model must give the same bytes.
        """
        producers, ordered, done = self.producers(), [], set[int]()
        stack = [
            (producers[output.name], False) for output in reversed(self.outputs) if output.name in producers
        ]
        while stack:
            node, visited = stack.pop()
            if id(node) in done:
                continue
            if visited:
                done.add(id(node))
                ordered.append(node)
                continue
            stack.append((node, True))
            stack.extend((producers[name], False) for name in reversed(node.input) if name in producers)
        self.nodes = ordered

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Infer the static shape of every tensor; tensors of unknown shape are absent."""
        return infer_shapes(self.model())

    def model(self) -> onnx.ModelProto:
        """Assemble a model: same content, same bytes."""
        from onnx import helper, numpy_helper

        nodes = []
        for node in self.nodes:
            node.doc_string = ""
            nodes.append(node)
        used = dict.fromkeys(name for node in nodes for name in node.input if name in self.constants)
        graph = helper.make_graph(
            nodes,
            "edgefx",
            self.inputs,
            self.outputs,
            [numpy_helper.from_array(self.constants[name], name) for name in used],
        )
        # IR version 8 is what opset 17 came with: readable by every runtime that knows the opset.
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=8 if self.opset <= 18 else 10,
            producer_name="edgefx",
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set that a model asks for."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def infer_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the fixed shape of every tensor whose shape inference knows all of."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[info.name] = tuple(int(dim.dim_value) for dim in dims)
    return shapes


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return a node's attribute as a Python value."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def integers(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a list-of-integers attribute."""
    value = attribute(node, name)
    return tuple(value) if isinstance(value, list | tuple) else default


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set or replace a node's attribute."""
    from onnx import helper

    for index, existing in enumerate(node.attribute):
        if existing.name == name:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run all passes; the result has the same inputs, outputs and, up to rounding, the same values."""
    graph = Graph(model)
    _drop_views(graph)
    _fold_scale_behind_convolutions(graph)
    _fold_scale_in_front_of_the_stem(graph)
    _fold_padding(graph)
    _fuse_dense(graph)
    graph.drop_unused()
    graph.sort()
    _rename(graph)
    return graph.model()


def _drop_views(graph: Graph) -> None:
    """Remove chains of Reshape/Squeeze/Unsqueeze that end in the shape they began with.

    A pooled [1, C, 1, 1] map goes through Squeeze to [1, C] and through Reshape back, in every SE block.
    """
    shapes = graph.shapes()
    roots: dict[str, list[str]] = {}  # tensor -> the tensors it is a view of, nearest first
    for node in graph.nodes:
        if node.op_type not in _VIEWS:
            continue
        source, result = node.input[0], node.output[0]
        roots[result] = [source, *roots.get(source, [])]
        if result in graph.output_names or result not in shapes:
            continue
        same = [root for root in roots[result] if shapes.get(root) == shapes[result]]
        if same:
            graph.replace_tensor(result, same[-1])
    graph.drop_unused()


def _constant_operand(graph: Graph, node: onnx.NodeProto) -> tuple[str, NDArray[Any], bool] | None:
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
    graph: Graph, node: onnx.NodeProto, channels: int, axis: int, rank: int
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


def _fold_scale_behind_convolutions(graph: Graph) -> None:
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


def _fold_scale_in_front_of_the_stem(graph: Graph) -> None:
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


def _is_zero_pad(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node pads the spatial axes of a map with constant zeros."""
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return False
    if len(node.input) < 2 or node.input[1] not in graph.constants or len(node.input) > 3:
        return False
    if len(node.input) == 3 and node.input[2] and graph.constants[node.input[2]].reshape(-1)[0] != 0:
        return False
    pads = graph.constants[node.input[1]].reshape(-1)
    return len(pads) == 8 and not pads[[0, 1, 4, 5]].any() and bool((pads >= 0).all())


def _fold_padding(graph: Graph) -> None:
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


def _fuse_dense(graph: Graph) -> None:
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


# --------------------------------------------------------------------------------------------------- names


_NOISE = re.compile(r"(__\d+)+$")


def layer_of(name: str) -> str:
    """Return the layer that a TensorFlow operation name belongs to: all but its last part."""
    return name.rpartition("/")[0]


def _rename(graph: Graph) -> None:
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


def _layer_name(graph: Graph, node: onnx.NodeProto) -> str:
    """Find the layer of a node from its name, else from its weights' (tf2onnx makes up names: Conv__237)."""
    candidates = [node.name, *node.output, *(name for name in node.input if name in graph.constants)]
    for candidate in candidates:
        layer = layer_of(_NOISE.sub("", candidate.removesuffix(":0")))
        if layer:
            return layer
    return ""
