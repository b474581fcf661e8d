"""INT8 weights of a ``.tflite`` as lookup tables, for TensorFlow Lite for Microcontrollers (TFLM).

The operation ``TFLM_DECODE`` reads indices of 1 to 7 bits and the values that they stand for, and writes the
weights into the arena just before the operation that reads them: less flash, for more memory and time.

The format, from TFLM's ``decode_state_lut.cc``: indices lie behind one another, the high bit first; values
follow a header of 16 bytes, one table for each of the scales that the decoded tensor has, so many bytes apart
as the header says. A distance of zero makes one table do for all of them, which saves most of what tables of
channels take. TFLM's own compressor does not do so: it announces one table by the axis 15, which interpreters
of 2026 do not look at, so that they decode such a tensor to other weights than were encoded. Both are said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT

OPERATION = "TFLM_DECODE"
CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # the channel axis of the weights
_WIDEST = 7  # bits of an index
_HEADER = 16  # bytes before the values of a table
_ONE_TABLE = 15  # in place of an axis
_VERSION, _LUT_VERSION, _PARAMETERS, _DISTANCE = 1, 4, 5, 6  # where each stands in the header
_ADDED = 150  # bytes of the file that the operation itself and its two tensors take, about


@dataclass(frozen=True, kw_only=True)
class LookupTable:
    """How a tensor of weights becomes indices into tables.

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


def weights(model: ModelT) -> list[tuple[int, NDArray[np.int8], int]]:
    """Return the index, the codes and the channel axis of each tensor of INT8 weights, each once."""
    graph = model.subgraphs[0]
    found = {}
    for op in graph.operators:
        axis = CHANNELS.get(flatbuffer.op_name(model, op))
        if axis is None or len(op.inputs) < 2:
            continue
        index = int(op.inputs[1])
        tensor = graph.tensors[index]
        if flatbuffer.is_constant(model, tensor) and flatbuffer.dtype_name(tensor) == "int8":
            data = np.ascontiguousarray(model.buffers[tensor.buffer].data).view(np.int8)
            found[index] = (index, data.reshape(flatbuffer.shape_of(tensor)), axis)
    return list(found.values())


def tables(model: ModelT) -> tuple[LookupTable, ...]:
    """Return how the weights of a model are stored as lookup tables; not those that would grow."""
    tensors = model.subgraphs[0].tensors
    found = []
    for index, codes, axis in weights(model):
        candidates = [_table(index, codes, None)]
        if len(tensors[index].quantization.scale) > 1:
            candidates.append(_table(index, codes, axis))
        found.append(max(candidates, key=lambda table: table.saved))
    return tuple(table for table in found if table.saved > 0)


def pack(model: ModelT) -> bytes:
    """Return the file of a model with its weights as lookup tables, wherever that makes it smaller.

    Args:
        model: Changed: it is the model of the file.
    """
    graph = model.subgraphs[0]
    found = {table.tensor: table for table in tables(model)}
    if found:
        code = _operator_code(model)
        codes = {index: values for index, values, _ in weights(model)}
        stored = {
            index: _stored(model, graph.tensors[index], codes[index], table) for index, table in found.items()
        }
        graph.operators = [
            each for op in graph.operators for each in (*_decoding(model, op, stored, code), op)
        ]
        _forget_unused(model)
    return flatbuffer.write(model, aligned=bool(found))


def unpack(model: ModelT) -> bool:
    """Decode the lookup tables of a model, so that interpreters without ``TFLM_DECODE`` run it.

    Args:
        model: Changed in place.

    Returns:
        Whether it had any.

    Raises:
        IndexError, ValueError: A table is damaged.
    """
    graph = model.subgraphs[0]
    decoders = [op for op in graph.operators if flatbuffer.op_name(model, op) == f"CUSTOM:{OPERATION}"]
    read: set[int] = set()
    for op in decoders:
        for place, output in enumerate(op.outputs):
            packed, table = (_bytes(model, int(index)) for index in op.inputs[2 * place : 2 * place + 2])
            read.update(int(index) for index in op.inputs)
            tensor = graph.tensors[output]
            _fill(model, tensor, _decoded(tensor, packed, table).reshape(-1).view(np.uint8))
    for index in read:  # of no use any more
        graph.tensors[index].buffer, graph.tensors[index].shape = 0, [0]
    graph.operators = [op for op in graph.operators if op not in decoders]
    _forget_unused(model)
    return bool(decoders)


def size(weights: int, values: int, *, tables: int) -> int:
    """Return the bytes that so many weights take, about, as indices into tables of so many values."""
    bits = max(1, (values - 1).bit_length())
    return -(-weights * bits // 8) + _HEADER + tables * values + _ADDED


def _table(index: int, codes: NDArray[np.int8], axis: int | None) -> LookupTable:
    occurs = _occurs(_rows(codes, axis))
    values = int(occurs.sum(axis=1).max())
    bits = max(1, (values - 1).bit_length())
    saved = codes.size - size(codes.size, values, tables=len(occurs)) if bits <= _WIDEST else 0
    return LookupTable(tensor=index, bits=bits, axis=axis, saved=saved)


def _rows(codes: NDArray[np.int8], axis: int | None) -> NDArray[np.int8]:
    """Return what shares a table, row by row: [tables, weights]."""
    if axis is None:
        return codes.reshape(1, -1)
    return np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)


def _occurs(rows: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which codes from -128 on occur in each row, [rows, 256]."""
    places = rows.astype(np.int64) + 128 + 256 * np.arange(len(rows))[:, None]
    return np.bincount(places.ravel(), minlength=256 * len(rows)).reshape(len(rows), 256) > 0


def _table_of_each(shape: tuple[int, ...], axis: int | None) -> NDArray[np.int64]:
    """Return the number of the table of each weight, in a shape that broadcasts."""
    if axis is None:
        return np.zeros([1] * len(shape), np.int64)
    return np.arange(shape[axis]).reshape([-1 if place == axis else 1 for place in range(len(shape))])


def _stored(
    model: ModelT, tensor: TensorT, codes: NDArray[np.int8], table: LookupTable
) -> tuple[int, int, TensorT]:
    """Replace a tensor of weights by indices.

    Returns:
        The tensors of the indices and of the tables, and one like what it was.
    """
    from ai_edge_litert import schema_py_generated as schema

    occurs = _occurs(_rows(codes, table.axis))
    longest = int(occurs.sum(axis=1).max())
    header = np.zeros(_HEADER, np.uint8)
    header[[_VERSION, _LUT_VERSION]] = 1
    header[_PARAMETERS] = (_ONE_TABLE if table.axis is None else table.axis) << 4 | table.bits
    header[_DISTANCE] = 0 if table.axis is None else longest
    values = np.zeros((len(occurs), longest), np.int8)
    for row, present in zip(values, occurs, strict=True):
        (found,) = np.nonzero(present)
        row[: len(found)] = found - 128
    ranks = np.cumsum(occurs, axis=1) - 1  # the index of each code, by table
    indices = ranks[_table_of_each(codes.shape, table.axis), codes.astype(np.int64) + 128]
    bits = indices.reshape(-1, 1) >> np.arange(table.bits)[::-1] & 1
    decoded = _like(tensor)
    _fill(model, tensor, np.packbits(bits.astype(np.uint8)), as_bytes=True)
    described = schema.TensorT()
    _fill(model, described, np.concatenate([header, values.reshape(-1).view(np.uint8)]), as_bytes=True)
    tensors = model.subgraphs[0].tensors
    tensors.append(described)
    return table.tensor, len(tensors) - 1, decoded


def _decoded(tensor: TensorT, packed: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return the weights that TFLM decodes, of the tensor's shape."""
    shape = flatbuffer.shape_of(tensor)
    width, distance = int(table[_PARAMETERS]) & 7, int(table[_DISTANCE])
    size = math.prod(shape)
    if not width or 8 * len(packed) < size * width:
        raise ValueError("a lookup table without indices for all weights")
    bits = np.unpackbits(packed, count=size * width).reshape(size, width)
    indices = (bits @ (1 << np.arange(width)[::-1])).reshape(shape)
    found = tensor.quantization
    axis = int(found.quantizedDimension) if found is not None and len(found.scale) > 1 else None
    return table[_HEADER:].view(np.int8)[_table_of_each(shape, axis) * distance + indices]


def _bytes(model: ModelT, index: int) -> NDArray[np.uint8]:
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    if data is None:
        raise ValueError("a lookup table without values")
    return np.ascontiguousarray(data, np.uint8)


def _like(tensor: TensorT) -> TensorT:
    """Return a tensor like another one, without values."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.TensorT()
    made.name, made.shape, made.type = tensor.name, tensor.shape, tensor.type
    made.quantization, made.buffer = tensor.quantization, 0
    return made


def _fill(model: ModelT, tensor: TensorT, data: NDArray[np.uint8], *, as_bytes: bool = False) -> None:
    """Give a tensor values of its own; as bytes: it becomes nothing but these."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
    if as_bytes:
        tensor.name, tensor.shape, tensor.shapeSignature, tensor.quantization = b"", [len(data)], None, None
        tensor.type = flatbuffer.dtype_code("uint8")


def _forget_unused(model: ModelT) -> None:
    """Take out values that no tensor has any more."""
    used = {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
    used |= {int(entry.buffer) for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _operator_code(model: ModelT) -> int:
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = OPERATION.encode(), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _decoding(
    model: ModelT, reader: OperatorT, stored: dict[int, tuple[int, int, TensorT]], code: int
) -> Iterator[OperatorT]:
    """Yield the operation that decodes what an operation reads; its inputs become what that makes.

    Each reader has one of its own: what is decoded is there for the next operation only.
    """
    from ai_edge_litert import schema_py_generated as schema

    found = [(place, stored[int(index)]) for place, index in enumerate(reader.inputs) if int(index) in stored]
    if not found:
        return
    tensors = model.subgraphs[0].tensors
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = code, [], []
    inputs = list(reader.inputs)
    for place, (indices, table, decoded) in found:
        tensors.append(_like(decoded))
        op.inputs += [indices, table]
        op.outputs.append(len(tensors) - 1)
        inputs[place] = op.outputs[-1]
    reader.inputs = inputs
    yield op
