"""Operations that LiteRT computes on 8-bit integers, and that ai-edge-quantizer leaves in float.

It puts a DEQUANTIZE in front of them and a QUANTIZE behind. Where the kernel takes integers, neither is
needed: the operation reads what the first reads, and writes what the second writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT
    from numpy.typing import NDArray

# Kernels whose input and output may have any 8-bit grids, with the version that has them: tensorflow,
# lite/tools/versioning/op_version.cc. EXP and LOG could be here; but a grid of 256 steps from 0 to the
# exponential of the largest value holds nothing of the others.
_VERSIONS = {"ELU": 1, "LEAKY_RELU": 1, "PRELU": 1, "RELU6": 2, "RELU_0_TO_1": 1, "RELU_N1_TO_1": 1}
# Kernels that prescribe the grid of their output, likewise. None stands for that of their input.
_PRESCRIBED: Mapping[str, tuple[float, int] | None] = {
    "L2_NORMALIZATION": (1 / 128, 0),  # of vectors of length 1
    "MINIMUM": None,
    "REDUCE_MAX": None,
    "REVERSE_V2": None,
    "TILE": None,
}
_INT8_VERSION = 2  # of these: the first with 8-bit signed integers
ADOPTED = frozenset({*_VERSIONS, *_PRESCRIBED})
_LARGEST = 127  # code


def complete(model: ModelT) -> None:
    """Give parts of a split that nothing reads the grid of the others: the kernel takes no float among them.

    An unrolled recurrent layer has such parts, as its first state is zero.

    Args:
        model: A quantized graph, changed in place.
    """
    tensors = model.subgraphs[0].tensors
    for op in model.subgraphs[0].operators:
        if flatbuffer.op_name(model, op) == "SPLIT":
            given = tensors[int(op.inputs[1])]
            for index in op.outputs:
                tensors[int(index)].type = given.type
                tensors[int(index)].quantization = given.quantization


def adopt(model: ModelT, *, kept: Collection[str] = ()) -> None:
    """Let these operations compute on integers.

    Args:
        model: A quantized graph, changed in place.
        kept: Names of the output tensors of operations that are to stay in float.
    """
    graph = model.subgraphs[0]
    makers = {int(op.outputs[0]): op for op in graph.operators}
    removed: list[OperatorT] = []
    for op in graph.operators:
        result = int(op.outputs[0])
        if flatbuffer.op_name(model, op) not in _VERSIONS or graph.tensors[result].name.decode() in kept:
            continue
        enter = makers.get(int(op.inputs[0]))
        leaving = flatbuffer.consumers(model)[result]
        if enter is None or not _converts(model, enter, "DEQUANTIZE") or result in graph.outputs:
            continue
        if not leaving or not all(_converts(model, one, "QUANTIZE") for one in leaving):
            continue
        if not _has_integer_weights(model, op):
            continue
        op.inputs = [int(enter.inputs[0]), *map(int, op.inputs[1:])]
        op.outputs = [int(leaving[0].outputs[0])]
        removed.append(leaving[0])
        for other in leaving[1:]:  # to other grids, from that one
            other.inputs = [int(op.outputs[0])]
        _set_version(model, op)
    graph.operators = [op for op in graph.operators if not any(op is one for one in removed)]
    _drop_unread(model)


def prescribe(model: ModelT, *, kept: Collection[str] = ()) -> None:
    """Let operations compute on integers whose kernels prescribe the grid of what they put out.

    The grid that was chosen for it is made where it is read on. So are vectors divided by their length, and
    the largest of a position's channels chosen, as attention to positions (CBAM) does.

    Args:
        model: A quantized graph, changed in place.
        kept: Names of the output tensors of operations that are to stay in float.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    makers = {int(index): op for op in graph.operators for index in op.outputs}
    removed: list[OperatorT] = []
    for op in graph.operators:
        name = flatbuffer.op_name(model, op)
        if name not in _PRESCRIBED or graph.tensors[int(op.outputs[0])].name.decode() in kept:
            continue
        enter, result = makers.get(int(op.inputs[0])), int(op.outputs[0])
        leaving = flatbuffer.consumers(model)[result]
        if enter is None or not _converts(model, enter, "DEQUANTIZE"):
            continue
        if not all(_converts(model, one, "QUANTIZE") for one in leaving):
            continue
        given = int(enter.inputs[0])
        grid = _PRESCRIBED[name] or flatbuffer.quantization_of(graph.tensors[given])
        assert grid is not None, "what is dequantized is quantized"
        others = [_on_grid(model, int(index), grid) for index in op.inputs[1:]]
        if None in others:
            continue
        tensor = graph.tensors[result]
        tensor.type = flatbuffer.dtype_code("int8")
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [grid[0]], [grid[1]]
        op.inputs = [given, *others]
        code = model.operatorCodes[op.opcodeIndex]
        code.version = max(code.version, _INT8_VERSION)
        for one in leaving:
            made = int(one.outputs[0])
            if made in graph.outputs and not flatbuffer.consumers(model)[made]:
                graph.outputs = [result if int(index) == made else int(index) for index in graph.outputs]
                removed.append(one)
    graph.operators = [op for op in graph.operators if not any(op is one for one in removed)]
    _drop_unread(model)


def _drop_unread(model: ModelT) -> None:
    """Leave out conversions to float that nothing reads."""
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)
    graph.operators = [
        op
        for op in graph.operators
        if not _converts(model, op, "DEQUANTIZE")
        or readers[int(op.outputs[0])]
        or int(op.outputs[0]) in graph.outputs
    ]


def _converts(model: ModelT, op: OperatorT, name: str) -> bool:
    """Whether it is a conversion between float and 8 bit."""
    if flatbuffer.op_name(model, op) != name:
        return False
    tensors = model.subgraphs[0].tensors
    stored = tensors[int((op.inputs if name == "DEQUANTIZE" else op.outputs)[0])]
    return flatbuffer.dtype_name(stored) == "int8"


def _has_integer_weights(model: ModelT, op: OperatorT) -> bool:
    """Give a PRELU slopes of 8 bit; False where they are none that can be stored so."""
    if len(op.inputs) < 2:
        return True
    tensor = model.subgraphs[0].tensors[int(op.inputs[1])]
    if flatbuffer.dtype_name(tensor) == "int8":
        return True
    slopes = flatbuffer.constant(model, tensor)
    if slopes is None:
        return False
    scale = max(float(np.abs(slopes).max()), float(np.finfo(np.float32).tiny)) / _LARGEST
    op.inputs = [int(op.inputs[0]), _stored(model, tensor, slopes, (scale, 0))]
    return True


def _on_grid(model: ModelT, index: int, grid: tuple[float, int]) -> int | None:
    """Return a tensor, of float constants one of their codes on a grid; None where it is float and none."""
    tensor = model.subgraphs[0].tensors[index]
    if flatbuffer.dtype_name(tensor) != "float32":
        return index
    values = flatbuffer.constant(model, tensor)
    return None if values is None else _stored(model, tensor, values, grid)


def _stored(model: ModelT, tensor: TensorT, values: NDArray[Any], grid: tuple[float, int]) -> int:
    """Add constants as codes on a grid."""
    from ai_edge_litert import schema_py_generated as schema

    scale, zero_point = grid
    index = flatbuffer.add_constant(model, tensor.name + b"/stored", values)
    made = model.subgraphs[0].tensors[index]
    codes = np.clip(np.round(values / scale) + zero_point, -_LARGEST - 1, _LARGEST).astype(np.int8)
    model.buffers[made.buffer].data = codes.reshape(-1).view(np.uint8)
    made.type = flatbuffer.dtype_code("int8")
    made.quantization = schema.QuantizationParametersT()
    made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
    return index


def _set_version(model: ModelT, op: OperatorT) -> None:
    code = model.operatorCodes[op.opcodeIndex]
    code.version = max(code.version, _VERSIONS[flatbuffer.op_name(model, op)])
