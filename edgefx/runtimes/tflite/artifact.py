"""Reading a ``.tflite`` file back: its inputs, outputs and operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefx.errors import ConversionError
from edgefx.quantization import QuantScheme
from edgefx.runtimes import written
from edgefx.runtimes.session import with_free
from edgefx.runtimes.tflite.ends import FLOAT_AT_ENDS
from edgefx.runtimes.tflite.flatbuffer import (
    CONVERSIONS,
    dtype_name,
    is_constant,
    op_name,
    quantization_of,
    shape_of,
)
from edgefx.types import FrozenGraph, OpCount, Precision, TensorInfo

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorT

# With a fixed batch none of these is left that computes a shape; NPU compilers reject them.
_FORBIDDEN_IN_INT8 = ("SHAPE", "STRIDED_SLICE", "PACK")
_OF_SHAPES = ("int32", "int64")
_NAMED = 3  # layers
_FLOAT = "float operations"
_NO_KERNEL = (
    "TFLite has no such operation on integers, or none that is any good: replace the layer, name it in"
    " quantize.keep_float of a recipe, or take tflite-weight-int8, onnx-int8 or openvino-int8"
)


def verify(content: bytes, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the file's bytes back and raise `ConversionError` when they are not what was asked for."""
    from edgefx.runtimes.tflite import flatbuffer

    found = describe(flatbuffer.read(content))
    problems = written.problems_of_ends((*found.inputs, *found.outputs), graph, scheme)
    if found.custom_ops:
        problems.append(f"custom operations: {', '.join(sorted(set(found.custom_ops)))}")
    last = [name for name in found.float_ops if name in FLOAT_AT_ENDS]
    is_integer = list(found.float_ops) == last[: sum(scheme.float_sigmoids(graph.output_names))]
    if scheme.precision in (Precision.INT8, Precision.INT16X8) and not is_integer and not scheme.keep_float:
        problems.append(f"{_FLOAT}: {_with_layers(found.float_ops, found.float_layers)}")
    if scheme.precision is Precision.INT8:
        left = sorted({op.op for op in found.ops if op.dtype in _OF_SHAPES} & set(_FORBIDDEN_IN_INT8))
        if left:
            problems.append(f"shape operations: {', '.join(left)}")
    hint = _NO_KERNEL if problems and problems[0].startswith(_FLOAT) else ""
    written.refuse(problems, f"tflite-{scheme.precision}", hint=hint)


def check_operations(model: ModelT, scheme: QuantScheme, integer: Collection[str]) -> None:
    """Refuse a graph of which operations would stay in float, before images are run through it.

    Args:
        model: The float graph.
        scheme: What it is to become.
        integer: The operations that can be put on integers.

    Raises:
        ConversionError: There are others, and none of its layers is to be kept in float.
    """
    found = describe(model)
    others = [
        (name, layer)
        for name, layer in zip(found.float_ops, found.float_layers, strict=True)
        if name not in integer
    ]
    if others and not scheme.keep_float:
        names, layers = zip(*others, strict=True)
        raise ConversionError(
            f"tflite-{scheme.precision} computes on integers throughout, which these operations do not:"
            f" {_with_layers(names, layers)}",
            hint=_NO_KERNEL,
        )


def _with_layers(operations: Sequence[str], of_layers: Sequence[str]) -> str:
    """Name operations, and the layers that they are of."""
    layers = list(dict.fromkeys(of_layers))
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    names = f" (layers {', '.join(layers[:_NAMED])}{more})" if layers else ""
    return f"{', '.join(sorted(set(operations)))}{names}"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a ``.tflite`` file holds, read back from its bytes.

    Attributes:
        inputs: Graph inputs.
        outputs: Graph outputs.
        ops: Histogram by type and output dtype.
        custom_ops: Names of operations outside TFLite's builtin set.
        compute_int: Computing operations on integers, hybrid ones (int8 weights, float tensors) included.
        compute_float: Computing operations in floating point.
        float_ops: All operations but QUANTIZE/DEQUANTIZE with a float output.
        float_layers: The layers that they are of.
        int8_macs_share: Share of the multiply-accumulates done on INT8 weights and activations.
        precision: The format the file computes in, for the report.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpCount, ...]
    custom_ops: tuple[str, ...]
    compute_int: int
    compute_float: int
    float_ops: tuple[str, ...]
    float_layers: tuple[str, ...]
    int8_macs_share: float | None
    precision: str


def describe(model: ModelT) -> Contents:
    """Read inputs, outputs, operations and the share of INT8 work back from a parsed file."""
    graph = model.subgraphs[0]
    ops: Counter[tuple[str, str]] = Counter()
    custom: list[str] = []
    float_ops: list[str] = []
    float_layers: list[str] = []
    computing: Counter[str] = Counter()  # by kind of arithmetic
    macs = int8_macs = 0
    for op in graph.operators:
        name = op_name(model, op)
        dtype = dtype_name(graph.tensors[op.outputs[0]]) if len(op.outputs) else ""
        ops[name, dtype] += 1
        if name.startswith("CUSTOM:"):
            custom.append(name.removeprefix("CUSTOM:"))
        if name in CONVERSIONS:
            continue
        kind = _arithmetic(name, [graph.tensors[i] for i in op.inputs if i >= 0], dtype)
        computing[kind] += 1
        if dtype.startswith("float"):
            float_ops.append(name)
            float_layers.append(graph.tensors[op.outputs[0]].name.decode(errors="replace").split("/", 1)[0])
        work = _macs(name, [graph.tensors[i] for i in op.inputs if i >= 0], graph.tensors[op.outputs[0]])
        macs += work
        int8_macs += work if kind in ("int8", "hybrid") else 0
    stored = {dtype_name(tensor) for tensor in graph.tensors if is_constant(model, tensor)}
    return Contents(
        inputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.inputs),
        outputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.outputs),
        ops=tuple(
            OpCount(op=name, dtype=dtype, count=count)
            for (name, dtype), count in sorted(ops.items(), key=lambda item: (-item[1], item[0]))
        ),
        custom_ops=tuple(custom),
        compute_int=computing.total() - computing["float"],
        compute_float=computing["float"],
        float_ops=tuple(float_ops),
        float_layers=tuple(float_layers),
        int8_macs_share=int8_macs / macs if macs else None,
        precision=_precision(computing, stored),
    )


def _arithmetic(name: str, inputs: list[TensorT], dtype: str) -> str:
    """Return what an operation calculates with: "int8", "int16", "hybrid", "float" or "other"."""
    if dtype.startswith("float"):
        weighted = name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and len(inputs) > 1
        return "hybrid" if weighted and dtype_name(inputs[1]) == "int8" else "float"
    if dtype in ("int8", "uint8"):
        return "int8"
    return "int16" if dtype == "int16" else "other"


def _macs(name: str, inputs: list[TensorT], output: TensorT) -> int:
    if len(inputs) < 2:
        return 0
    results, weights = math.prod(shape_of(output)), shape_of(inputs[1])
    if name == "CONV_2D":  # weights [out, height, width, in]
        return results * math.prod(weights[1:])
    if name == "DEPTHWISE_CONV_2D":  # weights [1, height, width, out]
        return results * math.prod(weights[1:3])
    return results * weights[-1] if name == "FULLY_CONNECTED" and weights else 0


def _precision(computing: Counter[str], stored: set[str]) -> str:
    """Say what a file computes in, by its operations and by the types of its constants."""
    quantized = {kind: computing[kind] for kind in ("int8", "int16", "hybrid") if computing[kind]}
    if not quantized:
        weights = next((dtype for dtype in ("float16", "int8") if dtype in stored), None)
        return f"float32, {weights} weights" if weights else "float32"
    if "hybrid" in quantized:
        return "int8 weights, dynamic activations"
    wide = computing["int16"] > computing["int8"]  # a softmax may answer in 16 bits between others of 8
    name = "int8 weights, int16 activations" if wide else "int8"
    return f"{name}, {computing['float']} operations float32" if computing["float"] else name


def _tensor_info(tensor: TensorT) -> TensorInfo:
    quantization = quantization_of(tensor)
    return TensorInfo(
        name=tensor.name.decode(),
        shape=with_free(shape_of(tensor), tensor.shapeSignature),
        dtype=dtype_name(tensor),
        scale=quantization[0] if quantization else None,
        zero_point=quantization[1] if quantization else None,
    )
