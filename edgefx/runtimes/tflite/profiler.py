"""What LiteRT really executed of a file: its profiler's events, matched with the operations of the file.

XNNPACK tells names of kernels and no names of tensors, but it keeps the order of the file's operations: an
event belongs to the next operation of a type that its kernel computes. Operations in between were fused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.execution import CONVERSION, Executed, ExecutedOperation, layer_named, with_neighbours
from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

XNNPACK = "XNNPACK"
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
# Which operations of a file a kernel computes, by what its name begins with. XNNPACK calls a table of 256
# values "Invalid Unary Op": it stands for one activation, or for a swish of two operations.
_KERNELS = {
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Fully Connected": ("CONV_2D", "FULLY_CONNECTED"),
    "Dynamic Fully Connected": ("CONV_2D", "FULLY_CONNECTED"),
    "Sigmoid": ("LOGISTIC",),
    "Invalid Unary Op": ("LOGISTIC", "HARD_SWISH", "TANH", "ELU", "GELU"),
    "Multiply": ("MUL",),
    "Add": ("ADD",),
    "Subtract": ("SUB",),
    "Mean": ("MEAN", "AVERAGE_POOL_2D"),
    "Average Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "Global Average Pooling": ("MEAN", "AVERAGE_POOL_2D"),
    "Max Pooling": ("MAX_POOL_2D",),
    "Softmax": ("SOFTMAX",),
    "Static Reshape": ("RESHAPE",),
    "Copy": ("RESHAPE",),
    "Constant Pad": ("PAD", "PADV2"),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1"),
    "Convert": ("QUANTIZE", "DEQUANTIZE"),
    "Transpose": ("TRANSPOSE",),
}
_TABLE = "Invalid Unary Op"
_INPUT_TYPE = re.compile(r"\(N\w*, (\w+)")
_TYPES = {
    "QC8": "int8", "QS8": "int8", "QU8": "int8", "QD8": "int8", "QP8": "int8",
    "F32": "float32", "F16": "float16",
}  # fmt: skip
_UNTOLD = "unknown"
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_MOVES = ("Static Reshape", "Copy", "Transpose", "Convert")


def executed(path: Path, raw: Mapping[str, Any]) -> Executed:
    """Read what `collect` found of a file.

    Args:
        path: The file, whose operations give the layers and the precisions.
        raw: See `collect.collect`.

    Raises:
        ArtifactError: The file is missing, damaged or no TFLite file.
    """
    model = flatbuffer.read(path)
    events = raw["events"]
    operators = model.subgraphs[0].operators
    fell_out = {one["index"] for one in events if not one["inside"]}
    places = _matched(model, events)
    return Executed(
        operations=with_neighbours(
            _operation(model, event, operators[place] if place is not None else None)
            for event, place in zip(events, places, strict=True)
        ),
        inference_ms=raw["total_us"] / 1e3,
        runs=raw["runs"],
        method="LiteRT's profiler, in whole microseconds; mean of the middle half of each operation's times",
        delegate_coverage=1 - len(fell_out) / max(1, len(operators)),
    )


def _matched(model: ModelT, events: Sequence[Mapping[str, Any]]) -> Iterator[int | None]:
    """Yield the place of each event's operation in the file; None where none fits."""
    names = [flatbuffer.op_name(model, op) for op in model.subgraphs[0].operators]
    taken = {one["index"] for one in events if not one["inside"]}
    place = 0
    for event in events:
        if not event["inside"]:
            yield event["index"] if event["index"] < len(names) else None
            continue
        kinds = _KERNELS.get(event["tag"].partition(" (")[0], ())
        fitting = (
            number for number in range(place, len(names)) if names[number] in kinds and number not in taken
        )
        found = next(fitting, None)
        yield found
        if found is not None:
            place = found + 1
            if event["tag"] == _TABLE and _is_swish(model, found):
                place += 1


def _is_swish(model: ModelT, place: int) -> bool:
    """Whether the operation behind an activation multiplies it with what the activation read."""
    operators = model.subgraphs[0].operators
    if place + 1 >= len(operators) or flatbuffer.op_name(model, operators[place + 1]) != "MUL":
        return False
    sigmoid, product = operators[place], operators[place + 1]
    return {int(index) for index in product.inputs} == {int(sigmoid.inputs[0]), int(sigmoid.outputs[0])}


def _operation(model: ModelT, event: Mapping[str, Any], op: OperatorT | None) -> ExecutedOperation:
    tag, delegate = event["tag"], XNNPACK if event["inside"] else None
    if op is None:
        return ExecutedOperation(
            name=tag, kind=tag, precision=_of_kernel(tag), ms=event["us"] / 1e3, kernel=tag, delegate=delegate
        )
    kind, tensors = flatbuffer.op_name(model, op), model.subgraphs[0].tensors
    name = tensors[op.outputs[0]].name.decode("utf-8", errors="replace").partition(";")[0]
    return ExecutedOperation(
        name=name,
        kind=kind,
        precision=_precision(model, op, kind, tag if delegate else ""),
        ms=event["us"] / 1e3,
        layer=layer_named(name),
        kernel=tag if delegate else "",
        delegate=delegate,
    )


def _precision(model: ModelT, op: OperatorT, kind: str, kernel: str) -> str:
    """Return what an operation of the file is computed in."""
    if kind in _CONVERSIONS:
        return CONVERSION
    if kernel and (told := _of_kernel(kernel)) != _UNTOLD:
        return told
    tensors = model.subgraphs[0].tensors
    read = [flatbuffer.dtype_name(tensors[index]) for index in op.inputs if index >= 0]
    # With INT8 weights LiteRT's own kernels quantize a float input first, image by image.
    is_hybrid = not kernel and kind in _WEIGHTED and read[:2] == ["float32", "int8"]
    return "int8" if is_hybrid or read[0] == "uint8" else read[0]


def _of_kernel(tag: str) -> str:
    """Return the precision that the name of a kernel tells; what XNNPACK inserted moves values.

    The first type in parentheses is that of the input: QS8, QU8 and QC8 are INT8, QD8 is float that is
    quantized first. "(NC, F32, QC8W)" computes in float on INT8 weights.
    """
    if tag.startswith(_MOVES):
        return CONVERSION
    found = _INPUT_TYPE.search(tag)
    return _TYPES.get(found[1], _UNTOLD) if found else _UNTOLD
