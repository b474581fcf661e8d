"""INT8 and INT16 x INT8: ranges, scales and biases found on the calibration images, then quantization.

What each effort does is data (`passes`). Measured on EfficientNet-B0 and 200 images that set no ranges,
signal to noise at the logits: 13.6 dB with ranges alone, 16.2 with biases corrected, 16.4 with scales, 21.1
with both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgefx.errors import ConversionError
from edgefx.protocols import Progress
from edgefx.quantization import QuantScheme
from edgefx.quantize.questions import Question
from edgefx.quantize.ranges import Range, RangeMethod
from edgefx.runtimes.passes import conditions_of, selected
from edgefx.runtimes.protocol import QatTemplate
from edgefx.runtimes.tflite import (
    aeq,
    artifact,
    bias,
    calibrate,
    compress,
    convert,
    equalize,
    flatbuffer,
    integers,
    passes,
    placement,
    reconstruct,
    rounding,
    segments,
)
from edgefx.types import Effort, FrozenGraph, ImageSet, ModelTask, OutputKind, Precision, Ranges

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass
class _Quantization:
    """A graph on its way to integers: what the passes so far have found."""

    model: ModelT  # the float graph; passes scale its channels
    graph: FrozenGraph
    scheme: QuantScheme
    calibration: ImageSet
    progress: Progress
    kept: frozenset[int]  # output tensors of what stays in float
    ranges: dict[str, Range] = field(default_factory=dict)
    quantized: ModelT = field(init=False)
    correlated: rounding.Correlated | None = None

    def find_ranges(self, *also: Question[Any, Any]) -> None:
        method = RangeMethod.MIN_MAX
        if self.scheme.ranges is not Ranges.AUTO:
            method = RangeMethod(self.scheme.ranges)
        elif self.scheme.precision is Precision.INT8:
            method = RangeMethod.ACTIVATION_MSE
        self.ranges = calibrate.measure(
            self.model,
            self.calibration,
            self.progress,
            method=method,
            float_sigmoids=self.scheme.float_sigmoids(self.graph.output_names),
            unbounded=_unbounded(self.graph),
            also=also,
        )

    def equalize(self) -> None:
        known = equalize.equalize(
            self.model,
            self.ranges,
            self.calibration.pixels,
            self.graph.spreads,
            self.progress,
            kept=self.kept,
        )
        if known:
            self.correlated = rounding.Correlated(self.model, seed=self.scheme.seed)
            self.find_ranges(self.correlated)  # the graph is what will be rounded: one pass for both
            self.ranges |= known

    def quantize(self) -> None:
        precision = self.scheme.precision
        with self.progress.task(f"quantizing to {precision}"):
            content = aeq.quantize(self.model, self.ranges, precision, keep_float=self.kept)
            self.quantized = flatbuffer.read(content)
        if precision is Precision.INT8:
            tensors = self.model.subgraphs[0].tensors
            kept = {tensors[index].name.decode() for index in self.kept}
            integers.complete(self.quantized)
            integers.adopt(self.quantized, kept=kept)
            integers.prescribe(self.quantized, kept=kept)

    def round(self) -> None:
        if self.correlated is None:
            self.correlated = rounding.Correlated(self.model, seed=self.scheme.seed)
            with self.progress.task("correlating activations", len(self.calibration)) as task:
                segments.ask(self.model, [self.correlated], self.calibration.pixels, task=task)
        if self.scheme.compression:
            compress.optimize(
                self.model, self.quantized, self.correlated, self.scheme.compression, self.progress
            )
        else:
            rounding.optimize(self.model, self.quantized, self.correlated, self.progress)

    def correct_biases(self) -> None:
        bias.correct(self.model, self.quantized, self.calibration.pixels, self.progress)

    def reconstruct(self) -> None:
        self.quantized = reconstruct.reconstruct(
            self.model,
            self.quantized,
            self.graph,
            self.calibration,
            seed=self.scheme.seed,
            progress=self.progress,
        )


CARRIED_OUT: Mapping[str, Callable[[_Quantization], None]] = {
    passes.RANGES.name: _Quantization.find_ranges,
    passes.EQUALIZE.name: _Quantization.equalize,
    passes.QUANTIZE.name: _Quantization.quantize,
    passes.GPTQ.name: _Quantization.round,
    passes.BIAS.name: _Quantization.correct_biases,
    passes.RECONSTRUCT.name: _Quantization.reconstruct,
}


def _unbounded(graph: FrozenGraph) -> tuple[bool, ...]:
    """Return of each output whether it is of logits or quantities.

    Logits of which the sigmoid or softmax was left off keep their exact ranges, which were measured, and so
    do vectors and maps, of many values.
    """
    if graph.left_off is not None:
        return (False,)
    exact = (ModelTask.EMBEDDING, ModelTask.FEATURES)
    found = graph.spec.outputs or (graph.spec,)
    return tuple(one.output is not OutputKind.PROBABILITIES and one.task not in exact for one in found)


def quantize(
    model: ModelT, graph: FrozenGraph, scheme: QuantScheme, calibration: ImageSet, progress: Progress
) -> ModelT:
    """Return the integer graph of a float graph, by the passes of the scheme's effort (`passes.PASSES`).

    Args:
        model: The float graph; it is changed.
        graph: The canonical graph that it came from.
        scheme: INT8 or INT16X8, and how much effort.
        calibration: Images of the graph's size.
        progress: Told of each step.

    Returns:
        The graph; its ends are integers as well.

    Raises:
        ConversionError: Operations would stay in float, the float model overflows on an image, or
            ai-edge-quantizer refuses the graph.
    """
    adopted = integers.ADOPTED if scheme.precision is Precision.INT8 else frozenset[str]()
    artifact.check_operations(model, scheme, aeq.integer_operations(scheme.precision) | adopted)
    kept = placement.kept_in_float(model, scheme.keep_float)
    work = _Quantization(model, graph, scheme, calibration, progress, kept)
    conditions = conditions_of(scheme, trained=False)
    steps = selected(passes.PASSES[scheme.precision][scheme.effort], conditions)
    if scheme.compression and passes.GPTQ not in steps:
        steps += (passes.GPTQ, passes.BIAS)  # the first compresses; of the least effort both would be missing
    for one in steps:
        CARRIED_OUT[one.name](work)
    return work.quantized


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
