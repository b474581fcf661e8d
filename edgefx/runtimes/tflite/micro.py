"""An integer ``.tflite`` as TensorFlow Lite for Microcontrollers (TFLM) needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_SUM = 512  # of exponentials, relative to the largest, from which on TFLM's softmax ends the program
_WIDE = 1 / 65536, -32768  # scale and zero point of a softmax in 16 bits


def adapted(content: bytes) -> bytes:
    """Return a file with the same answers that TFLM runs on every image.

    TFLM's softmax from int8 to int8 shifts by one bit more for each doubling of the sum of exponentials, and
    ends the program where that would be more than 31 bits: at a sum of 512, which is an image that no class
    out of 512 or more stands out of (``TFLITE_CHECK`` in ``reference/softmax.h``). To int16 there is room for
    sums up to 131,072; the same kernel computes that, and what follows rounds it to the steps of int8.

    Args:
        content: The file.
    """
    model = flatbuffer.read(content)
    return flatbuffer.write(model) if _widen_softmax(model) else content


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
