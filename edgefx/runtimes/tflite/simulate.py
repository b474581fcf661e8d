"""What rounding some activations alone does to the scores: QUANTIZE and DEQUANTIZE in the float graph."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.quantize.ranges import Range
from edgefx.runtimes.tflite import flatbuffer
from edgefx.system.host import cores

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgefx.types import Pixels


def scores(
    model: ModelT, ranges: Mapping[str, Range], rounded: frozenset[int], images: Pixels
) -> NDArray[np.float32]:
    """Run the float graph with some tensors rounded to 8 bits, and return the logits.

    Args:
        model: The float graph; it is not changed.
        ranges: What the 256 levels of each tensor span, by name.
        rounded: Indices of the tensors to round.
        images: uint8 [N, H, W, 3].

    Returns:
        float32 [N, classes]; where the graph ends in softmax, what that is taken of. Less the mean of each
        image, since softmax does not see a shift.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(
        model_content=flatbuffer.write(_simulated(model, ranges, rounded)), num_threads=cores()
    )
    interpreter.allocate_tensors()
    feed = interpreter.tensor(interpreter.get_input_details()[0]["index"])
    fetch = interpreter.tensor(interpreter.get_output_details()[0]["index"])
    found = []
    for image in images:
        feed()[0] = image
        interpreter.invoke()
        found.append(fetch().reshape(-1).copy())
    values = np.stack(found)
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _simulated(model: ModelT, ranges: Mapping[str, Range], rounded: frozenset[int]) -> ModelT:
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    probe, body = schema.ModelT(), schema.SubGraphT()
    probe.version, probe.buffers = model.version, model.buffers
    probe.operatorCodes = list(model.operatorCodes)
    body.tensors, body.inputs, body.operators = list(graph.tensors), graph.inputs, []
    probe.subgraphs = [body]
    replaced: dict[int, int] = {}
    for op in graph.operators:
        if flatbuffer.op_name(model, op) == "SOFTMAX":
            break
        reader = copy.copy(op)
        reader.inputs = [replaced.get(int(index), int(index)) for index in op.inputs]
        body.operators.append(reader)
        for index in (int(index) for index in op.outputs):
            name = graph.tensors[index].name.decode()
            if index in rounded and name in ranges:
                replaced[index] = flatbuffer.add_rounding(probe, index, *_grid(ranges[name]))
    last = int(body.operators[-1].outputs[0])
    body.outputs = [replaced.get(last, last)]
    return probe


def _grid(span: Range) -> tuple[float, int]:
    """Return scale and zero point of the 8-bit asymmetric grid over a range and zero."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    scale = max((high - low) / 255, 1e-30)
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))
