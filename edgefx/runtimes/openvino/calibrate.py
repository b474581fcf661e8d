"""What the calibration images produce inside an OpenVINO model, channel by channel.

Most reductions are part of the model that runs, so that only a few numbers per channel leave it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.protocols import Task
from edgefx.quantize import questions as asking
from edgefx.quantize.questions import Question, Values
from edgefx.quantize.ranges import Consumer, Range, RangeCollector, RangeMethod
from edgefx.runtimes.openvino.core import core
from edgefx.system.host import cores
from edgefx.types import ImageSet

if TYPE_CHECKING:
    from edgefx.runtimes.openvino.placement import Site

FloatArray = NDArray[np.float64]
_Key = TypeVar("_Key")
_SMALLEST_RANGE = 1e-3  # of what is zero on all calibration images


@dataclass(frozen=True)
class Grid:
    """The 256 levels of an activation.

    Attributes:
        low: Value of the lowest level.
        high: Value of the highest level. Zero is always a level: padding is zero.
    """

    low: float
    high: float

    @classmethod
    def chosen(cls, seen: Seen, *, towards: float, lowest: float = -math.inf) -> Grid:
        """Choose the levels of a tensor.

        Its range spans the mean over the images of each image's extremes, and more: single values of single
        images would coarsen all others.

        Args:
            seen: The tensor's values.
            towards: How far the range reaches from the mean extremes (0) towards those of all images (1).
            lowest: Value that the tensor cannot go below.
        """
        lows, highs = seen.low.min(axis=1), seen.high.max(axis=1)  # [images]
        low = float(lows.mean() + towards * (lows.min() - lows.mean()))
        high = float(highs.mean() + towards * (highs.max() - highs.mean()))
        return cls.of(Range(max(low, lowest), high))

    @classmethod
    def of(cls, found: Range) -> Grid:
        """Return the levels that span a range and zero."""
        return cls.spanning(min(found.low, 0.0), max(found.high, _SMALLEST_RANGE))

    @classmethod
    def spanning(cls, low: float, high: float) -> Grid:
        """Return the grid nearest to [low <= 0, high > 0] that has zero among its levels."""
        step = (high - low) / 255
        zero_point = round(-low / step)
        return cls(-zero_point * step, (255 - zero_point) * step)

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `values` rounded to the levels."""
        step = np.float32((self.high - self.low) / 255)
        lowest = np.float32(round(self.low / float(step)))
        return np.clip(np.round(values / step), lowest, lowest + 255) * step

    def quantize(self, value: Any) -> Any:
        """Return a FakeQuantize operation on `value`, an output."""
        from openvino import opset13 as ops

        shape = [1] * len(value.get_shape())
        low, high = (ops.constant(np.full(shape, end, np.float32)) for end in (self.low, self.high))
        return ops.fake_quantize(value, low, high, low, high, 256)


@dataclass(frozen=True)
class Seen:
    """Values of one tensor over the calibration images.

    Attributes:
        low: Smallest value of each image and channel, [images, channels].
        high: Largest value, likewise.
        mean: Mean of each channel, [channels].
    """

    low: FloatArray
    high: FloatArray
    mean: FloatArray


def ranges(
    model: Any, sites: Sequence[Site], images: ImageSet, method: RangeMethod, task: Task
) -> dict[str, Range]:
    """Choose the range of what is quantized by a method that all runtimes share, by name of the source.

    What convolutions and sums put out is linear; an error of what one convolution alone reads counts as much
    as the squared norm of the weights that read the channel.

    Raises:
        ConversionError: A value is not finite.
    """
    named = {operation.get_friendly_name(): operation for operation in model.get_ordered_ops()}
    consumers, weights = {}, {}
    for site in sites:
        linear = named[site.source].get_type_name() == "Add"
        consumers[site.source] = Consumer.LINEAR if linear else Consumer.GENERIC
        readers = [named[name] for name, _ in site.consumers]
        if len(readers) == 1 and readers[0].get_type_name() == "Convolution":
            kernel = np.asarray(readers[0].input_value(1).get_node().data, np.float32)
            weights[site.source] = np.square(kernel).sum(axis=(0, 2, 3))[:, None, None]
    collector = RangeCollector(consumers, methods=(method,), weights=weights)
    ask(model, [collector], images, task)
    return collector.ranges(method)


def ask(model: Any, questions: Sequence[Question[Any, Any]], images: ImageSet, task: Task) -> None:
    """Answer questions to a float model in one pass; tensors have the names of the operations behind them.

    Args:
        model: Float; it is not changed.
        questions: What is asked; `InGraph` of what the graph itself is to make of its tensors.
        images: Of the model's size.
        task: Counts the images.
    """
    probe = model.clone()
    named = {operation.get_friendly_name(): operation for operation in probe.get_ordered_ops()}
    outputs: dict[str, Any] = {}
    for question in questions:
        if isinstance(question, InGraph):
            outputs |= question.outputs(named)
        else:
            outputs |= {name: named[name].output(0) for name in question.names}
    if not outputs:
        return
    probe.add_outputs(list(outputs.values()))
    # What is an output of the model already is not added again.
    results = [_port(result.input_value(0)) for result in probe.get_results()]
    places = [results.index(_port(port)) for port in outputs.values()]
    streams = min(cores(), len(images))
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": cores(),
    }
    compiled = core().compile_model(probe, "CPU", config)
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())

    def run(image: NDArray[np.uint8], keep: Callable[[Values], list[Any]]) -> list[Any]:
        request = idle.get()
        try:
            request.infer([image[None].astype(np.float32)])
            found = [request.get_output_tensor(place).data for place in places]
            return keep(dict(zip(outputs, found, strict=True)))
        finally:
            idle.put(request)

    asking.ask(questions, images.pixels, run, task=task, workers=streams)


def _port(value: Any) -> tuple[str, int]:
    return value.get_node().get_friendly_name(), value.get_index()


class InGraph(Generic[_Key]):
    """What operations make of tensors in the graph that is run; see `questions.Question`.

    Args:
        label: Unlike those of the other questions of the pass.
        wanted: By key, the operation whose output is looked at, and what adds the operations.

    Attributes:
        rows: Of each image, what was made.
    """

    def __init__(self, label: str, wanted: Mapping[_Key, tuple[str, Callable[[Any], list[Any]]]]) -> None:
        self.rows: dict[_Key, list[list[FloatArray]]] = {key: [] for key in wanted}
        self._label = label
        self._wanted = wanted
        self._made: dict[_Key, list[str]] = {}

    @property
    def names(self) -> list[str]:
        """The outputs that `outputs` has added."""
        return [name for names in self._made.values() for name in names]

    def outputs(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Add the operations to a graph, given its own by name; return what they put out."""
        outputs: dict[str, Any] = {}
        for number, (key, (name, make)) in enumerate(self._wanted.items()):
            made = {
                f"{self._label}:{number}:{place}": operation.output(0)
                for place, operation in enumerate(make(named[name].output(0)))
            }
            self._made[key] = list(made)
            outputs |= made
        return outputs

    def told(self) -> Iterator[None]:
        """Tell nothing."""
        return itertools.repeat(None)

    def keep(self, told: None, values: Values) -> dict[_Key, list[FloatArray]]:
        """Copy what was made."""
        del told
        return {key: [values[name].astype(np.float64) for name in names] for key, names in self._made.items()}

    def add(self, kept: dict[_Key, list[FloatArray]]) -> None:
        """Add one image's."""
        for key, made in kept.items():
            self.rows[key].append(made)

    def stacked(self) -> dict[_Key, list[FloatArray]]:
        """Return what was made of all images, [images, ...] each."""
        return {key: [np.stack(part) for part in zip(*row, strict=True)] for key, row in self.rows.items()}


class Observing(InGraph[str]):
    """What the operations named in `sources` compute."""

    def __init__(self, sources: Sequence[str]) -> None:
        from openvino import opset13 as ops

        def outputs(value: Any) -> list[Any]:
            kinds = (ops.reduce_min, ops.reduce_max, ops.reduce_mean)
            return [reduce(value, _others(value), False) for reduce in kinds]

        super().__init__("seen", {name: (name, outputs) for name in sources})

    def seen(self) -> dict[str, Seen]:
        """Return it.

        Raises:
            ConversionError: A value is not finite.
        """
        seen = {}
        for name, (low, high, mean) in self.stacked().items():
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ConversionError(
                    f"the values of '{name}' are not finite for a calibration image",
                    hint="the float model itself overflows; check its weights and preprocessing",
                )
            seen[name] = Seen(low=low, high=high, mean=mean.mean(axis=0))
        return seen


class Sampling(InGraph[str]):
    """Values at some positions of maps [1, C, H, W].

    Args:
        sources: Names of the operations that make the maps.
        count: Positions of each map; all of a smaller one. They are the same for all images.
        seed: Chooses them.
    """

    def __init__(self, sources: Sequence[str], *, count: int, seed: int) -> None:
        from openvino import opset13 as ops

        generator = np.random.default_rng(seed)

        def outputs(value: Any) -> list[Any]:
            channels, height, width = list(value.get_shape())[1:]
            chosen = np.sort(generator.permutation(height * width)[:count])
            flat = ops.reshape(value, ops.constant(np.array([channels, height * width], np.int64)), False)
            return [ops.gather(flat, ops.constant(chosen), ops.constant(1))]

        super().__init__("sampled", {name: (name, outputs) for name in sources})

    def samples(self) -> dict[str, NDArray[np.float32]]:
        """Return them by name, [images, positions, C] each."""
        return {
            name: picked.transpose(0, 2, 1).astype(np.float32) for name, (picked,) in self.stacked().items()
        }


class QuantizedMeans(InGraph["Site"]):
    """The mean of each channel after quantization, in the float model."""

    def __init__(self, grids: Mapping[Site, Grid]) -> None:
        from openvino import opset13 as ops

        def outputs(grid: Grid) -> Callable[[Any], list[Any]]:
            return lambda value: [ops.reduce_mean(grid.quantize(value), _others(value), False)]

        super().__init__("shifted", {site: (site.source, outputs(grid)) for site, grid in grids.items()})

    def means(self) -> dict[Site, FloatArray]:
        """Return them, [channels] each."""
        return {site: mean.mean(axis=0) for site, (mean,) in self.stacked().items()}


def _others(value: Any) -> Any:
    """All axes but the channels'."""
    from openvino import opset13 as ops

    return ops.constant(np.array([k for k in range(len(value.get_shape())) if k != 1], np.int64))
