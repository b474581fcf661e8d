"""Activation ranges of a float ``.tflite``, from calibration images.

The float file itself is run in the interpreter, with the tensors of interest made graph outputs. That is
several times faster than keeping every tensor, because what is known without measuring is not looked at:
sigmoid and softmax end in [0, 1], what swish makes of a range follows from the range, and the affine
operations on the pixels have exact ends because the pixels have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Question
from edgefx.quantize.ranges import Consumer, Range, RangeCollector, RangeMethod, after_swish
from edgefx.runtimes.tflite import flatbuffer, segments
from edgefx.types import ImageSet

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

_UNIT_RANGE_OPS = ("LOGISTIC", "SOFTMAX")
# Activations in one operation, by what they make of their input's errors; swish is two. For HARD_SWISH exact
# extremes stay: ranges of least error behind it cost a random MobileNetV3-Small 0.9 dB.
_FUNCTIONS = {
    "LOGISTIC": Consumer.SIGMOID,
    "GELU": Consumer.GELU,
}
_LINEAR_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "AVERAGE_POOL_2D")
_AFFINE = {"MUL": np.multiply, "ADD": np.add, "SUB": np.subtract, "DIV": np.divide}
_CHANNEL_AXIS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}  # of the channels that are read
_PIXELS = (0.0, 255.0)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The float tensors of a graph, sorted by how their ranges can be had.

    Attributes:
        measured: Tensors whose range must come from images, each with what it feeds, by tensor index.
        swish: For each pre-swish tensor the index of the swish's output.
        known: Ranges that follow from the graph alone.
        names: All tensors' names by index.
    """

    measured: Mapping[int, Consumer]
    swish: Mapping[int, int]
    known: Mapping[int, Range]
    names: tuple[str, ...]


def analyse(
    model: ModelT, *, float_sigmoids: Sequence[bool] = (), unbounded: Sequence[bool] = ()
) -> Activations:
    """Sort the activations of a float graph by how their ranges can be had.

    Args:
        model: The float graph.
        unbounded: Of each output, whether it is of logits or quantities, of which other images may have more.
        float_sigmoids: Of each output, whether a sigmoid that it ends in will be computed in float. Then its
            input is what the artifact says: clipped where 8-bit sigmoids are all alike, sure answers could
            no longer be told from very sure ones. A multilabel head on EfficientNet-B0 lost 0.99 pp of mean
            average precision with logits cut at 10.5, and 0.22 pp with all of them; a binary one 0.57 and
            0.20 pp of the area under the ROC curve.
    """
    graph = model.subgraphs[0]
    ends = {
        int(index)
        for index, is_float in zip(graph.outputs, float_sigmoids, strict=bool(float_sigmoids))
        if is_float
    }
    readers = flatbuffer.consumers(model)
    known = _affine_ends(model, readers)
    for op in graph.operators:
        if flatbuffer.op_name(model, op) in _UNIT_RANGE_OPS:
            known[int(op.outputs[0])] = Range(0.0, 1.0)
    producers = {int(index): op for op in graph.operators for index in op.outputs}
    swish = {index: output for index in producers if (output := _swish_output(model, index, readers))}
    measured = {}
    for index, op in producers.items():
        if index in known or index in swish.values():
            continue
        if flatbuffer.dtype_name(graph.tensors[index]) == "float32":
            reads = {
                flatbuffer.op_name(model, reader)
                for reader in readers[index]
                if int(reader.outputs[0]) not in ends
            }
            measured[index] = (
                Consumer.SWISH if index in swish else _consumer(flatbuffer.op_name(model, op), reads)
            )
    for end, is_unbounded in zip(map(int, graph.outputs), unbounded, strict=bool(unbounded)):
        if is_unbounded and measured.get(end) is Consumer.SCORES:
            measured[end] = Consumer.ANSWER
    return Activations(
        measured=measured,
        swish=swish,
        known=known,
        names=tuple(tensor.name.decode() for tensor in graph.tensors),
    )


def _consumer(producer: str, readers: set[str]) -> Consumer:
    """Return what a tensor is, by the operations that make it and that read it."""
    if not readers or "SOFTMAX" in readers:
        return Consumer.SCORES
    function = _FUNCTIONS.get(min(readers)) if len(readers) == 1 else None
    if function is not None:
        return function
    if producer == "MEAN":
        return Consumer.POOLED
    return Consumer.LINEAR if producer in _LINEAR_OPS else Consumer.GENERIC


def measure(
    model: ModelT,
    calibration: ImageSet,
    progress: Progress,
    *,
    method: RangeMethod,
    float_sigmoids: Sequence[bool] = (),
    unbounded: Sequence[bool] = (),
    also: Sequence[Question[Any, Any]] = (),
) -> dict[str, Range]:
    """Return a range for each float activation of the graph, by tensor name.

    Args:
        model: The float graph.
        calibration: Images of the graph's size.
        progress: Advanced once per image.
        method: How ranges are chosen.
        float_sigmoids: See `analyse`.
        unbounded: See `analyse`.
        also: What else to ask of the same graph.
    """
    activations = analyse(model, float_sigmoids=float_sigmoids, unbounded=unbounded)
    names = activations.names
    collector = RangeCollector(
        {names[index]: consumer for index, consumer in activations.measured.items()},
        methods=(method,),
        weights={names[index]: weights for index, weights in weights_behind(model, activations).items()},
    )
    with progress.task("calibrating", total=len(calibration)) as task:
        segments.ask(model, [collector, *also], calibration.pixels, task=task)
    ranges = collector.ranges(method)
    for before, behind in activations.swish.items():
        ranges[names[behind]] = after_swish(ranges[names[before]])
    ranges.update({names[index]: known for index, known in activations.known.items()})
    return ranges


def weights_behind(model: ModelT, activations: Activations) -> dict[int, NDArray[np.float32]]:
    """Return what an error of each channel of a measured tensor becomes in the layer behind, [channels].

    The squared norm of the weights that read the channel; through a swish and through a product with a gate,
    which keep the channels. Tensors whose readers are all of another kind are absent.
    """
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)

    def norms(index: int, *, through_product: bool) -> NDArray[np.float64] | None:
        found = []
        for op in readers[index]:
            name = flatbuffer.op_name(model, op)
            if name in _CHANNEL_AXIS and int(op.inputs[0]) == index:
                weights = flatbuffer.constant(model, graph.tensors[op.inputs[1]])
                if weights is not None:
                    others = tuple(axis for axis in range(weights.ndim) if axis != _CHANNEL_AXIS[name])
                    found.append(np.square(weights).sum(axis=others))
            elif name == "MUL" and through_product:
                behind = norms(int(op.outputs[0]), through_product=False)
                found += [] if behind is None else [behind]
        return sum(found) if found else None

    result = {}
    for index in activations.measured:
        value = norms(activations.swish.get(index, index), through_product=True)
        channels = flatbuffer.shape_of(graph.tensors[index])[-1:]
        if value is not None and value.shape == channels and value.max() > 0:
            result[index] = value.astype(np.float32)
    return result


def _swish_output(model: ModelT, index: int, readers: Mapping[int, list[OperatorT]]) -> int | None:
    """Return the output tensor of x * sigmoid(x) when tensor `index` feeds that and nothing else."""
    by_name = {flatbuffer.op_name(model, op): op for op in readers[index]}
    if len(readers[index]) != 2 or set(by_name) != {"LOGISTIC", "MUL"}:
        return None
    gate = int(by_name["LOGISTIC"].outputs[0])
    if {int(i) for i in by_name["MUL"].inputs} != {index, gate} or len(readers[gate]) != 1:
        return None
    return int(by_name["MUL"].outputs[0])


def _affine_ends(model: ModelT, readers: Mapping[int, list[OperatorT]]) -> dict[int, Range]:
    """Return exact ranges of the input and of the affine operations (rescaling, normalization) on it."""
    graph = model.subgraphs[0]
    index = int(graph.inputs[0])
    low, high = (np.full((1,), end) for end in _PIXELS)
    known = {index: Range(*_PIXELS)}
    while len(readers[index]) == 1:
        (op,) = readers[index]
        operation = _AFFINE.get(flatbuffer.op_name(model, op))
        if operation is None or op.builtinOptions.fusedActivationFunction:
            break
        operands = [flatbuffer.constant(model, graph.tensors[int(i)]) for i in op.inputs]
        if sum(operand is None for operand in operands) != 1:
            break
        ends = [
            operation(*(end if operand is None else operand for operand in operands)) for end in (low, high)
        ]
        low, high = np.minimum(*ends), np.maximum(*ends)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            break
        index = int(op.outputs[0])
        known[index] = Range(float(low.min()), float(high.max()))
    return known
