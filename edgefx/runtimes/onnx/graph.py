"""Tidy an ONNX classifier graph: fewer nodes, plain names, the same numbers.

What tf2onnx leaves on an EfficientNet: batch normalization as Mul/Add behind depthwise convolutions, the
three operations of Rescaling and Normalization on the largest map of the network, a Squeeze and a Reshape
around every squeeze-and-excite block, Pad in front of strided convolutions, and names such as
``const_fold_opt__577``. Each pass below removes one of these, exactly (up to float32 rounding of weights).

Works on batch-1 graphs of fixed shape whose constants are initializers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class OnnxGraph:
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


# --------------------------------------------------------------------------------------------------- names


def layer_of(name: str) -> str:
    """Return the layer that a TensorFlow operation name belongs to: all but its last part."""
    return name.rpartition("/")[0]


def weights(node: onnx.NodeProto, graph: OnnxGraph) -> list[int]:
    """Return the input positions of a node's weights that are worth storing in fewer bits."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return []
    return [
        index
        for index in (1,)
        if node.input[index] in graph.constants and graph.constants[node.input[index]].size >= SMALL
    ]


def is_swish(sigmoid: onnx.NodeProto, mul: onnx.NodeProto) -> bool:
    """Return whether a Mul multiplies a Sigmoid with that sigmoid's own input."""
    return set(mul.input) == {sigmoid.input[0], sigmoid.output[0]}


def swish_of(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> onnx.NodeProto | None:
    """Return the Mul of a swish when `node` is its Sigmoid and nothing else reads what they share."""
    if node.op_type != "Sigmoid" or len(readers[node.input[0]]) != 2 or len(readers[node.output[0]]) != 1:
        return None
    mul = readers[node.output[0]][0]
    return mul if mul.op_type == "Mul" and is_swish(node, mul) else None


def clamp_of(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], graph: OnnxGraph
) -> tuple[onnx.NodeProto, float, float] | None:
    """Return the ReLU or ReLU6 that alone reads what `node` makes, and its limits.

    An unsigned grid whose ends are these limits (or within them) clips as the function does.
    """
    if len(readers[node.output[0]]) != 1 or node.output[0] in graph.output_names:
        return None
    clamp = readers[node.output[0]][0]
    if clamp.op_type == "Relu":
        return clamp, 0.0, math.inf
    if clamp.op_type != "Clip" or clamp.input[0] != node.output[0]:
        return None
    limits = []
    for index, missing in ((1, -math.inf), (2, math.inf)):
        name = clamp.input[index] if index < len(clamp.input) else ""
        if name and name not in graph.constants:
            return None
        limits.append(float(graph.constants[name].reshape(-1)[0]) if name else missing)
    low, high = limits
    return (clamp, low, high) if low == 0.0 < high else None


SMALL = 1024  # weights with fewer values are not worth compressing
