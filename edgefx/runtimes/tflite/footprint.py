"""What a ``.tflite`` takes when it is packed: deflated, or with its weights as lookup tables.

A lookup table is what the operation ``TFLM_DECODE`` of TensorFlow Lite for Microcontrollers reads: a tensor
of indices of 1 to 7 bits and, for each channel, the values that they stand for. A tensor whose channels have
scales of their own cannot have one table for all: the interpreter of tflite-micro 0.dev20261023 takes the
number of tables from the scales, and decodes such a tensor to other weights than were encoded.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.compression import Footprint
from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # the channel axis of the weights
_WIDEST = 7  # bits of an index
_HEADER = 16  # bytes before the values of a table
_OPERATION = 300  # bytes of the file that the operation itself and its tensors take, about


@dataclass(frozen=True, kw_only=True)
class LookupTable:
    """How a tensor of weights becomes a lookup table.

    Attributes:
        tensor: Its index.
        bits: Of an index.
        axis: The channels' axis, where each has a table of its own; None with one for the tensor.
        saved: Bytes that the file becomes smaller by, about.
    """

    tensor: int
    bits: int
    axis: int | None
    saved: int


def measure(path: Path) -> Footprint:
    """Read a file and say what it takes."""
    content = path.read_bytes()
    model = flatbuffer.read(content)
    weights = [codes for _, codes, _ in _weights(model)]
    total = sum(codes.size for codes in weights)
    return Footprint(
        size_bytes=len(content),
        zipped_bytes=len(zlib.compress(content, 9)),
        lookup_bytes=len(content) - sum(table.saved for table in lookup_tables(model)),
        zeros=sum(int((codes == 0).sum()) for codes in weights) / total if total else 0.0,
    )


def lookup_tables(model: ModelT) -> tuple[LookupTable, ...]:
    """Return how the weights of a model are stored as lookup tables; not those that would grow."""
    tensors = model.subgraphs[0].tensors
    tables = (
        _table(index, codes, axis if len(tensors[index].quantization.scale) > 1 else None)
        for index, codes, axis in _weights(model)
    )
    return tuple(table for table in tables if table.saved > 0)


def _weights(model: ModelT) -> list[tuple[int, NDArray[np.int8], int]]:
    """Return the index, the codes and the channel axis of each tensor of INT8 weights, each once."""
    graph = model.subgraphs[0]
    found = {}
    for op in graph.operators:
        axis = _CHANNELS.get(flatbuffer.op_name(model, op))
        if axis is None or len(op.inputs) < 2:
            continue
        index = int(op.inputs[1])
        tensor = graph.tensors[index]
        if flatbuffer.is_constant(model, tensor) and flatbuffer.dtype_name(tensor) == "int8":
            data = np.ascontiguousarray(model.buffers[tensor.buffer].data).view(np.int8)
            found[index] = (index, data.reshape(flatbuffer.shape_of(tensor)), axis)
    return list(found.values())


def _table(index: int, codes: NDArray[np.int8], axis: int | None) -> LookupTable:
    rows = (
        codes.reshape(1, -1) if axis is None else np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)
    )
    # How often each code occurs, by table: [tables, 256].
    places = rows.astype(np.int64) + 128 + 256 * np.arange(len(rows))[:, None]
    occurs = np.bincount(places.ravel(), minlength=256 * len(rows)).reshape(len(rows), 256) > 0
    values = int(occurs.sum(axis=1).max())
    bits = max(1, (values - 1).bit_length())
    taken = -(-codes.size * bits // 8) + _HEADER + len(rows) * values + _OPERATION
    return LookupTable(tensor=index, bits=bits, axis=axis, saved=codes.size - taken if bits <= _WIDEST else 0)
