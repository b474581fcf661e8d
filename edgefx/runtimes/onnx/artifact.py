"""Read an ONNX file back: its ends, its operations and what they compute in. Imports onnx only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import ArtifactError
from edgefx.quantization import QuantScheme
from edgefx.runtimes import bounds, hardware, written
from edgefx.runtimes.onnx import external, graph
from edgefx.storage.hashes import hash_file
from edgefx.storage.regular import open_regular
from edgefx.types import Artifact, ArtifactFile, FrozenGraph, OpCount, Precision, TensorInfo
from edgefx.vocabulary import Runtime

if TYPE_CHECKING:
    import onnx

_VIEWS = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Pad"})
# Operations that move or convert values: not counted as computing.
_MOVES = _VIEWS | {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
    *("Constant", "Shape", "Slice", "Concat", "Gather", "Expand"),
}
_INTEGER_COMPUTE = frozenset({"ConvInteger", "MatMulInteger", "QGemm"})
_INT8 = frozenset({"int8", "uint8"})
_HARDWARE = f"edgefx.{hardware.KEY}"
WEIGHTS_ONLY = f"edgefx.{hardware.WEIGHTS_ONLY_KEY}"  # metadata: that nothing was to compute in INT8
KEPT_FLOAT = "edgefx.keep_float"  # metadata: layers that were kept in float because someone asked for it


def load(path: Path) -> onnx.ModelProto:
    """Read and check a model file.

    Raises:
        ArtifactError: The file is missing, damaged, no ONNX file, or its external data is missing or outside
            the file's folder.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        with open_regular(path) as stream:
            model = onnx.load(stream, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not an ONNX file, or damaged: {error}", hint="convert it again"
        ) from error
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="give the path of an .onnx file") from error
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ArtifactError(f"{path}: not an ONNX file, or empty", hint="convert it again")
    external.files(model, path)
    return model


def describe(path: Path) -> Artifact:
    """Read an artifact's inputs, outputs and operations back from its file.

    Raises:
        ArtifactError: As `load`; or the file's graph is not valid, or declares tensors too large to be run.
    """
    model = load(path)
    try:
        return _described(model, path)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        # What onnx and protobuf raise for values that contradict each other.
        raise ArtifactError(f"{path}: not a valid ONNX graph: {error}", hint="convert it again") from error


def _described(model: onnx.ModelProto, path: Path) -> Artifact:
    files = [path, *external.files(model, path)]
    facts = _Facts(model, path)
    counts: Counter[tuple[str, str]] = Counter()
    integer = floating = 0
    int8_macs = all_macs = 0
    convolutions: Counter[bool] = Counter()
    for node in model.graph.node:
        if facts.is_constant(node):
            continue
        dtype = facts.computes_in(node)
        counts[node.op_type, dtype] += 1
        if node.op_type in _MOVES:
            continue
        runs_int8 = dtype in _INT8
        integer += runs_int8
        floating += not runs_int8
        macs = facts.macs(node)
        all_macs += macs
        int8_macs += macs * runs_int8
        if node.op_type in ("Conv", "QLinearConv", "ConvInteger"):
            convolutions[runs_int8] += 1
    notes = []
    stated = _metadata(model, _HARDWARE)
    if floating and convolutions[True]:
        why = ", where that is faster or much more accurate" if stated else ""  # others chose otherwise
        notes.append(
            f"{convolutions[True]} of {sum(convolutions.values())} convolutions run in INT8, "
            f"the rest in float32{why}"
        )
    if _metadata(model, WEIGHTS_ONLY) and facts.compressed == "int8" and not integer:
        notes.append(hardware.WEIGHTS_ONLY)
    if stated:
        notes.append(hardware.note(stated))
    if kept := _kept(model):
        notes.append(f"kept in float as asked: {', '.join(kept)}")
    dynamic = sum(
        node.op_type == "QLinearConv" and node.input[1] not in facts.constants for node in model.graph.node
    )
    if dynamic:
        notes.append(f"{dynamic} INT8 convolutions take the range of their input from each image")
    if facts.compressed:
        notes.append(f"weights stored as {facts.compressed} are restored to float32 when the file is loaded")
    if any(node.domain == "com.microsoft" for node in model.graph.node):
        notes.append("uses com.microsoft operators: runs in ONNX Runtime only")
    return Artifact(
        target="",
        files=tuple(_file(file) for file in files),
        inputs=facts.inputs,
        outputs=facts.outputs,
        ops=tuple(OpCount(op=op, dtype=dtype, count=n) for (op, dtype), n in sorted(counts.items())),
        compute_int8=integer,
        compute_float=floating,
        int8_macs_share=int8_macs / all_macs if all_macs else None,
        opset=graph.opset_of(model),
        notes=tuple(notes),
    )


def state_hardware(model: onnx.ModelProto, scheme: QuantScheme) -> None:
    """Write the class of CPU that a model is laid out for into its metadata."""
    model.metadata_props.add(key=_HARDWARE, value=hardware.statement(scheme, Runtime.ONNX))


def _metadata(model: onnx.ModelProto, key: str) -> str:
    return next((entry.value for entry in model.metadata_props if entry.key == key), "")


def _kept(model: onnx.ModelProto) -> list[str]:
    """Return the layers that the file says were kept in float, those of them that it has."""
    stated = _metadata(model, KEPT_FLOAT)
    layers = {graph.layer_of(node.name) for node in model.graph.node}
    return [name for name in stated.split(",") if name and name in layers]


def precision(model: onnx.ModelProto, path: Path) -> str:
    """Return what ONNX Runtime's CPU provider computes a model in, e.g. "int8+float32".

    It has float16 kernels for few operations and otherwise converts to float32 and back around each one.
    """
    facts = _Facts(model, path)
    kinds = Counter(
        facts.computes_in(node)
        for node in model.graph.node
        if node.op_type not in _MOVES and not facts.is_constant(node)
    )
    integer = sum(kinds[dtype] for dtype in _INT8 | {"int32"})
    floating = [name for name in ("float32", "float64") if kinds[name]]
    if kinds["float16"]:
        floating.append("float32 (float16 in the file)")
    return "+".join([*(["int8"] if integer else []), *floating]) or "int8"


def _file(path: Path) -> ArtifactFile:
    return ArtifactFile(path=path, size_bytes=path.stat().st_size, sha256=hash_file(path))


@dataclass(frozen=True)
class Ends:
    """An artifact's graph inputs (weights listed as inputs left out) and outputs."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def ends(model: onnx.ModelProto, path: Path) -> Ends:
    """Return inputs and outputs with dtype, shape and quantization.

    A free batch (named, or missing) is reported as 1, which is what edgefx feeds; other free sizes as -1.

    Raises:
        ArtifactError: A tensor of unknown rank, or one that holds nothing.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    scalars = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) == 1 and not external.is_external(tensor)
    }
    inputs = [info for info in model.graph.input if info.name not in weights]
    readers: dict[str, list[onnx.NodeProto]] = {}
    writers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def parameters(node: onnx.NodeProto | None, op: str) -> tuple[float, int] | None:
        from onnx import numpy_helper

        if node is None or node.op_type != op or node.input[1] not in scalars:
            return None
        scale = float(numpy_helper.to_array(scalars[node.input[1]]).reshape(-1)[0])
        if len(node.input) < 3 or node.input[2] not in scalars:
            return scale, 0
        return scale, int(numpy_helper.to_array(scalars[node.input[2]]).reshape(-1)[0])

    def first_reader(name: str) -> onnx.NodeProto | None:
        """The node that may give the input its meaning, when it is the only one."""
        found = readers.get(name, [])
        return found[0] if len(found) == 1 else None

    described_inputs = []
    for info in inputs:
        reader = first_reader(info.name)
        while reader is not None and reader.op_type in _VIEWS:
            reader = first_reader(reader.output[0])
        described_inputs.append(_tensor(info, parameters(reader, "DequantizeLinear"), path))
    described_outputs = []
    for info in model.graph.output:
        writer = writers.get(info.name)
        while writer is not None and writer.op_type in _VIEWS:
            writer = writers.get(writer.input[0])
        described_outputs.append(_tensor(info, parameters(writer, "QuantizeLinear"), path))
    return Ends(inputs=tuple(described_inputs), outputs=tuple(described_outputs))


def _tensor(info: onnx.ValueInfoProto, quantization: tuple[float, int] | None, path: Path) -> TensorInfo:
    kind = info.type.tensor_type
    dtype = _dtype(kind.elem_type)
    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if not dims or not kind.HasField("shape"):
        raise ArtifactError(f"{path}: '{info.name}' has no known shape", hint="export it with a fixed batch")
    if kind.shape.dim[0].HasField("dim_value") and dims[0] == 0:
        raise ArtifactError(f"{path}: '{info.name}' has a batch of 0", hint="export it with a batch of 1")
    if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in kind.shape.dim):
        raise ArtifactError(
            f"{path}: '{info.name}' has the shape {dims}, which holds nothing", hint="export it again"
        )
    shape = (dims[0] if dims[0] > 0 else 1, *(size if size > 0 else -1 for size in dims[1:]))
    if quantization is None or dtype not in _INT8:
        return TensorInfo(name=info.name, shape=shape, dtype=dtype)
    return TensorInfo(
        name=info.name, shape=shape, dtype=dtype, scale=quantization[0], zero_point=quantization[1]
    )


def _dtype(element: int) -> str:
    """Return NumPy's name of an ONNX element type; "unknown" where there is none."""
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(element)) if element else "unknown"


class _Facts:
    """What a walk over a model's nodes needs to know."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        from onnx import shape_inference

        both = ends(model, path)
        self.inputs, self.outputs = both.inputs, both.outputs
        bounds.check_ends(path, self.inputs, self.outputs)
        try:
            inferred = shape_inference.infer_shapes(model, data_prop=True)
        except shape_inference.InferenceError as error:
            raise ArtifactError(
                f"{path}: not a valid ONNX graph: {error}", hint="convert it again"
            ) from error
        self._types = {tensor.name: _dtype(tensor.data_type) for tensor in model.graph.initializer}
        self._shapes: dict[str, tuple[int, ...]] = {
            tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer
        }
        for info in (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info):
            kind = info.type.tensor_type
            if info.name not in self._types:
                self._types[info.name] = _dtype(kind.elem_type)
                if kind.HasField("shape"):
                    # A free batch counts as one.
                    self._shapes[info.name] = tuple(
                        dim.dim_value if dim.HasField("dim_value") else int(position == 0)
                        for position, dim in enumerate(kind.shape.dim)
                    )
        for name, shape in self._shapes.items():
            bounds.check_tensor(path, name, shape)
        self.constants = {tensor.name for tensor in model.graph.initializer}
        self._writers: Mapping[str, onnx.NodeProto] = {
            name: node for node in model.graph.node for name in node.output
        }
        self._readers: dict[str, list[str]] = {}  # types of the operations that read a tensor
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node.op_type)
        for info in model.graph.output:
            self._readers.setdefault(info.name, []).append("")
        compressed = Counter[str]()
        for node in model.graph.node:
            if node.op_type == "Cast" and node.input[0] in self.constants:
                compressed[self._types.get(node.input[0], "unknown")] += 1
            if all(name in self.constants for name in node.input if name):
                self.constants.update(node.output)
        self.compressed = compressed.most_common(1)[0][0] if compressed else None

    def is_constant(self, node: onnx.NodeProto) -> bool:
        """Whether a node only prepares constants; a runtime does it once, when it loads the file."""
        return all(name in self.constants for name in node.output)

    def computes_in(self, node: onnx.NodeProto) -> str:
        """Return the type a node computes in: int8 between DequantizeLinear and QuantizeLinear."""
        if node.op_type in _INTEGER_COMPUTE or node.op_type.startswith("QLinear"):
            return "int8"
        if node.op_type in _MOVES:
            return self._types.get(node.output[0], "unknown")
        if node.domain == "com.microsoft":  # ONNX Runtime has no integer kernel to fuse these to
            return self._types.get(node.output[0], "unknown")
        sources = [self._writers.get(name) for name in node.input if name]
        dequantized = [source is not None and source.op_type == "DequantizeLinear" for source in sources]
        # What is read in float too, or made from a float constant, ONNX Runtime computes in float.
        quantized = [
            self._readers.get(name, []) and all(op == "QuantizeLinear" for op in self._readers[name])
            for name in node.output
        ]
        if dequantized and all(dequantized) and all(quantized):
            return "int8"
        return self._types.get(node.output[0], "unknown")

    def macs(self, node: onnx.NodeProto) -> int:
        """Return a node's multiply-accumulates; 0 for everything but convolutions and matrix products."""
        weight_at = {"Conv": 1, "ConvInteger": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1}
        weight_at |= {"QLinearConv": 3, "QLinearMatMul": 3}
        position = weight_at.get(node.op_type)
        if position is None or len(node.input) <= position:
            return 0
        weight = self._shapes.get(node.input[position])
        result = self._shapes.get(node.output[0])
        if not weight or not result:
            return 0
        if "Conv" in node.op_type:
            return math.prod(result) * math.prod(weight[1:])
        inner = weight[1] if graph.attribute(node, "transB", 0) else weight[-2] if len(weight) > 1 else 1
        return math.prod(result) * inner


def verify(path: Path, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the written file back; raise `ConversionError` when it is not what was asked for."""
    found = describe(path)
    problems = written.problems_of_ends((*found.inputs, *found.outputs), graph, scheme)
    # A small network may have no weights either that are worth storing as INT8.
    without = scheme.profile is not None and bool(_metadata(load(path), WEIGHTS_ONLY))
    if scheme.precision is Precision.INT8 and not found.compute_int8 and not without:
        problems.append("no operation runs in INT8")
    written.refuse(problems, f"onnx-{scheme.precision}")
