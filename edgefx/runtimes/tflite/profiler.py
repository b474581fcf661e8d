"""What LiteRT really executed of a file: its profiler's events, matched with the operations of the file.

XNNPACK tells names of kernels and no names of tensors, but it keeps the order of the file's operations: an
event belongs to the next operation of a type that its kernel computes. Operations in between were fused.
"""

from __future__ import annotations

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
    dtype = flatbuffer.dtype_name(tensors[op.inputs[0]])
    return ExecutedOperation(
        name=name,
        kind=kind,
        precision=CONVERSION if kind in _CONVERSIONS else "int8" if dtype == "uint8" else dtype,
        ms=event["us"] / 1e3,
        layer=layer_named(name),
        kernel=tag if delegate else "",
        delegate=delegate,
    )


def _of_kernel(tag: str) -> str:
    """Return the precision that the name of a kernel tells; what XNNPACK inserted moves values."""
    if tag.startswith(_MOVES):
        return CONVERSION
    for words, precision in (
        (("QC8", "QS8", "QU8"), "int8"),
        (("F32",), "float32"),
        (("F16",), "float16"),
    ):
        if any(word in tag for word in words):
            return precision
    return "unknown"
