"""The types of a ``.tflite``'s input and outputs, and what is computed in float in front of float ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgefx.runtimes.tflite import flatbuffer
from edgefx.types import IoDtype

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# What is computed in float in front of a float output: it gives steps that are too large in 8 bits.
FLOAT_AT_ENDS = ("LOGISTIC", "L2_NORMALIZATION")


def finish(
    model: ModelT,
    *,
    input_name: str,
    output_names: Sequence[str],
    input_dtype: IoDtype,
    output_dtypes: Sequence[IoDtype],
    float_sigmoids: Sequence[bool],
) -> None:
    """Give an integer model's input and outputs their types and their names.

    Args:
        model: Changed in place.
        input_name: Of the image.
        output_names: Of the outputs.
        input_dtype: The type of the input.
        output_dtypes: The type of each output.
        float_sigmoids: See `QuantScheme.float_sigmoids`.
    """
    flatbuffer.rename_io(model, input_name=input_name, output_names=output_names)
    if any(dtype is not IoDtype.INT8 for dtype in (input_dtype, *output_dtypes)):
        convert(model, input_dtype, output_dtypes)
        _float_ends(model, float_sigmoids)
        flatbuffer.rename_io(model, input_name=input_name, output_names=output_names)


def _float_ends(model: ModelT, wanted: Sequence[bool]) -> None:
    """Exchange a sigmoid or the like that the graph ends in with the conversion to float behind it.

    Args:
        model: Changed in place.
        wanted: Of which outputs.
    """
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)
    makers = {int(index): place for place, op in enumerate(graph.operators) for index in op.outputs}
    for output, is_wanted in zip(map(int, graph.outputs), wanted, strict=True):
        leave = makers[output]
        if not is_wanted or flatbuffer.op_name(model, graph.operators[leave]) != "DEQUANTIZE":
            continue
        scores = int(graph.operators[leave].inputs[0])
        sigmoid = makers.get(scores)
        if sigmoid is None or flatbuffer.op_name(model, graph.operators[sigmoid]) not in FLOAT_AT_ENDS:
            continue
        if len(readers[scores]) == 1:
            _exchange(model, sigmoid, leave)


def _exchange(model: ModelT, first: int, second: int) -> None:
    """Let a DEQUANTIZE change places with the function in front of it, which computes in float then."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    sigmoid, leave = graph.operators[first], graph.operators[second]
    logits, scores = int(sigmoid.inputs[0]), int(leave.outputs[0])
    between = schema.TensorT()
    between.name = graph.tensors[logits].name + b"_float32"
    between.shape, between.shapeSignature = graph.tensors[logits].shape, graph.tensors[logits].shapeSignature
    between.type, between.buffer = flatbuffer.dtype_code("float32"), 0
    graph.tensors.append(between)
    leave.inputs, leave.outputs = [logits], [len(graph.tensors) - 1]
    sigmoid.inputs, sigmoid.outputs = leave.outputs, [scores]
    graph.operators[first], graph.operators[second] = leave, sigmoid


def convert(model: ModelT, input_dtype: IoDtype, output_dtypes: Sequence[IoDtype]) -> None:
    """Give a quantized graph ends of other types, by a conversion operation at each end that is not int8.

    uint8 ends keep the scale of the int8 tensor and have a zero point 128 higher: the conversion is exact,
    and the runtime does it as one pass that flips the top bit.
    """
    graph = model.subgraphs[0]
    first = int(graph.inputs[0])
    if input_dtype is not IoDtype.INT8:
        outer = _twin(model, first, input_dtype)
        graph.operators = [flatbuffer.conversion(model, "QUANTIZE", outer, first), *graph.operators]
        graph.inputs = [outer]
    outputs = list(map(int, graph.outputs))
    for place, (inner, dtype) in enumerate(zip(tuple(outputs), output_dtypes, strict=True)):
        if dtype is not IoDtype.INT8:
            outputs[place] = _twin(model, inner, dtype)
            kind = "DEQUANTIZE" if dtype is IoDtype.FLOAT32 else "QUANTIZE"
            graph.operators = [*graph.operators, flatbuffer.conversion(model, kind, inner, outputs[place])]
    graph.outputs = outputs


def _twin(model: ModelT, index: int, dtype: IoDtype) -> int:
    """Add a tensor like `index` but of another type; it takes over the name."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    inner, outer = tensors[index], schema.TensorT()
    quantization = flatbuffer.quantization_of(inner)
    assert quantization is not None, "the ends of a quantized graph are quantized"
    outer.name, inner.name = inner.name, inner.name + b"_" + flatbuffer.dtype_name(inner).encode()
    outer.shape, outer.shapeSignature = inner.shape, inner.shapeSignature
    outer.type, outer.buffer = flatbuffer.dtype_code(dtype.value), 0
    if dtype is not IoDtype.FLOAT32:
        scale, zero_point = quantization
        outer.quantization = schema.QuantizationParametersT()
        outer.quantization.scale, outer.quantization.zeroPoint = [scale], [zero_point + 128]
    tensors.append(outer)
    return len(tensors) - 1
