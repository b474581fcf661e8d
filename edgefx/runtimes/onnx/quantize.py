"""Quantize a tidy float32 ONNX model, in the forms that ONNX Runtime runs well.

Written here instead of calling `onnxruntime.quantization`, because for EfficientNets the form decides more
than the ranges do. Measured on an x86-64 CPU with VNNI, one thread, against the tidy float32 model
(EfficientNet-B0 / V2-B0):

- Everything in INT8: 1.05 x the time, since QLinearSigmoid and QLinearMul cost more than the float swish.
- A DequantizeLinear in front of a float convolution's weights is *not* folded when a session loads, because
  ONNX Runtime keeps it for its Q/DQ fusions: 2.3 x. Cast and Mul on the same weights are folded: 1.0 x.
- Only convolutions that do much arithmetic per value moved (`profile`), rest in float: 0.85 x / 0.70 x.
- Swish behind them as one ``com.microsoft.QuickGelu`` (ONNX Runtime would fuse Sigmoid and Mul to it by
  itself, but not behind a DequantizeLinear with two readers): 0.79 x / 0.62 x.
- The products of squeeze-and-excite with a range of their own for each image (`gates`), outputs in front
  of swish with a range per channel (`channels`), and the convolutions that err most in float: 0.82 x /
  0.67 x, for a tenth of the error. This is written.

Networks of ReLUs (MobileNets) have no float function to convert for: the grid behind a convolution cuts off
what the ReLU would, so that the codes go on into a depthwise convolution in INT8 and out of it (`placement`).
A fine-tuned MobileNetV2, dB at the logits and time against float: 21.8 and 0.77 x with ReLUs in float between
Q/DQ pairs, 29.3 and 0.70 x in this form; every convolution in INT8 would take 0.59 x, at 23.7 dB.

Activations are uint8 and weights int8. x86-64 CPUs without VNNI multiply these with 16-bit saturation; for
them weights are uint8 around 128, which ONNX Runtime multiplies without (`Hardware.saturates_pairs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgefx.protocols import Progress
from edgefx.quantization import ActivationRanges, QuantScheme
from edgefx.quantize.ranges import Range
from edgefx.runtimes.onnx import bias, calibrate, channels, equalize, gates, passes, placement, rounding
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.artifact import KEPT_FLOAT, WEIGHTS_ONLY
from edgefx.runtimes.onnx.graph import OnnxGraph, swish_of, weights
from edgefx.runtimes.onnx.placement import Placement
from edgefx.runtimes.onnx.writer import ChannelRanges, Writer
from edgefx.runtimes.passes import conditions_of, selected
from edgefx.types import FrozenGraph, ImageSet, IoDtype, OutputKind, Precision

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


# --------------------------------------------------------------------------------------------- the forms


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as float16; a Cast, which ONNX Runtime folds at load, makes them float32 again.

    ONNX Runtime has no float16 convolution on most CPUs: a float16 graph runs with two conversions around
    every operation.
    """
    graph = OnnxGraph(model)
    writer = Writer(graph)
    for node in graph.nodes:
        for index in weights(node, graph):
            writer.store_float16(node, index)
        writer.nodes.append(node)
    return writer.finish()


def dynamic(model: onnx.ModelProto, *, unsigned: bool = False) -> onnx.ModelProto:
    """Store weights as INT8 per channel; dense layers quantize their input at run time.

    Convolutions compute in float32. Quantizing their inputs at run time too (DynamicQuantizeLinear and
    ConvInteger) is as accurate with per-channel weights, but 2.4 x to 5.4 x as slow as float32;
    `onnxruntime.quantization.quantize_dynamic` does it with one scale for all weights of a layer, which
    costs 46 percentage points on EfficientNet-B0. This form: 1.0 x, 0.27 x the size, 0.3 points.

    Args:
        model: The tidy float32 model.
        unsigned: See `Writer`.
    """
    graph = OnnxGraph(model)
    writer = Writer(graph, unsigned=unsigned)
    for node in graph.nodes:
        if node.op_type == "Gemm" and weights(node, graph) and _plain_gemm(node):
            writer.dynamic_gemm(node)
            continue
        for index in weights(node, graph):
            writer.store_int8(node, index)
        writer.nodes.append(node)
    return writer.finish()


def weight_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as INT8 per channel; everything computes in float32, as fast as without it."""
    graph = OnnxGraph(model)
    writer = Writer(graph)
    for node in graph.nodes:
        _store(writer, node, None, kept=False)
    return writer.finish()


def static(
    model: onnx.ModelProto,
    plan: Placement,
    ranges: Mapping[str, Range],
    *,
    input_dtype: IoDtype = IoDtype.FLOAT32,
    output_dtypes: Sequence[IoDtype] = (),
    outputs: Sequence[OutputKind] = (OutputKind.PROBABILITIES,),
    codes: Mapping[str, NDArray[np.int8]] | None = None,
    channels: Mapping[str, ChannelRanges] | None = None,
    unsigned: bool = False,
) -> onnx.ModelProto:
    """Quantize the planned convolutions with Q/DQ pairs; store all other weights as INT8 per channel.

    Args:
        model: The tidy float32 model, the biases of the plan's dynamic convolutions split off.
        plan: From `plan`.
        ranges: Real range per tensor of the plan; with integer outputs also those of logits and values.
        input_dtype: Element type of the graph's input.
        output_dtypes: Of each output; none where all are of float32.
        outputs: What each output means; probabilities span [0, 1].
        codes: Weights of convolutions where they are not just rounded, from `rounding`.
        channels: Tensors in front of a swish whose channels have ranges of their own.
        unsigned: See `Writer`.
    """
    codes, channels = codes or {}, channels or {}
    graph = OnnxGraph(model)
    shapes, readers = graph.shapes(), graph.consumers()
    writer = Writer(graph, unsigned=unsigned)
    quantized_by: set[str] = set()  # outputs of INT8 convolutions: all their readers must read the DQ
    fused: set[str] = set()
    for node in graph.nodes:
        result = node.output[0]
        if result in fused:
            continue
        if node.name in plan.dynamic:
            writer.dynamic_convolution(node, ranges[result], codes.get(node.name))
            continue
        if node.name in plan.convolutions:
            source = node.input[0]
            if clamp := onnx_graph.clamp_of(node, readers, graph):
                result = _absorb(node, clamp[0])
                fused.add(result)
            scale = writer.activation(source, ranges[source])
            writer.store_convolution(node, scale, codes.get(node.name), output=channels.get(result))
            node.input[0] = f"{source}/dequantized"
            writer.nodes.append(node)
            if result in channels:
                writer.channel_output(result, channels[result])
            else:
                writer.activation(result, ranges[result])
            quantized_by.add(result)
            continue
        mul = swish_of(node, readers)
        node.input[:] = [f"{name}/dequantized" if name in quantized_by else name for name in node.input]
        if mul is not None and node.input[0].endswith("/dequantized"):
            writer.quick_gelu(node, mul, shapes[mul.output[0]])
            fused.add(mul.output[0])
            continue
        _store(writer, node, codes.get(node.name), kept=node.name in plan.kept)
        if _is_between(node, readers, graph, plan):
            writer.keep_float(node)
    _note(writer, plan)
    if input_dtype is not IoDtype.FLOAT32:
        writer.integer_input(input_dtype)
    for result, kind, dtype in zip(tuple(graph.outputs), outputs, output_dtypes, strict=False):
        if dtype is not IoDtype.FLOAT32:
            limits = Range(0.0, 1.0) if kind is OutputKind.PROBABILITIES else ranges[result.name]
            writer.integer_output(result, dtype, limits)
    return writer.finish()


def _note(writer: Writer, plan: Placement) -> None:
    """Write into the metadata what a reader would take for a mistake."""
    if not plan.convolutions:
        writer.note(WEIGHTS_ONLY, "true")
    if plan.kept:
        writer.note(KEPT_FLOAT, ",".join(sorted({onnx_graph.layer_of(name) for name in plan.kept})))


def _store(writer: Writer, node: onnx.NodeProto, codes: NDArray[np.int8] | None, *, kept: bool) -> None:
    """Write a node that computes in float, its weights in fewer bits."""
    for index in weights(node, writer.graph):
        if kept:
            writer.store_float16(node, index, large_as_float32=True)
        else:
            writer.store_int8(node, index, codes)
    writer.nodes.append(node)


def _is_between(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], graph: OnnxGraph, plan: Placement
) -> bool:
    """Whether a convolution that computes in float reads a DequantizeLinear, and a QuantizeLinear reads it.

    ONNX Runtime looks through a ReLU, and quantizes the weights of such a one with one scale for all.
    """
    if node.op_type != "Conv" or not node.input[0].endswith("/dequantized"):
        return False
    clamp = onnx_graph.clamp_of(node, readers, graph)
    return (clamp[0] if clamp else node).output[0] in plan.tensors


def _absorb(node: onnx.NodeProto, clamp: onnx.NodeProto) -> str:
    """Let a convolution make what the ReLU or ReLU6 behind it makes; returns the tensor's name.

    The grid that follows ends where the function cuts off, so that rounding to it does the same.
    """
    result: str = clamp.output[0]
    node.output[0] = result
    return result


def _plain_gemm(node: onnx.NodeProto) -> bool:
    get = onnx_graph.attribute
    return (
        get(node, "alpha", 1.0) == 1.0
        and get(node, "beta", 1.0) == 1.0
        and get(node, "transA", 0) == 0
        and get(node, "transB", 0) == 0
    )


@dataclass
class _Quantization:
    """A model on its way to INT8: what the passes so far have found."""

    model: onnx.ModelProto
    graph: FrozenGraph
    scheme: QuantScheme
    calibration: ImageSet
    progress: Progress
    trained_ranges: ActivationRanges | None
    intensity: float | None
    plan: Placement = field(init=False)
    costly: frozenset[str] = frozenset()
    errors: Mapping[str, float] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    channels: Mapping[str, ChannelRanges] | None = None
    codes: Mapping[str, NDArray[np.int8]] | None = None

    def place(self) -> None:
        """Choose what runs in INT8, of what is not costly."""
        self.plan = placement.plan(
            self.model,
            keep_float=self.scheme.keep_float,
            costly=self.costly,
            intensity=self.intensity,
            hardware=self.scheme.hardware,
            measured=self.scheme.profile.onnx if self.scheme.profile else None,
        )

    def equalize(self) -> None:
        self.model, self.errors = equalize.equalize(
            self.model, self.plan, self.calibration, seed=self.scheme.seed, progress=self.progress
        )

    def spare(self) -> None:
        self.costly = placement.costly(self.model, self.plan, self.errors, effort=self.scheme.effort)

    def gates(self) -> None:
        """Split off the biases of convolutions with a range per image; what reads them has new names."""
        self.model = gates.split_biases(self.model, self.plan.dynamic - self.costly)
        self.place()

    def find_ranges(self) -> None:
        scheme, names = self.scheme, self.graph.output_names
        extra = tuple(
            name
            for name, kind, dtype in zip(
                names, self.graph.output_kinds, scheme.output_dtypes(names), strict=True
            )
            if kind is not OutputKind.PROBABILITIES and dtype is not IoDtype.FLOAT32
        )
        self.ranges = calibrate.ranges(
            self.model, self.plan, extra, self.calibration, self.progress, asked=scheme.ranges
        )
        if self.trained_ranges is not None:
            self.ranges |= _ranges_of_training(self.model, self.trained_ranges)

    def find_channels(self) -> None:
        self.channels = channels.ranges(
            self.model, self.plan, self.calibration, seed=self.scheme.seed, progress=self.progress
        )

    def round(self) -> None:
        self.codes = rounding.optimize(
            self.model, self.plan, self.calibration, seed=self.scheme.seed, progress=self.progress
        )

    def correct(self) -> None:
        self.model = bias.correct(
            self.model,
            self.plan,
            self.ranges,
            self.codes or {},
            calibration=self.calibration,
            progress=self.progress,
        )

    def quantize(self) -> None:
        with self.progress.task("quantizing to int8"):
            self.model = static(
                self.model,
                self.plan,
                self.ranges,
                input_dtype=self.scheme.io_dtype,
                output_dtypes=self.scheme.output_dtypes(self.graph.output_names),
                outputs=self.graph.output_kinds,
                codes=self.codes,
                channels=self.channels,
                unsigned=self.scheme.hardware.saturates_pairs,
            )


CARRIED_OUT: Mapping[str, Callable[[_Quantization], None]] = {
    passes.PLACE.name: _Quantization.place,
    passes.EQUALIZE.name: _Quantization.equalize,
    "spare": _Quantization.spare,
    passes.GATES.name: _Quantization.gates,
    passes.RANGES.name: _Quantization.find_ranges,
    passes.CHANNELS.name: _Quantization.find_channels,
    passes.GPTQ.name: _Quantization.round,
    passes.BIAS.name: _Quantization.correct,
    passes.QUANTIZE.name: _Quantization.quantize,
}


def int8_model(
    model: onnx.ModelProto,
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet,
    progress: Progress,
    *,
    trained_ranges: ActivationRanges | None = None,
    intensity: float | None = None,
) -> onnx.ModelProto:
    """Quantize a tidy float32 model by the passes of the scheme's effort (`passes.PASSES`).

    Args:
        model: From `convert.float_model`.
        graph: What it was made from.
        scheme: Ends, effort, layers kept in float, hardware.
        calibration: Images for the activation ranges.
        progress: Told of each pass over the images.
        trained_ranges: What a training found. Weights that were trained with them are rounded to the nearest
            level, whatever the effort.
        intensity: See `placement.plan`.

    Raises:
        ConversionError: Nothing is left for INT8, or the float model overflows on an image.
    """
    work = _Quantization(model, graph, scheme, calibration, progress, trained_ranges, intensity)
    conditions = conditions_of(scheme, trained=trained_ranges is not None)
    for one in selected(passes.PASSES[Precision.INT8][scheme.effort], conditions):
        CARRIED_OUT[one.name](work)
    return work.model


def _ranges_of_training(model: onnx.ModelProto, trained_ranges: ActivationRanges) -> dict[str, Range]:
    """Return the trained ranges by tensor."""
    # What a layer computes on its way, such as the transposed image, is not what was trained.
    outputs = {onnx_graph.layer_of(result): result for node in model.graph.node for result in node.output}
    return {outputs[layer]: Range(*span) for layer, span in trained_ranges.items() if layer in outputs}
