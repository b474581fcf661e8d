"""What a classifier's last layer with weights reads: the features of an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.runtimes.session import is_vector
from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

_WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL")


def write(path: Path, out: Path) -> bool:
    """Write a copy of a file that ends in them; see `Runtime.write_features`."""
    model = flatbuffer.read(path)
    graph = model.subgraphs[0]
    head = next((op for op in _backwards(model) if flatbuffer.op_name(model, op) in _WEIGHTED), None)
    if head is None or not is_vector(flatbuffer.shape_of(graph.tensors[head.inputs[0]])):
        return False
    graph.outputs = [int(head.inputs[0])]
    model.signatureDefs = []
    out.write_bytes(flatbuffer.write(model))
    return True


def _backwards(model: ModelT) -> Iterator[OperatorT]:
    """Yield the operations before the output, the nearest first."""
    graph = model.subgraphs[0]
    makers = {int(index): op for op in graph.operators for index in op.outputs}
    waiting, seen = [int(index) for index in graph.outputs], set[int]()
    while waiting:
        index = waiting.pop(0)
        if index in seen or index not in makers:
            continue
        seen.add(index)
        yield makers[index]
        waiting += [int(other) for other in makers[index].inputs]
