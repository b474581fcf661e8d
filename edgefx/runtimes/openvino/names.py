"""Give OpenVINO's operations the names of the canonical graph's.

OpenVINO's TensorFlow frontend turns NHWC into NCHW by moving transposes around, and loses most names on the
way; the ones it makes up ("Transpose_1807") count up within the process. Here both graphs are walked from
their output backwards in step; an operation gets the name of the TensorFlow operation that computes the same
value. What has no counterpart is numbered, so that the same graph always yields the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgefx.models.graph import freeze

# OpenVINO type -> TensorFlow operations that it may come from.
_SAME = {
    "Convolution": {"Conv2D"},
    "GroupConvolution": {"DepthwiseConv2dNative", "Conv2D"},
    "MatMul": {"MatMul", "BatchMatMulV2"},
    "Add": {"Add", "AddV2", "BiasAdd"},
    "Subtract": {"Sub"},
    "Multiply": {"Mul"},
    "Divide": {"RealDiv"},
    "Sigmoid": {"Sigmoid"},
    "Swish": {"Mul"},  # x * sigmoid(x)
    "Relu": {"Relu"},
    "Clamp": {"Relu6", "Minimum", "Maximum"},
    "Tanh": {"Tanh"},
    "Softmax": {"Softmax"},
    "ReduceMean": {"Mean"},
    "ReduceMax": {"Max"},
    "MaxPool": {"MaxPool"},
    "AvgPool": {"AvgPool"},
    "Concat": {"ConcatV2"},
    "Reshape": {"Reshape", "Squeeze", "ExpandDims"},
    "Pad": {"Pad", "PadV2"},
}
_LAYOUT = {"Transpose", "Reshape", "Squeeze", "Unsqueeze"}
_PASSED = {"Identity", "Transpose", "Reshape", "Squeeze", "ExpandDims"}
_UNNAMED = re.compile(r"^[A-Za-z]\w*_\d+$")


def name_operations(model: Any, graph_def: Path, *, outputs: Sequence[str]) -> None:
    """Name the operations of `model` (an ``openvino.Model``) after those of the GraphDef it was made from.

    Args:
        model: Converted from `graph_def`; renamed in place.
        graph_def: A binary GraphDef.
        outputs: Names of the GraphDef's output operations, in the order of the model's results.
    """
    nodes = _read(graph_def)
    named: set[str] = set()
    todo = [
        (result.input_value(0).get_node(), nodes[output])
        for result, output in zip(model.get_results(), outputs, strict=True)
    ]
    while todo:
        operation, node = _aligned(*todo.pop(), nodes)
        if not _same(operation, node) or node.name in named:
            continue
        named.add(node.name)
        operation.set_friendly_name(node.name)
        ours = [value.get_node() for value in operation.input_values()]
        ours = [source for source in ours if source.get_type_name() != "Constant"]
        theirs = _sources(node, nodes)
        if operation.get_type_name() == "Swish":
            theirs = [source for source in theirs if source.op != "Sigmoid"]
        if len(ours) == 2 and not _all_same(ours, theirs, nodes) and _all_same(ours, theirs[::-1], nodes):
            theirs.reverse()  # a commutative operation whose sides were swapped
        if len(ours) == len(theirs):
            todo.extend(zip(ours, theirs, strict=True))


def number_unnamed(model: Any) -> None:
    """Replace made-up names by ``<Type>_<position>``, counted within this model, and names that are taken.

    A transpose that the frontend puts behind an operation may bear that operation's name.
    """
    taken: set[str] = set()
    for position, operation in enumerate(model.get_ordered_ops()):
        name = operation.get_friendly_name()
        if _UNNAMED.match(name) or name in taken:
            operation.set_friendly_name(f"{operation.get_type_name()}_{position}")
        taken.add(operation.get_friendly_name())


def _aligned(operation: Any, node: Any, nodes: dict[str, Any]) -> tuple[Any, Any]:
    """Step over operations that only move data and have no counterpart on the other side."""
    while operation.get_type_name() in _LAYOUT and not _same(operation, node):
        operation = operation.input_value(0).get_node()
    while node.op in _PASSED and not _same(operation, node):
        node = _sources(node, nodes)[0]
    return operation, node


def _same(operation: Any, node: Any) -> bool:
    return node.op in _SAME.get(operation.get_type_name(), ())


def _all_same(operations: list[Any], sources: list[Any], nodes: dict[str, Any]) -> bool:
    pairs = (_aligned(*pair, nodes) for pair in zip(operations, sources, strict=False))
    return len(operations) == len(sources) and all(_same(*pair) for pair in pairs)


def _sources(node: Any, nodes: dict[str, Any]) -> list[Any]:
    """The operations whose values `node` reads, without constants and control inputs."""
    names = [name.split(":")[0] for name in node.input if not name.startswith("^")]
    return [nodes[name] for name in names if nodes[name].op != "Const"]


def _read(path: Path) -> dict[str, Any]:
    return {node.name: node for node in freeze.read(path).node}
