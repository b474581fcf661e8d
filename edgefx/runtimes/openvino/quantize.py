"""INT8 for OpenVINO, and integer ends.

Placement, ranges, rounding and bias are edgefx's own. Against NNCF with its defaults, mean KL to the float
model on images that did not calibrate is ten times smaller or more (EfficientNet-B0, V2-B0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from edgefx.protocols import Progress, Task
from edgefx.quantization import ActivationRanges, QuantScheme
from edgefx.quantize import gptq
from edgefx.quantize.questions import Question
from edgefx.quantize.ranges import RangeMethod
from edgefx.runtimes.openvino import artifact, calibrate, equalize, passes, placement
from edgefx.runtimes.openvino import rounding as openvino_rounding
from edgefx.runtimes.openvino import weights as openvino_weights
from edgefx.runtimes.openvino.calibrate import Grid, Seen
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.openvino.placement import Site
from edgefx.runtimes.passes import conditions_of, selected
from edgefx.types import FrozenGraph, ImageSet, IoDtype, OutputKind, Precision, Ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

# tuned: ablations openvino.quantize.TOWARDS_EXTREMES
_TOWARDS_EXTREMES = 0.4  # see `Grid.chosen`; 0.25 to 0.6 are equally good, 0 and 1 lose twice as much
_SWISH_MINIMUM = -0.27846455  # of x * sigmoid(x), at x = -1.2785


@dataclass
class _Quantization:
    """A model on its way to INT8: what the passes so far have found."""

    model: Any  # an openvino.Model, changed in place
    scheme: QuantScheme
    calibration: ImageSet
    progress: Progress
    trained_ranges: ActivationRanges  # ranges that a training found, by layer
    large: frozenset[str] = frozenset()
    sites: tuple[Site, ...] = ()
    readers: frozenset[str] = frozenset()  # of quantized values, before any product is left in float
    weighted: list[Any] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)  # by weighted operation: the source of its data
    seen: dict[str, Seen] = field(default_factory=dict)
    towards: Mapping[str, float] = field(default_factory=dict)
    grids: dict[Site, Grid] = field(default_factory=dict)
    asked: list[Question[Any, Any]] = field(default_factory=list)  # that wait until an answer is needed
    observing: calibrate.Observing = field(init=False)
    shifted: calibrate.QuantizedMeans = field(init=False)
    correlating: openvino_rounding.Correlating | None = None

    def place(self) -> None:
        kept, hardware, profile = self.scheme.keep_float, self.scheme.hardware, self.scheme.profile
        in_float = frozenset[str]()
        if profile is not None and profile.openvino is not None:
            in_float = placement.without_gain(self.model, profile.openvino)
        else:
            in_float = self.large = placement.large(self.model, keep_float=kept, hardware=hardware)
        if self.large:
            self.progress.note(
                f"openvino-int8: large maps stay in float, which {hardware} runs faster; for other CPUs "
                "name theirs with --hardware"
            )
        self.sites = placement.find(self.model, keep_float=kept, in_float=in_float)
        self.readers = frozenset(consumer for site in self.sites for consumer, _ in site.consumers)
        self.weighted = [
            operation
            for operation in placement.weighted(self.model)
            if placement.layer_of(operation) not in kept
            and not placement.reads_image(operation)  # few weights, and worth their full precision
        ]
        self.read = {operation.get_friendly_name(): _source(operation) for operation in self.weighted}

    def collect_statistics(self) -> None:
        sources = list(dict.fromkeys([*(site.source for site in self.sites), *self.read.values()]))
        self.observing = calibrate.Observing(sources)
        self.asked.append(self.observing)

    def equalize(self) -> None:
        gates = equalize.gates(
            self.model, self.observing.rows, readers=self.readers, images=len(self.calibration)
        )
        sampling = equalize.sampling(gates, seed=self.scheme.seed)
        self.asked.append(sampling)
        self._ask()
        with self.progress.task("balancing channels for OpenVINO", len(gates)) as task:
            self.towards, costly = equalize.balance(
                self.model, gates, self.seen, sampling.samples(), hardware=self.scheme.hardware, task=task
            )
        self.sites = tuple(site for site in self.sites if site.source not in costly)

    def find_ranges(self) -> None:
        self._ask()
        named = _by_name(self.model)
        if self.scheme.ranges is Ranges.AUTO:
            self.grids = {
                site: Grid.chosen(
                    self.seen[site.source],
                    towards=self.towards.get(site.source, _TOWARDS_EXTREMES),
                    lowest=_SWISH_MINIMUM if named[site.source].get_type_name() == "Swish" else -math.inf,
                )
                for site in self.sites
            }
        else:
            method = RangeMethod(self.scheme.ranges)
            with self._images("finding ranges") as task:
                ranges = calibrate.ranges(self.model, self.sites, self.calibration, method, task)
            self.grids = {site: Grid.of(ranges[site.source]) for site in self.sites}
        for site in self.sites:
            span = self.trained_ranges.get(placement.layer_of(named[site.source]))
            if span is not None:
                self.grids[site] = Grid.spanning(*span)

    def measure_means(self) -> None:
        self.shifted = calibrate.QuantizedMeans(self.grids)
        self.asked.append(self.shifted)

    def collect_moments(self) -> None:
        rounded = [
            operation
            for operation in self.weighted
            if operation.get_type_name() == "Convolution"
            and operation.get_friendly_name() in self.readers
            and not any(step != 1 for step in operation.get_attributes()["dilations"])
        ]
        self.correlating = openvino_rounding.Correlating(rounded, seed=self.scheme.seed)
        self.asked.append(self.correlating)

    def _ask(self) -> None:
        """Ask in one pass what waits for an answer."""
        if self.asked:
            with self._images("looking at activations") as task:
                calibrate.ask(self.model, self.asked, self.calibration, task)
            self.asked.clear()
        if not self.seen:
            self.seen = self.observing.seen()

    def quantize(self) -> None:
        self._ask()
        means = self.shifted.means()
        after = {consumer: mean for site, mean in means.items() for consumer, _ in site.consumers}
        _quantize_activations(self.model, self.grids)  # first: a new bias stands before what is quantized
        integer = {consumer for site in self.sites for consumer, _ in site.consumers}
        with self.progress.task("rounding weights for OpenVINO", len(self.weighted)) as task:
            for operation in self.weighted:
                name = operation.get_friendly_name()
                before = self.seen[self.read[name]].mean
                if placement.is_depthwise(operation) or name in self.large:
                    # These weights are few. Sums of 9 or 25 products do not even out rounding errors: against
                    # INT8 for depthwise ones, the logits' squared error falls by a fifth (B0), for 1 to 4 %
                    # of the file.
                    openvino_weights.store_as_half(operation)
                else:
                    moments = self.correlating.moments(name) if self.correlating else None
                    _quantize_weights(
                        operation,
                        before,
                        after.get(name, before),
                        moments,
                        narrow=self.scheme.hardware.saturates_pairs,
                        # Others' bytes stay as they are until it is measured what they gain.
                        at_once=self.scheme.profile is not None and name not in integer,
                    )
                task.advance()
        self.model.validate_nodes_and_infer_types()

    def _images(self, label: str) -> AbstractContextManager[Task]:
        """Show a pass through the calibration images."""
        return self.progress.task(f"{label} for OpenVINO", len(self.calibration))


CARRIED_OUT: Mapping[str, Callable[[_Quantization], None]] = {
    passes.PLACE.name: _Quantization.place,
    passes.STATISTICS.name: _Quantization.collect_statistics,
    passes.EQUALIZE.name: _Quantization.equalize,
    passes.RANGES.name: _Quantization.find_ranges,
    passes.MEANS.name: _Quantization.measure_means,
    passes.GPTQ.name: _Quantization.collect_moments,
    passes.QUANTIZE.name: _Quantization.quantize,
}


def quantize(
    model: Any,
    calibration: ImageSet,
    scheme: QuantScheme,
    progress: Progress,
    *,
    trained_ranges: ActivationRanges | None = None,
) -> Any:
    """Quantize a model to INT8 by the passes of the scheme's effort (`passes.PASSES`).

    Args:
        model: Float, an ``openvino.Model``; its input is ``image``, float32 [1, H, W, 3]. It is not changed.
        calibration: Images for ranges, bias and rounding.
        scheme: Layers to keep in float, effort, ranges, hardware.
        progress: Counts images, in each pass over them.
        trained_ranges: What a training found. Weights that were trained with them are rounded to the nearest
            level, whatever the effort.

    Raises:
        ConversionError: The float model overflows on a calibration image.
    """
    work = _Quantization(model.clone(), scheme, calibration, progress, trained_ranges or {})
    conditions = conditions_of(scheme, trained=trained_ranges is not None)
    for one in selected(passes.PASSES[Precision.INT8][scheme.effort], conditions):
        CARRIED_OUT[one.name](work)
    return work.model


def weight_int8(model: Any) -> None:
    """Store weights as INT8 per channel, unpacked when the model is opened; the model is changed in place.

    As in INT8 models, those of depthwise convolutions are float16 and those that read the image stay.
    """
    for operation in placement.weighted(model):
        if placement.is_depthwise(operation):
            openvino_weights.store_as_half(operation)
        elif not placement.reads_image(operation):
            weights = openvino_weights.read(operation)
            steps = openvino_weights.scales(weights, groups=operation.get_type_name() == "GroupConvolution")
            codes = openvino_weights.to_nearest(weights, steps)
            openvino_weights.store(operation, codes, steps, at_once=True)
    model.validate_nodes_and_infer_types()


def _quantize_activations(model: Any, grids: Mapping[Site, Grid]) -> None:
    """Put a FakeQuantize before the consumers of each site.

    Args:
        model: Changed in place.
        grids: By site of this model.
    """
    named = _by_name(model)
    for site, grid in grids.items():
        fake = grid.quantize(named[site.source].output(0))
        fake.set_friendly_name(f"{site.source}/fake_quantize")
        for consumer, index in site.consumers:
            named[consumer].input(index).replace_source_output(fake.output(0))
    model.validate_nodes_and_infer_types()


def _by_name(model: Any) -> dict[str, Any]:
    return {operation.get_friendly_name(): operation for operation in model.get_ordered_ops()}


def _source(operation: Any) -> str:
    return str(operation.input_value(0).get_node().get_friendly_name())


def _quantize_weights(
    operation: Any,
    mean: NDArray[np.float64],
    quantized_mean: NDArray[np.float64],
    moments: NDArray[np.float64] | None,
    *,
    narrow: bool,
    at_once: bool,
) -> None:
    """Store INT8 weights, and correct the bias for them and for the inputs' quantization.

    Args:
        operation: Changed in place, with the bias behind it.
        mean: Of each channel it reads.
        quantized_mean: Of each channel it reads, after quantization.
        moments: Covariance of what its weights are multiplied with; None rounds to the nearest level.
        narrow: See `weights.scales`.
        at_once: See `weights.store`.
    """
    groups = operation.get_type_name() == "GroupConvolution"
    weights = openvino_weights.read(operation)
    steps = openvino_weights.scales(weights, groups=groups, narrow=narrow)
    if moments is None:
        codes = openvino_weights.to_nearest(weights, steps)
    else:
        rows = len(weights)
        codes = gptq.rounded(weights.reshape(rows, -1), steps.reshape(-1), moments).reshape(weights.shape)
    openvino_weights.store(operation, codes, steps, at_once=at_once)
    if operation.get_type_name() == "MatMul" and len(operation.get_input_shape(0)) > 2:
        return  # of tokens or of a map: channels come last there, and the means are those of the second axis
    amount = openvino_weights.shift(weights, codes * steps, mean, quantized_mean, groups=groups)
    openvino_weights.add_to_bias(operation, amount)


def set_input_dtype(model: Any, dtype: IoDtype) -> None:
    """Make the input raw pixels (``UINT8``) or pixels - 128 (``INT8``); the model is changed in place."""
    from openvino import opset13 as ops

    element, lowest = _integers(dtype)
    old = model.get_parameters()[0]
    image = ops.parameter(old.get_partial_shape(), element)
    pixels = ops.convert(image, ov.Type.f32)
    if lowest:
        pixels = ops.subtract(pixels, np.float32(lowest))
    names = old.output(0).get_names()
    image.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(pixels.output(0))
    model.remove_parameter(old)
    model.add_parameters([image])
    image.output(0).set_names(names)
    model.validate_nodes_and_infer_types()


def set_output_dtype(
    model: Any,
    dtype: IoDtype,
    *,
    output: OutputKind,
    scores: NDArray[np.float32] | None,
    place: int = 0,
) -> tuple[float, int]:
    """Make an output integers; returns its scale and zero point.

    Probabilities have the scale 1/255; logits get theirs from `scores`.

    Args:
        model: Changed in place.
        dtype: ``UINT8`` or ``INT8``.
        output: What the output means.
        scores: Float outputs on the calibration images [N, classes]; used for logits only.
        place: Which of the model's outputs it is.
    """
    from openvino import opset13 as ops

    element, lowest = _integers(dtype)
    low, high = 0.0, 1.0
    if output is not OutputKind.PROBABILITIES:
        assert scores is not None
        low, high = min(0.0, float(scores.min())), max(0.0, float(scores.max()))
    scale = float(np.float32((high - low) / 255 or 1.0))
    zero_point = round(lowest - low / scale)
    result = model.get_results()[place]
    float_output = result.input_value(0)
    names = float_output.get_names()
    float_output.set_names(set())
    scaled = ops.add(ops.multiply(float_output, np.float32(1 / scale)), np.float32(zero_point))
    clipped = ops.clamp(ops.round(scaled, "half_to_even"), float(lowest), float(lowest + 255))
    stored = ops.convert(clipped, element)
    stored.output(0).set_names(names)
    result.input(0).replace_source_output(stored.output(0))
    model.validate_nodes_and_infer_types()
    return scale, zero_point


def _integers(dtype: IoDtype) -> tuple[Any, int]:
    """Return OpenVINO's type and its lowest value."""
    return (ov.Type.u8, 0) if dtype is IoDtype.UINT8 else (ov.Type.i8, -128)


def int8_model(
    model: Any,
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet,
    progress: Progress,
    *,
    trained_ranges: ActivationRanges | None,
) -> Any:
    """Quantize a float model and give it the ends that were asked for."""
    model = quantize(model, calibration, scheme, progress, trained_ranges=trained_ranges)
    dtypes = scheme.output_dtypes(graph.output_names)
    integers = [
        (place, kind, dtype)
        for place, (kind, dtype) in enumerate(zip(graph.output_kinds, dtypes, strict=True))
        if dtype is not IoDtype.FLOAT32
    ]
    scores = None
    if any(kind is not OutputKind.PROBABILITIES for _, kind, _ in integers):
        scores = _scores(model, calibration)
    if scheme.io_dtype is not IoDtype.FLOAT32:
        set_input_dtype(model, scheme.io_dtype)
    for place, kind, dtype in integers:
        scale, zero_point = set_output_dtype(
            model, dtype, output=kind, scores=scores[place] if scores else None, place=place
        )
        artifact.set_quantization(model, place, scale=scale, zero_point=zero_point)
    return model


def _scores(model: Any, images: ImageSet) -> list[NDArray[np.float32]]:
    """Return the outputs, each [N, ...], of a model that is not yet written."""
    # In float32 whatever this CPU offers: an artifact does not depend on the machine that makes it.
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(model, "CPU", config)
    found: list[list[Any]] = [[] for _ in model.outputs]
    for image in images.pixels:
        answers = compiled([image[None].astype(np.float32)])
        for place, rows in enumerate(found):
            rows.append(answers[place][0].copy())
    return [np.asarray(rows, np.float32) for rows in found]
