"""Which operations of a ``.tflite`` stay in float: those of the layers that are kept there."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_ACTIVATION = frozenset({"LOGISTIC", "MUL"})  # what a swish consists of


def kept_in_float(model: ModelT, layers: Collection[str]) -> frozenset[int]:
    """Return the output tensors of the operations of some canonical layers and of their activations.

    A layer's activation stays in float with it: rounded between the two, little would be gained.

    Args:
        model: The float graph.
        layers: Canonical layers.
    """
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)
    kept = set()
    for op in graph.operators:
        index = int(op.outputs[0])
        if graph.tensors[index].name.decode().split("/", 1)[0] not in layers:
            continue
        kept.add(index)
        behind = {flatbuffer.op_name(model, reader) for reader in readers[index]}
        if behind and behind <= _ACTIVATION:
            kept |= {int(reader.outputs[0]) for reader in readers[index]}
    return frozenset(kept)
