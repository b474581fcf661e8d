"""An integer ``.tflite`` as TensorFlow Lite for Microcontrollers (TFLM) needs it, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.runtimes.tflite import flatbuffer, lookup

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorT

_SUM = 512  # of exponentials, relative to the largest, from which on TFLM's softmax ends the program
_WIDE = 1 / 65536, -32768  # scale and zero point of a softmax in 16 bits


def adapted(content: bytes, *, packed: bool = False) -> bytes:
    """Return a file with the same answers that TFLM runs on every image.

    TFLM's softmax from int8 to int8 shifts by one bit more for each doubling of the sum of exponentials, and
    ends the program where that would be more than 31 bits: at a sum of 512, which is an image that no class
    out of 512 or more stands out of (``TFLITE_CHECK`` in ``reference/softmax.h``). To int16 there is room for
    sums up to 131,072; the same kernel computes that, and what follows rounds it to the steps of int8.

    Args:
        content: The file.
        packed: Whether it is to take little flash, for more memory and time: weights as lookup tables where
            that is smaller, and without what TFLM does not read. LiteRT runs no such file; see `restored`.
    """
    model = flatbuffer.read(content)
    changed = _widen_softmax(model)
    if packed:
        _forget_unread(model)
        return lookup.pack(model)
    return flatbuffer.write(model) if changed else content


def restored(model: ModelT) -> bool:
    """Undo what `adapted` did to take little flash, so that LiteRT runs the file.

    Args:
        model: Changed in place.

    Returns:
        Whether it was such a file.
    """
    found = lookup.unpack(model)
    graph = model.subgraphs[0]
    for op in graph.operators:
        if flatbuffer.op_name(model, op) not in lookup.CHANNELS:
            continue
        image, weights, *rest = (graph.tensors[index] for index in op.inputs if index >= 0)
        grid, scales = flatbuffer.quantization_of(image), _scales(weights)
        if grid is None or len(scales) < 2 or len(weights.quantization.zeroPoint) != 1:
            continue
        found = True
        weights.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        if rest and rest[0].quantization is None:
            rest[0].quantization = flatbuffer.scaled(np.float32(grid[0]) * scales)
    return found


def _forget_unread(model: ModelT) -> None:
    """Take out what TFLM does not read: names of constants, all zero points but one, scales of biases.

    Its reader gives all channels one zero point where there is one ("as a space-saving optimization", says
    ``micro_allocator.cc``); kernels with a scale for each channel compute that of the bias themselves.
    """
    graph = model.subgraphs[0]
    for op in graph.operators:
        if flatbuffer.op_name(model, op) not in lookup.CHANNELS:
            continue
        _, weights, *rest = (graph.tensors[index] for index in op.inputs if index >= 0)
        if len(_scales(weights)) < 2 or np.any(weights.quantization.zeroPoint):
            continue
        weights.quantization.zeroPoint = [0]
        if rest and flatbuffer.is_constant(model, rest[0]):
            rest[0].quantization = None
    ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
    for number, tensor in enumerate(graph.tensors):
        if number not in ends and flatbuffer.is_constant(model, tensor):
            tensor.name = b""


def _scales(tensor: TensorT) -> NDArray[np.float32]:
    found = tensor.quantization
    return np.asarray(() if found is None or found.scale is None else found.scale, np.float32)


def _widen_softmax(model: ModelT) -> bool:
    """Let softmax of many classes answer in int16; whether there is one."""
    graph = model.subgraphs[0]
    operators = []
    for op in graph.operators:
        operators.append(op)
        if flatbuffer.op_name(model, op) != "SOFTMAX":
            continue
        result = int(op.outputs[0])
        tensor = graph.tensors[result]
        if flatbuffer.dtype_name(tensor) == "int8" and flatbuffer.shape_of(tensor)[-1] >= _SUM:
            wide = flatbuffer.add_like(model, result, b"_int16", "int16", _WIDE)
            op.outputs = [wide]
            operators.append(flatbuffer.conversion(model, "QUANTIZE", wide, result))
    changed = len(operators) > len(graph.operators)
    graph.operators = operators
    return changed
