"""What rounding some activations alone does to the scores: QUANTIZE and DEQUANTIZE in the float graph."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.quantize.ranges import Range
from edgefx.runtimes.tflite import flatbuffer, segments
from edgefx.system.parallel import ordered
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgefx.types import Pixels

_NOTHING: frozenset[int] = frozenset()
_SMALLEST = 1e-30  # of the range of an output that is always zero


def scores(
    model: ModelT, ranges: Mapping[str, Range], rounded: Collection[int], images: Pixels
) -> NDArray[np.float32]:
    """Run the float graph with some tensors rounded to 8 bits, and return the logits.

    Args:
        model: The float graph; it is not changed.
        ranges: What the 256 levels of each tensor span, by name.
        rounded: Indices of the tensors to round.
        images: uint8 [N, H, W, 3].

    Returns:
        float32 [N, classes]; where the graph ends in softmax, what that is taken of. Less the mean of each
        image, since softmax does not see a shift; a single score, and sigmoids, do. Several outputs stand
        side by side, each over its range: they count alike, whatever they are in.
    """
    return _scores(model, ranges, rounded, 0, {int(model.subgraphs[0].inputs[0]): images})


def noise(
    model: ModelT, ranges: Mapping[str, Range], groups: Iterable[Collection[int]], images: Pixels
) -> Iterator[float]:
    """Return how much rounding each group of tensors alone to 8 bits changes the logits, one by one.

    Only what lies behind a group is computed again for it.

    Args:
        model: The float graph; it is not changed.
        ranges: What the 256 levels of each tensor span, by name.
        groups: Indices of the tensors to round; groups in the order in which the graph computes the first
            tensor of each.
        images: uint8 [N, H, W, 3].

    Returns:
        The squared differences of the logits (see `scores`), summed over images and classes.
    """
    graph = model.subgraphs[0]
    makers = {int(index): place for place, op in enumerate(graph.operators) for index in op.outputs}
    exact = scores(model, ranges, _NOTHING, images)

    def parts() -> Iterator[tuple[Collection[int], int, segments.Values]]:
        start, given = 0, {int(graph.inputs[0]): images}
        for group in groups:
            end = min(makers[index] for index in group) + 1
            given, start = segments.advance(model, start, end, given), end
            yield group, start, given

    def squares(part: tuple[Collection[int], int, segments.Values]) -> float:
        return float(np.square(_scores(model, ranges, *part) - exact).sum())

    # One at a time, since each uses all cores; the next part is prepared meanwhile.
    return ordered(squares, parts(), workers=1)


def _scores(
    model: ModelT, ranges: Mapping[str, Range], rounded: Collection[int], start: int, given: segments.Values
) -> NDArray[np.float32]:
    """Return `scores`, given the activations that the operations from `start` on read."""
    if len(model.subgraphs[0].outputs) > 1:
        return _side_by_side(model, ranges, rounded, start, given)
    simulated, last = _simulated(model, ranges, rounded, start, given)
    operators = simulated.subgraphs[0].operators
    values = segments.run(simulated, operators, given, [last], lambda _, logits: logits.reshape(-1))[last]
    graph = model.subgraphs[0]
    is_sigmoid = flatbuffer.op_name(model, graph.operators[-1]) == "LOGISTIC"
    is_left_off = graph.tensors[graph.outputs[0]].name.decode() == ScoreFunction.SIGMOID.output_name
    return values if values.shape[1] == 1 or is_sigmoid or is_left_off else _centred(values)


def _side_by_side(
    model: ModelT, ranges: Mapping[str, Range], rounded: Collection[int], start: int, given: segments.Values
) -> NDArray[np.float32]:
    """Return `_scores` of a graph with several outputs."""
    graph = model.subgraphs[0]
    makers = {int(index): op for op in graph.operators for index in op.outputs}
    simulated, replaced = _rounding(model, ranges, rounded, given, graph.operators[start:])
    columns = []
    wanted = []
    for index in map(int, graph.outputs):
        maker = makers[index]
        is_softmax = flatbuffer.op_name(model, maker) == "SOFTMAX"
        source = int(maker.inputs[0]) if is_softmax else index
        wanted.append(replaced.get(source, source))
        columns.append((is_softmax, ranges.get(graph.tensors[source].name.decode())))
    operators = simulated.subgraphs[0].operators
    # What an earlier operation has made is not computed again.
    made = {int(index) for op in operators for index in op.outputs}
    asked = list(dict.fromkeys(index for index in wanted if index in made))
    found = segments.run(simulated, operators, given, asked, lambda _, values: values.reshape(-1))
    rows = []
    for index, (is_softmax, span) in zip(wanted, columns, strict=True):
        values = found[index] if index in found else given[index].reshape(len(given[index]), -1)
        width = max(span.high - span.low, _SMALLEST) if span is not None else 1.0
        rows.append((_centred(values) if is_softmax else values) / np.float32(width))
    return np.concatenate(rows, axis=1)


def _centred(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def _simulated(
    model: ModelT, ranges: Mapping[str, Range], rounded: Collection[int], start: int, given: Collection[int]
) -> tuple[ModelT, int]:
    """Return the graph from operation `start` to the logits, with tensors rounded, and its output."""
    probe, replaced = _rounding(model, ranges, rounded, given, _before_softmax(model, start))
    last = int(probe.subgraphs[0].operators[-1].outputs[0])
    return probe, replaced.get(last, last)


def _rounding(
    model: ModelT,
    ranges: Mapping[str, Range],
    rounded: Collection[int],
    given: Collection[int],
    operators: Iterable[OperatorT],
) -> tuple[ModelT, dict[int, int]]:
    """Return a graph of some operations, with tensors rounded, and what became of each of these."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    probe, body = schema.ModelT(), schema.SubGraphT()
    probe.version, probe.buffers = model.version, model.buffers
    probe.operatorCodes = list(model.operatorCodes)
    body.tensors, body.inputs, body.operators = list(graph.tensors), graph.inputs, []
    probe.subgraphs = [body]
    replaced: dict[int, int] = {}

    def round_off(index: int) -> None:
        name = graph.tensors[index].name.decode()
        if index in rounded and name in ranges:
            replaced[index] = flatbuffer.add_rounding(probe, index, *_grid(ranges[name]))

    for index in given:
        round_off(index)
    for op in operators:
        reader = copy.copy(op)
        reader.inputs = [replaced.get(int(index), int(index)) for index in op.inputs]
        body.operators.append(reader)
        for index in op.outputs:
            round_off(int(index))
    return probe, replaced


def _before_softmax(model: ModelT, start: int) -> Iterator[OperatorT]:
    for op in model.subgraphs[0].operators[start:]:
        if flatbuffer.op_name(model, op) == "SOFTMAX":
            return
        yield op


def _grid(span: Range) -> tuple[float, int]:
    """Return scale and zero point of the 8-bit asymmetric grid over a range and zero."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    scale = max((high - low) / 255, 1e-30)
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))
