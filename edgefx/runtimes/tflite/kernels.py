"""Which kernels a ``.tflite`` needs, and where LiteRT's fast ones differ from its reference ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgefx.compilation import Operator
from edgefx.runtimes.session import stored
from edgefx.runtimes.tflite import flatbuffer, micro
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgefx.types import Pixels


def operators(model: ModelT) -> tuple[Operator, ...]:
    """Return the kinds of operations of a model, in the order in which they first occur."""
    counts = Counter(
        (flatbuffer.op_name(model, op), int(model.operatorCodes[op.opcodeIndex].version))
        for op in model.subgraphs[0].operators
    )
    return tuple(
        Operator(name=name, version=version, count=count) for (name, version), count in counts.items()
    )


def first_difference(model: ModelT, image: Pixels) -> str:
    """Return the first operation whose result XNNPACK computes otherwise than the reference kernels.

    Both run a copy of the model whose every result is an output.

    Args:
        model: With integer ends; it is changed.
        image: uint8 [H, W, 3], raw RGB.

    Returns:
        Layer and operation, as "stem_activation (LOGISTIC)"; "" where there is none.
    """
    import numpy as np
    from ai_edge_litert.interpreter import OpResolverType

    graph = model.subgraphs[0]
    end = graph.tensors[graph.inputs[0]]
    scale, zero_point = flatbuffer.quantization_of(end) or (None, None)
    ready = stored(
        image[None],
        TensorInfo(name="", shape=(), dtype=flatbuffer.dtype_name(end), scale=scale, zero_point=zero_point),
    )
    micro.restored(model)
    graph.outputs = [op.outputs[0] for op in graph.operators]
    content = flatbuffer.write(model)
    fast, reference = (
        _results(content, kind, ready) for kind in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)
    )
    for op, one, other in zip(graph.operators, fast, reference, strict=True):
        if not np.array_equal(one, other):
            name = (graph.tensors[op.outputs[0]].name or b"").decode(errors="replace")
            return f"{name.partition(';')[0].partition('/')[0]} ({flatbuffer.op_name(model, op)})"
    return ""


def _results(content: bytes, kernels: Any, ready: Any) -> list[Any]:
    """Run a model once and return its outputs, in the file's order."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ready)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]
