"""INT8 and INT16 x INT8: ranges, scales and biases found on the calibration images, then quantization.

`Effort.FAST` stops at good ranges. `Effort.BALANCED` gives the channels of the noisiest swishes scales of
their own, and corrects the biases on the integer kernels. Measured on EfficientNet-B0 and 200 images that set
no ranges, signal to noise at the logits: 13.6 dB with ranges alone, 16.2 with biases corrected, 16.4 with
scales, 21.1 with both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx.errors import ConversionError
from edgefx.protocols import Progress
from edgefx.quantization import QuantScheme
from edgefx.quantize.ranges import RangeMethod
from edgefx.runtimes.protocol import QatTemplate
from edgefx.runtimes.tflite import (
    aeq,
    bias,
    calibrate,
    convert,
    equalize,
    flatbuffer,
    reconstruct,
    rounding,
)
from edgefx.types import Effort, FrozenGraph, ImageSet, Precision, Ranges

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_CHAIN = ("LOGISTIC", "MUL")  # what stays in float with the layer that feeds it: its activation


def quantize(
    model: ModelT, graph: FrozenGraph, scheme: QuantScheme, calibration: ImageSet, progress: Progress
) -> ModelT:
    """Return the integer graph of a float graph; its ends are integers as well.

    Args:
        model: The float graph; it is changed.
        graph: The canonical graph that it came from.
        scheme: INT8 or INT16X8, and how much effort.
        calibration: Images of the graph's size.
        progress: Told of each step.

    Raises:
        ConversionError: The float model overflows on an image, or ai-edge-quantizer refuses the graph.
    """
    is_int8 = scheme.precision is Precision.INT8
    method = RangeMethod.ACTIVATION_MSE if is_int8 else RangeMethod.MIN_MAX
    if scheme.ranges is not Ranges.AUTO:
        method = RangeMethod(scheme.ranges)
    ranges = calibrate.measure(model, calibration, progress, method=method)
    kept = _kept_in_float(model, scheme.keep_float)
    if is_int8 and scheme.effort is not Effort.FAST:
        known = equalize.equalize(model, ranges, calibration.pixels, graph.spreads, progress, left_alone=kept)
        if known:
            ranges = calibrate.measure(model, calibration, progress, method=method) | known
    with progress.task(f"quantizing to {scheme.precision}"):
        quantized = flatbuffer.read(aeq.quantize(model, ranges, scheme.precision, keep_float=kept))
    if is_int8 and scheme.effort is not Effort.FAST:
        rounding.optimize(model, quantized, calibration.pixels, seed=scheme.seed, progress=progress)
    if is_int8 and scheme.effort is not Effort.FAST:
        bias.correct(model, quantized, calibration.pixels, progress)
        if scheme.effort is Effort.HIGH and not kept:  # training imitates fully integer artifacts only
            quantized = reconstruct.reconstruct(
                model, quantized, graph, calibration, seed=scheme.seed, progress=progress
            )
    return quantized


def _kept_in_float(model: ModelT, layers: frozenset[str]) -> frozenset[int]:
    """Return the output tensors of the operations of some canonical layers and of their activations.

    A layer's activation stays in float with it: rounded between the two, little would be gained.
    """
    graph = model.subgraphs[0]
    readers = flatbuffer.consumers(model)
    kept = set()
    for op in graph.operators:
        index = int(op.outputs[0])
        if graph.tensors[index].name.decode().split("/", 1)[0] not in layers:
            continue
        kept.add(index)
        behind = {flatbuffer.op_name(model, reader) for reader in readers[index]}
        if behind and behind <= set(_CHAIN):
            kept |= {int(reader.outputs[0]) for reader in readers[index]}
    return frozenset(kept)


def template(
    graph: FrozenGraph, scheme: QuantScheme, calibration: ImageSet, progress: Progress
) -> QatTemplate:
    """Quantize a graph after training: the artifact that training for quantization starts from.

    Args:
        graph: The canonical graph.
        scheme: INT8; nothing may be kept in float.
        calibration: Images for ranges, scales, rounding and biases.
        progress: Told of each step.

    Raises:
        ConversionError: A converter refused the graph.
    """
    if scheme.precision is not Precision.INT8 or scheme.keep_float:
        raise ConversionError("training for quantization starts from a fully integer artifact")
    if scheme.effort is Effort.HIGH:
        scheme = replace(scheme, effort=Effort.BALANCED)  # what it adds is a training itself
    model = flatbuffer.read(convert.float_content(graph, progress))
    quantized = quantize(model, graph, scheme, calibration, progress)
    return QatTemplate(quantized=flatbuffer.write(quantized), float_model=flatbuffer.write(model))
