"""Squeeze-and-excitation gates in an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefx.runtimes.onnx.graph import OnnxGraph

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Gated:
    """A convolution that reads the product of a map and a gate.

    Attributes:
        convolution: Its node's name.
        product: The tensor it reads.
        gate: The tensor [1, C, 1, 1] that the map is multiplied with.
    """

    convolution: str
    product: str
    gate: str


def find(graph: OnnxGraph, convolutions: Iterable[str]) -> list[Gated]:
    """Return those of the convolutions that alone read a map times its gate, in graph order."""
    shapes, producers, readers = graph.shapes(), graph.producers(), graph.consumers()
    wanted, found = set(convolutions), []
    for node in graph.nodes:
        product = node.input[0] if node.name in wanted else ""
        mul = producers.get(product)
        if mul is None or mul.op_type != "Mul" or len(readers[product]) != 1:
            continue
        shape = shapes.get(product, ())
        vector = (*shape[:2], *(1,) * len(shape[2:]))
        gates = [name for name in mul.input if name in producers and shapes.get(name) == vector]
        if len(gates) == 1 and vector != shape:
            found.append(Gated(convolution=node.name, product=product, gate=gates[0]))
    return found


def split_biases(model: onnx.ModelProto, convolutions: Iterable[str]) -> onnx.ModelProto:
    """Move the biases of convolutions into an Add behind them.

    A bias is stored in units of the input's scale, which is not known before an image is.
    """
    from onnx import helper

    graph, wanted, nodes = OnnxGraph(model), set(convolutions), []
    readers = graph.consumers()
    for node in graph.nodes:
        nodes.append(node)
        if node.name not in wanted or len(node.input) < 3 or node.input[2] not in graph.constants:
            continue
        bias, result = node.input.pop(), node.output[0]
        along = graph.constants[bias].reshape(1, -1, 1, 1)
        if all(reader.name in wanted for reader in readers[bias]):
            graph.constants[bias] = along
        else:  # a constant of equal content is stored once: a convolution that keeps its bias reads it too
            bias = graph.derive(bias, along)
        node.output[0] = f"{node.name}/unbiased"
        nodes.append(helper.make_node("Add", [node.output[0], bias], [result], name=f"{node.name}/bias"))
    graph.nodes = nodes
    return graph.model()
