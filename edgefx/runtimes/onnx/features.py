"""What a classifier's last layer with weights reads: the features of an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.runtimes.onnx import artifact, external
from edgefx.runtimes.onnx.graph import infer_shapes
from edgefx.runtimes.session import is_vector

if TYPE_CHECKING:
    import onnx

_WEIGHTED = {"Gemm", "MatMul", "Conv", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "FusedMatMul"}
_INTEGER = {"QGemm", "QLinearMatMul", "QLinearConv"}  # their first three inputs: values, scale, zero point
_FEATURES = "features"


def write(path: Path, out: Path) -> bool:
    """Write a copy of a file that ends in them; see `Runtime.write_features`."""
    from onnx import TensorProto, helper

    model = artifact.load(path)
    makers = {output: node for node in model.graph.node for output in node.output}
    head = next((node for node in _backwards(model, makers) if node.op_type in _WEIGHTED | _INTEGER), None)
    if head is None or len(external.files(model, path)) > 1:
        return False
    read = head.input[0]
    if head.op_type in _INTEGER:
        model.graph.node.append(helper.make_node("DequantizeLinear", head.input[:3], [_FEATURES]))
        read = _FEATURES
    elif read in makers and makers[read].op_type == "DynamicQuantizeLinear":
        read = makers[read].input[0]
    shape = infer_shapes(model).get(read)
    if shape is not None and not is_vector(shape):  # one that is not known is not doubted
        return False
    del model.graph.output[:]
    # Where an end is of integers, a file is read only if the others say what they are.
    known = helper.make_tensor_value_info(read, TensorProto.FLOAT, shape) if shape is not None else None
    model.graph.output.append(known or helper.make_empty_tensor_value_info(read))
    out.write_bytes(model.SerializeToString())
    return True


def _backwards(model: onnx.ModelProto, makers: dict[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes before the output, the nearest first."""
    waiting, seen = [output.name for output in model.graph.output], set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in makers:
            continue
        seen.add(name)
        yield makers[name]
        waiting += makers[name].input
