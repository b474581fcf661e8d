"""Reading, describing and editing ``.tflite`` files, with the flatbuffer schema only.

No TensorFlow and no interpreter: `describe` must be cheap and must tell what the file says, not what was
asked for. The object API of the schema (``ModelT``) is the editor's data structure.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.storage.regular import read_bytes
from edgefx.system.host import cores

if TYPE_CHECKING:
    import numpy as np
    from ai_edge_litert.schema_py_generated import (
        ModelT,
        OperatorT,
        QuantizationParametersT,
        SubGraphT,
        TensorT,
    )
    from numpy.typing import NDArray

_IDENTIFIER = b"TFL3"
_ALIGNED = 16  # bytes
_ABSENT = -1  # an optional input that an operation is not given, such as a bias; the first two never are
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def read(source: Path | bytes | bytearray) -> ModelT:
    """Parse a ``.tflite`` file; buffers that lie outside the flatbuffer table are pulled in.

    Raises:
        ArtifactError: Missing, unreadable, truncated, or not a TFLite flatbuffer.
    """
    from ai_edge_litert import schema_py_generated as schema

    name = str(source) if isinstance(source, Path) else "model"
    try:
        content = read_bytes(source) if isinstance(source, Path) else bytes(source)
    except OSError as error:
        raise ArtifactError(
            f"{name}: cannot be read ({error.strerror})", hint="give the path of a .tflite file"
        ) from error
    if content[4:8] != _IDENTIFIER:
        raise ArtifactError(
            f"{name}: not a TFLite file (no {_IDENTIFIER.decode()} identifier)",
            hint="give a .tflite file; one saved as text, or an incomplete download, cannot be used",
        )
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        for buffer in model.buffers:
            # ai-edge-quantizer appends large buffers behind the table and stores where.
            if buffer.offset > 1:
                _pull_in(buffer, content)
        _check_references(model)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        # What the generated parser raises depends on where the file ends.
        raise ArtifactError(
            f"{name}: damaged or truncated TFLite file", hint="convert or copy it again"
        ) from error
    return model


def write(model: ModelT, *, aligned: bool = False) -> bytes:
    """Serialize a model, buffers inside the table; the same model gives the same bytes.

    Args:
        model: The model.
        aligned: Whether buffers begin at multiples of 16 bytes, as decoders of microcontrollers need it.
    """
    import flatbuffers  # type: ignore[import-untyped]

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802 - Builder's name
            return super().StartVector(size, count, _ALIGNED if size == 1 else alignment)

    builder = (Aligned if aligned else flatbuffers.Builder)(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _pull_in(buffer: Any, content: bytes) -> None:
    import numpy as np

    end = buffer.offset + buffer.size
    if end > len(content):
        raise ValueError("buffer lies beyond the end of the file")
    buffer.data = np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
    buffer.offset = buffer.size = 0


def _check_references(model: ModelT) -> None:
    """Raise IndexError or ValueError when indices or sizes do not fit together."""
    if not model.subgraphs:
        raise ValueError("no graph")
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            dtype = dtype_name(tensor)
            if data is not None and len(data) and dtype in _ITEM_BYTES:
                expected = math.prod(shape_of(tensor)) * _ITEM_BYTES[dtype]
                if len(data) < expected:
                    raise ValueError("constant shorter than its shape")
            _check_quantization(tensor, constant=is_constant(model, tensor))
        for index in (*graph.inputs, *graph.outputs):
            _ = graph.tensors[index].name.decode()
        _check_flow(model, graph)


def _check_quantization(tensor: TensorT, *, constant: bool) -> None:
    """Raise IndexError or ValueError at scales and zero points that end LiteRT's process."""
    import numpy as np

    found = tensor.quantization
    if found is None or found.scale is None or dtype_name(tensor) not in _INTEGERS:
        return
    scales, zeros = np.asarray(found.scale), np.asarray(() if found.zeroPoint is None else found.zeroPoint)
    if len(scales) > 1 and shape_of(tensor)[found.quantizedDimension] != len(scales):
        raise ValueError("scales that are not one per channel")
    # A channel whose weights are all zero may have the scale 0; of others LiteRT takes the reciprocal.
    positive = scales >= (0.0 if constant else np.finfo(np.float32).tiny)
    # One for all channels is what TFLM reads, and LiteRT refuses without harm.
    if len(zeros) not in (0, 1, len(scales)) or not (np.isfinite(scales) & positive).all():
        raise ValueError("scales that are none")
    limits = np.iinfo(dtype_name(tensor))
    if len(zeros) and not limits.min <= zeros.min() <= zeros.max() <= limits.max:
        raise ValueError("a zero point that its type does not hold")


def _check_flow(model: ModelT, graph: SubGraphT) -> None:
    """Raise IndexError or ValueError where LiteRT would write into the file, or read what nothing computes.

    It checks none of this, and each ends the process; found by `python -m tests.benchmarks fuzz`.
    """
    constant = {number for number, tensor in enumerate(graph.tensors) if is_constant(model, tensor)}
    known = {
        number for number, tensor in enumerate(graph.tensors) if tensor.isVariable or 0 in shape_of(tensor)
    }
    known |= constant | set(graph.inputs)
    for op in graph.operators:
        _ = model.operatorCodes[op.opcodeIndex]
        given = [index for place, index in enumerate(op.inputs) if place < 2 or index != _ABSENT]
        name = op_name(model, op)
        # LiteRT runs no custom operation, and those of NPUs take their scratch memory as inputs.
        if not name.startswith(_CUSTOM) and not known.issuperset(given):
            raise ValueError("an operation reads what nothing computes")
        if name == "DEPTHWISE_CONV_2D" and len(op.inputs) < 3:
            raise ValueError("a convolution without a place for its bias")
        for index in op.outputs:
            _ = graph.tensors[index]
            if index in constant:
                raise ValueError("an operation writes to a constant")
        known.update(op.outputs)
    if not known.issuperset(graph.outputs):
        raise ValueError("an output that nothing computes")


# ------------------------------------------------------------------------------------------- small words

_ITEM_BYTES = {
    "float32": 4, "float16": 2, "int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8, "bool": 1,
}  # fmt: skip


_CUSTOM = "CUSTOM:"
_INTEGERS = ("int8", "uint8", "int16", "int32")


def dtype_name(tensor: TensorT) -> str:
    """Return the NumPy name of a tensor's element type."""
    from ai_edge_litert.schema_py_generated import TensorType

    return _names(TensorType).get(tensor.type, f"type {tensor.type}").lower()


def dtype_code(name: str) -> int:
    """Return the schema's code of a NumPy element type."""
    from ai_edge_litert.schema_py_generated import TensorType

    return int(getattr(TensorType, name.upper()))


def op_name(model: ModelT, op: OperatorT) -> str:
    """Return an operation's name, as ``CONV_2D``; a custom operation's own name as ``CUSTOM:<name>``."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[op.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == BuiltinOperator.CUSTOM:
        return f"{_CUSTOM}{(code.customCode or b'?').decode()}"
    return builtin_name(number)


def builtin_name(number: int) -> str:
    """Return what TFLite calls an operation of its own."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return _names(BuiltinOperator).get(number, f"OP_{number}")


@cache
def _names(enumeration: type) -> dict[int, str]:
    """Return the names of an enumeration of the schema, by number."""
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def shape_of(tensor: TensorT) -> tuple[int, ...]:
    """Return a tensor's shape; () for scalars."""
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def quantization_of(tensor: TensorT) -> tuple[float, int] | None:
    """Return (scale, zero point) of a tensor of integers quantized as a whole, else None."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None
    if dtype_name(tensor) not in _INTEGERS:  # LiteRT reads no scale there; a damaged file may have one
        return None
    zero_points = quantization.zeroPoint
    return float(quantization.scale[0]), 0 if zero_points is None else int(zero_points[0])


def is_constant(model: ModelT, tensor: TensorT) -> bool:
    """Tell whether a tensor's values are stored in the file."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def constant(model: ModelT, tensor: TensorT) -> NDArray[np.float64] | None:
    """Return a float32 constant's values in its shape, or None when the tensor is no such constant."""
    import numpy as np

    if not is_constant(model, tensor) or dtype_name(tensor) != "float32":
        return None
    data = np.ascontiguousarray(model.buffers[tensor.buffer].data)
    return data.view(np.float32).astype(np.float64).reshape(shape_of(tensor))


# ------------------------------------------------------------------------------------------------ editing


def rename_io(model: ModelT, *, input_name: str, output_names: Sequence[str]) -> None:
    """Name the graph's one input and its outputs, and make them the one signature ``serving_default``.

    Raises:
        ArtifactError: The graph has not exactly one input and as many outputs as there are names.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    indices = [int(index) for index in (*graph.inputs, *graph.outputs)]
    if len(graph.inputs) != 1 or len(set(indices)) != 1 + len(output_names):
        raise ArtifactError(
            f"expected one input and {len(output_names)} outputs, found {len(graph.inputs)} and"
            f" {len(set(map(int, graph.outputs)))}"
        )
    ends = dict(zip(indices, (input_name, *output_names), strict=True))
    taken = set(ends.values())
    for index, tensor in enumerate(graph.tensors):
        if index in ends:
            tensor.name = ends[index].encode()
        elif tensor.name.decode() in taken:  # tensor names stay unique
            tensor.name = f"{tensor.name.decode()}_inner".encode()
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.subgraphIndex = 0
    maps = []
    for index, name in ends.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        maps.append(entry)
    signature.inputs, signature.outputs = maps[:1], maps[1:]
    model.signatureDefs = [signature]


def conversion(model: ModelT, name: str, source: int, result: int) -> OperatorT:
    """Return a QUANTIZE or DEQUANTIZE operation, its operator code added when the model has none."""
    from ai_edge_litert import schema_py_generated as schema

    op = schema.OperatorT()
    op.inputs, op.outputs = [source], [result]
    kind = "QuantizeOptions" if name == "QUANTIZE" else "DequantizeOptions"
    op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    op.builtinOptions = getattr(schema, f"{kind}T")()
    for index in range(len(model.operatorCodes)):
        op.opcodeIndex = index
        if op_name(model, op) == name:
            return op
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 2  # the first version of both with 8-bit signed integers
    model.operatorCodes.append(code)
    op.opcodeIndex = len(model.operatorCodes) - 1
    return op


def add_constant(model: ModelT, name: bytes, values: NDArray[Any]) -> int:
    """Add a float32 constant; returns its tensor index."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer, tensor = schema.BufferT(), schema.TensorT()
    stored = np.ascontiguousarray(values, np.float32)
    buffer.data = stored.reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.type = name, list(stored.shape), dtype_code("float32")
    tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def add_like(
    model: ModelT, index: int, suffix: bytes, dtype: str, quantization: tuple[float, int] | None = None
) -> int:
    """Add a tensor of the shape of another one; returns its index.

    Args:
        model: Changed in place.
        index: The other one.
        suffix: Of its name, behind the other one's.
        dtype: NumPy's name of the element type.
        quantization: Scale and zero point.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    made = schema.TensorT()
    made.name, made.shape, made.buffer = tensors[index].name + suffix, tensors[index].shape, 0
    made.type = dtype_code(dtype)
    if quantization is not None:
        made.quantization = scaled([quantization[0]], quantization[1])
    tensors.append(made)
    return len(tensors) - 1


def scaled(scales: Sequence[float] | NDArray[np.float32], zero_point: int = 0) -> QuantizationParametersT:
    """Return quantization by scales, of one tensor or of channels along axis 0, with one zero point."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint = scales, [zero_point] * len(scales)
    return made


def add_rounding(model: ModelT, index: int, scale: float, zero_point: int) -> int:
    """Append QUANTIZE and DEQUANTIZE of a float tensor; returns the index of the rounded tensor."""
    stored = add_like(model, index, b"/stored", "int8", (scale, zero_point))
    rounded = add_like(model, index, b"/rounded", "float32")
    operators = model.subgraphs[0].operators
    operators.append(conversion(model, "QUANTIZE", index, stored))
    operators.append(conversion(model, "DEQUANTIZE", stored, rounded))
    return rounded


def set_constant(model: ModelT, tensor: TensorT, values: NDArray[Any]) -> None:
    """Replace the values of a float32 constant whose buffer no other tensor uses."""
    import numpy as np

    model.buffers[tensor.buffer].data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)


def open_probes(model: ModelT, outputs: list[int]) -> Any:
    """Return an allocated interpreter of the graph on all cores, its outputs replaced by `outputs`.

    Args:
        model: The model; it is not changed.
        outputs: Indices of the tensors to deliver.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    graph = model.subgraphs[0]
    probe, body = schema.ModelT(), schema.SubGraphT()
    probe.version, probe.operatorCodes, probe.buffers = model.version, model.operatorCodes, model.buffers
    body.tensors, body.operators, body.inputs = graph.tensors, graph.operators, graph.inputs
    body.outputs = outputs
    probe.subgraphs = [body]
    interpreter = Interpreter(model_content=write(probe), num_threads=cores())
    interpreter.allocate_tensors()
    return interpreter


def consumers(model: ModelT) -> dict[int, list[OperatorT]]:
    """Map each tensor index of the main graph to the operations that read it."""
    graph = model.subgraphs[0]
    readers: dict[int, list[OperatorT]] = {index: [] for index in range(len(graph.tensors))}
    for op, index in _reads(model):
        readers[index].append(op)
    return readers


def _reads(model: ModelT) -> Iterator[tuple[OperatorT, int]]:
    for op in model.subgraphs[0].operators:
        for index in op.inputs:
            if index >= 0:
                yield op, int(index)
