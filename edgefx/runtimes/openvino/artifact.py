"""The OpenVINO IR as files: written without traces of this machine, and read back.

An IR is a pair, ``.xml`` (graph) and ``.bin`` (weights) with the same stem.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from edgefx.errors import ArtifactError, ConversionError
from edgefx.quantization import QuantScheme
from edgefx.runtimes import bounds, hardware, written
from edgefx.runtimes.openvino import metadata, xml
from edgefx.runtimes.openvino.core import core
from edgefx.storage import atomic, temporary
from edgefx.storage.disk import disk_full, explained
from edgefx.storage.hashes import hash_file
from edgefx.types import Artifact, ArtifactFile, FrozenGraph, OpCount, Precision, TensorInfo
from edgefx.vocabulary import Runtime

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
# What OpenVINO computes in the kernel of the convolution before it.
_FUSED = ("Swish", "Sigmoid", "Relu", "Clamp", "HSwish", "HSigmoid", "Tanh")
_MOVES_DATA = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad", "StridedSlice", "Convert")
_ENDS = ("Constant", "Parameter", "Result")
_PRECISE = 'name="precise"'  # openvino::DisableFP16Compression, as an IR spells it
_RT_INFO = metadata.SECTION


def write(
    model: Any, out: Path, *, half: bool, exact: bool, check: Callable[[Path], object]
) -> tuple[Path, Path]:
    """Write `model` as `out` and its ``.bin``; both appear complete, the ``.bin`` first, or not at all.

    Args:
        model: An ``openvino.Model``.
        out: The ``.xml``.
        half: Store float constants as float16.
        exact: Ask every operation to keep float32 at run time: the ``precise`` attribute, which OpenVINO's
            CPU and GPU plugins honour. Without it a CPU that has bf16 computes a float32 IR in bf16.
        check: Called with the path of the finished file before it gets its name; raises to refuse it.

    Raises:
        ConversionError: What was written cannot be read back.
        OutputError: The folder cannot be written.
        DiskFullError: No space left.
    """
    import openvino as ov

    try:
        with temporary.folder(out.parent, atomic.PREFIX) as folder:
            xml = folder / "model.xml"
            try:
                ov.save_model(model, xml, compress_to_fp16=half)
                _normalize(xml, exact=exact)
                check(xml)
            except (RuntimeError, ArtifactError, ET.ParseError) as error:
                _raise_if_full(out, model)
                raise ConversionError(
                    f"{out}: OpenVINO could not write the model: {_first_line(error)}",
                    hint="see the log file for OpenVINO's messages",
                ) from error
            weights = out.with_suffix(".bin")
            xml.with_suffix(".bin").replace(weights)
            xml.replace(out)
    except OSError as error:
        raise explained(error, out) from error
    return out, weights


def read(path: Path) -> Any:
    """Read an IR; returns an ``openvino.Model`` whose weights stay on disk until used.

    Raises:
        ArtifactError: A file of the pair is missing, damaged, or no IR; or the model has no input or output.
    """
    xml.check(path)
    xml.check_constants(path)
    try:
        model = core().read_model(path)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path}: OpenVINO cannot read the file: {_last_line(error)}",
            hint="the file is damaged or no OpenVINO IR; convert the model again",
        ) from error
    for ends, what in ((model.inputs, "input"), (model.outputs, "output")):
        if not ends:
            raise ArtifactError(
                f"{path}: has no {what}",
                hint="expected an OpenVINO model with one image input and one output",
            )
    return model


def set_quantization(model: Any, place: int, *, scale: float, zero_point: int) -> None:
    """Record an output's quantization; an IR has no field for it."""
    end = _numbered(place)
    model.set_rt_info(repr(scale), [_RT_INFO, f"output{end}_scale"])
    model.set_rt_info(str(zero_point), [_RT_INFO, f"output{end}_zero_point"])


def _numbered(place: int) -> str:
    """Return what tells a further output from the first in the names of what is recorded."""
    return f"_{place}" if place else ""


def state_hardware(model: Any, scheme: QuantScheme) -> None:
    """Record the class of CPU that a model is laid out for."""
    model.set_rt_info(hardware.statement(scheme, Runtime.OPENVINO), [_RT_INFO, hardware.KEY])
    if not any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops()):
        model.set_rt_info("true", [_RT_INFO, hardware.WEIGHTS_ONLY_KEY])


def input_info(model: Any) -> TensorInfo:
    """Describe the graph's first input. Integers are raw pixels; int8 ones are shifted by 128."""
    info = _tensor(model.inputs[0])
    if info.dtype in ("uint8", "int8"):
        return TensorInfo(
            name=info.name,
            shape=info.shape,
            dtype=info.dtype,
            scale=1.0,
            zero_point=0 if info.dtype == "uint8" else -128,
        )
    return info


def ends(model: Any) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Describe the graph's inputs and outputs; see `input_info` and `output_info`."""
    return (
        (input_info(model), *(_tensor(port) for port in model.inputs[1:])),
        tuple(output_info(model, place) for place in range(len(model.outputs))),
    )


def output_info(model: Any, place: int = 0) -> TensorInfo:
    """Describe one of the graph's outputs, with the quantization recorded by `set_quantization`."""
    info, end = _tensor(model.outputs[place]), _numbered(place)
    if info.dtype in ("uint8", "int8") and model.has_rt_info([_RT_INFO, f"output{end}_scale"]):
        return TensorInfo(
            name=info.name,
            shape=info.shape,
            dtype=info.dtype,
            scale=float(str(model.get_rt_info([_RT_INFO, f"output{end}_scale"]).value)),
            zero_point=int(str(model.get_rt_info([_RT_INFO, f"output{end}_zero_point"]).value)),
        )
    return info


def describe(path: Path) -> Artifact:
    """Read inputs, outputs and operations of an IR.

    An operation counts as INT8 when FakeQuantize feeds it (its weights, too, if it has any): that is how an
    IR says that the runtime may compute it in integers. Bias and activation count with the convolution before
    them, in whose kernel they are computed.

    Raises:
        ArtifactError: See `read`.
    """
    model = read(path)
    ops: Counter[tuple[str, str]] = Counter()
    computing: Counter[bool] = Counter()
    macs: Counter[bool] = Counter()
    left_float: Counter[str] = Counter()
    integer: set[str] = set()  # names of the operations on integers
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind in _ENDS or is_constant(operation):
            continue
        for port in operation.outputs():
            if port.get_partial_shape().is_static:
                bounds.check_tensor(path, operation.get_friendly_name(), port.get_shape())
        is_integer = _is_integer(operation, integer)
        if is_integer:
            integer.add(operation.get_friendly_name())
        ops[kind, "int8" if is_integer else _dtype(operation.output(0))] += 1
        if kind != "FakeQuantize" and kind not in _MOVES_DATA:
            computing[is_integer] += 1
        if kind in _WEIGHTED:
            macs[is_integer] += _macs(operation)
            left_float[kind] += not is_integer
    notes = []
    if model.has_rt_info([_RT_INFO, hardware.WEIGHTS_ONLY_KEY]) and not computing[True]:
        notes.append(hardware.WEIGHTS_ONLY)
    if model.has_rt_info([_RT_INFO, hardware.KEY]):
        notes.append(hardware.note(str(model.get_rt_info([_RT_INFO, hardware.KEY]).value)))
    if _PRECISE in path.read_text(encoding="utf-8") and not computing[True]:
        notes.append("asks the runtime for float32 in every operation; no bf16 on CPUs that have it")
    if macs[True] and left_float.total():
        kept = ", ".join(f"{count} {kind}" for kind, count in sorted(left_float.items()) if count)
        notes.append(f"kept in float: {kept} ({macs[False] / macs.total():.1%} of the MACs)")
    inputs, outputs = ends(model)
    bounds.check_ends(path, inputs, outputs)
    return Artifact(
        target="",
        files=tuple(_file(file) for file in (path, path.with_suffix(".bin"))),
        inputs=inputs,
        outputs=outputs,
        ops=tuple(OpCount(op=kind, dtype=dtype, count=count) for (kind, dtype), count in sorted(ops.items())),
        compute_int8=computing[True],
        compute_float=computing[False],
        int8_macs_share=macs[True] / macs.total() if macs.total() else None,
        notes=tuple(notes),
    )


def macs_by_name(model: Any) -> dict[str, int]:
    """Return the multiply-accumulates of each convolution and matrix product, by its name."""
    return {
        operation.get_friendly_name(): _macs(operation)
        for operation in model.get_ordered_ops()
        if operation.get_type_name() in _WEIGHTED
    }


def _normalize(xml: Path, *, exact: bool) -> None:
    """Take this machine's paths out of the graph file and mark operations for exact computation."""
    tree = ET.parse(xml)  # noqa: S314 - our own file
    root = tree.getroot()
    for info in root.iterfind("rt_info"):
        for traces in info.findall("conversion_parameters"):
            info.remove(traces)
    for layer in root.iterfind("layers/layer") if exact else ():
        if layer.get("type") not in ("Const", "Parameter", "Result"):
            marks = layer.find("rt_info")
            if marks is None:
                marks = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, marks)
            ET.SubElement(marks, "attribute", name="precise", version="0")
    ET.indent(
        tree, space=""
    )  # the indentation is a quarter of the file, and the file is part of the artifact
    tree.write(xml, encoding="utf-8", xml_declaration=True)


def _raise_if_full(out: Path, model: Any) -> None:
    """OpenVINO reports a full disk as a failed stream, or not at all."""
    needed = sum(op.data.nbytes for op in model.get_ops() if op.get_type_name() == "Constant")
    if shutil.disk_usage(out.parent).free < needed:
        raise disk_full(out.parent)


def _file(path: Path) -> ArtifactFile:
    return ArtifactFile(path=path, size_bytes=path.stat().st_size, sha256=hash_file(path))


def _tensor(port: Any) -> TensorInfo:
    names = sorted(port.get_names()) or [port.get_node().get_friendly_name()]
    shape = tuple(
        dimension.get_length() if dimension.is_static else -1 for dimension in port.get_partial_shape()
    )
    return TensorInfo(name=names[0], shape=shape, dtype=_dtype(port))


def _dtype(port: Any) -> str:
    return str(port.get_element_type().to_dtype().name)


def is_constant(operation: Any) -> bool:
    """Whether an operation only unpacks stored weights: it is folded when the model is opened."""
    if operation.get_type_name() == "Constant":
        return True
    sources = operation.input_values()
    return bool(sources) and all(is_constant(source.get_node()) for source in sources)


def _is_integer(operation: Any, integer: set[str]) -> bool:
    """Whether an operation may be computed on integers, given the names of those before it that may."""
    kind = operation.get_type_name()
    if kind == "FakeQuantize" or kind in _MOVES_DATA:
        return False
    sources = [value.get_node() for value in operation.input_values()]
    data = [source for source in sources if not is_constant(source)]
    if kind in _FUSED or (kind == "Add" and len(data) == 1):
        return data[0].get_friendly_name() in integer
    if kind in _WEIGHTED and not _holds_8_bit(sources[1]):
        return False
    return bool(data) and all(_is_8_bit_fake_quantize(_past_moves(source)) for source in data)


def _past_moves(operation: Any) -> Any:
    while operation.get_type_name() in _MOVES_DATA:
        operation = operation.input_value(0).get_node()
    return operation


def _holds_8_bit(weights: Any) -> bool:
    """Whether weights are stored as 8-bit integers, or in float under a FakeQuantize."""
    if weights.get_type_name() == "Constant":
        return weights.get_element_type().to_dtype().name in ("int8", "uint8")
    if not weights.get_input_size():
        return False
    return _is_8_bit_fake_quantize(weights) or _holds_8_bit(weights.input_value(0).get_node())


def _is_8_bit_fake_quantize(operation: Any) -> bool:
    return operation.get_type_name() == "FakeQuantize" and int(operation.get_attributes()["levels"]) <= 256


def _macs(operation: Any) -> int:
    """Multiply-accumulates of one inference; 0 when the shape is not known."""
    output, weights = operation.output(0).get_partial_shape(), operation.input_value(1).get_partial_shape()
    if output.is_dynamic or weights.is_dynamic:
        return 0
    results: int = math.prod(output.to_shape())
    kernel = [int(size) for size in weights.to_shape()]
    if operation.get_type_name() == "Convolution":  # [out, in, kh, kw]
        return results * math.prod(kernel[1:])
    if operation.get_type_name() == "GroupConvolution":  # [groups, out, in, kh, kw]
        return results * math.prod(kernel[2:])
    return results * kernel[-1 if operation.get_attributes()["transpose_b"] else -2]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def verify(path: Path, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the written file back; raise `ConversionError` when it is not what was asked for."""
    found = describe(path)
    problems = written.problems_of_ends((*found.inputs, *found.outputs), graph, scheme)
    without = scheme.profile is not None and hardware.WEIGHTS_ONLY in found.notes
    if scheme.precision is Precision.INT8 and not found.compute_int8 and not without:
        problems.append("no convolution runs in INT8")
    written.refuse(problems, f"openvino-{scheme.precision}")
