"""What the calibration images produce inside an OpenVINO model, channel by channel.

The reductions are part of the model that runs, so that only a few numbers per channel leave it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.protocols import Task
from edgefx.quantize import questions as asking
from edgefx.quantize.questions import Question
from edgefx.quantize.ranges import Consumer, Range, RangeCollector, RangeMethod
from edgefx.runtimes.openvino.core import core
from edgefx.system.host import cores
from edgefx.system.parallel import ordered
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


def observe(model: Any, sources: Sequence[str], images: ImageSet, task: Task) -> dict[str, Seen]:
    """Run the float model over the images; returns what the operations named in `sources` computed.

    Raises:
        ConversionError: A value is not finite.
    """
    from openvino import opset13 as ops

    def outputs(value: Any) -> list[Any]:
        kinds = (ops.reduce_min, ops.reduce_max, ops.reduce_mean)
        return [reduce(value, _others(value), False) for reduce in kinds]

    found = _run(model, {name: (name, outputs) for name in sources}, images, task)
    seen = {}
    for name, (low, high, mean) in found.items():
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ConversionError(
                f"the values of '{name}' are not finite for a calibration image",
                hint="the float model itself overflows; check its weights and preprocessing",
            )
        seen[name] = Seen(low=low, high=high, mean=mean.mean(axis=0))
    return seen


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


def quantized_means(
    model: Any, grids: Mapping[Site, Grid], images: ImageSet, task: Task
) -> dict[Site, FloatArray]:
    """Return the mean of each channel [channels] after quantization, in the float model."""
    from openvino import opset13 as ops

    def outputs(grid: Grid) -> Callable[[Any], list[Any]]:
        return lambda value: [ops.reduce_mean(grid.quantize(value), _others(value), False)]

    wanted = {site: (site.source, outputs(grid)) for site, grid in grids.items()}
    return {site: mean.mean(axis=0) for site, (mean,) in _run(model, wanted, images, task).items()}


def positions(
    model: Any, sources: Sequence[str], images: ImageSet, *, count: int, seed: int, task: Task
) -> dict[str, NDArray[np.float32]]:
    """Return values at some positions of maps [1, C, H, W], by name; [images, positions, C] each.

    Args:
        model: Float.
        sources: Names of operations.
        images: Of the model's size.
        count: Positions of each map; all of a smaller one. They are the same for all images.
        seed: Chooses them.
        task: Counts the images.
    """
    from openvino import opset13 as ops

    generator = np.random.default_rng(seed)

    def outputs(value: Any) -> list[Any]:
        channels, height, width = list(value.get_shape())[1:]
        chosen = np.sort(generator.permutation(height * width)[:count])
        flat = ops.reshape(value, ops.constant(np.array([channels, height * width], np.int64)), False)
        return [ops.gather(flat, ops.constant(chosen), ops.constant(1))]

    found = _run(model, {name: (name, outputs) for name in sources}, images, task)
    return {name: picked.transpose(0, 2, 1).astype(np.float32) for name, (picked,) in found.items()}


def ask(model: Any, questions: Sequence[Question[Any, Any]], images: ImageSet, task: Task) -> None:
    """Answer questions to a float model in one pass; tensors have the names of the operations behind them."""
    names = asking.names_of(questions)
    probe = model.clone()
    named = {operation.get_friendly_name(): operation for operation in probe.get_ordered_ops()}
    probe.add_outputs([named[name].output(0) for name in names])
    run, streams = _runner(probe, images)

    def infer(image: NDArray[np.uint8], keep: Callable[[asking.Values], list[Any]]) -> list[Any]:
        return run(image, lambda values: keep(dict(zip(names, values, strict=True))))

    asking.ask(questions, images.pixels, infer, task=task, workers=streams)


def added_outputs(model: Any, images: ImageSet) -> Iterator[list[NDArray[np.float32]]]:
    """Run a model; yield each image's outputs but the first."""
    run, streams = _runner(model, images)

    def infer(image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return run(image, lambda values: [value.copy() for value in values])

    return ordered(infer, images.pixels, workers=streams)


def _runner(
    model: Any, images: ImageSet
) -> tuple[Callable[[NDArray[np.uint8], Callable[[list[NDArray[np.float32]]], list[Any]]], list[Any]], int]:
    """Return what runs a model in float32 on one image, and how many of them at a time.

    It takes the image and what is made of views of all outputs but the first, and returns that.
    """
    streams = min(cores(), len(images))
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": cores(),
    }
    compiled = core().compile_model(model, "CPU", config)
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())

    def run(image: NDArray[np.uint8], made: Callable[[list[NDArray[np.float32]]], list[Any]]) -> list[Any]:
        request = idle.get()
        try:
            request.infer([image[None].astype(np.float32)])
            return made([request.get_output_tensor(k).data for k in range(1, len(model.outputs))])
        finally:
            idle.put(request)

    return run, streams


def _others(value: Any) -> Any:
    """All axes but the channels'."""
    from openvino import opset13 as ops

    return ops.constant(np.array([k for k in range(len(value.get_shape())) if k != 1], np.int64))


def _run(
    model: Any, wanted: Mapping[_Key, tuple[str, Callable[[Any], list[Any]]]], images: ImageSet, task: Task
) -> dict[_Key, list[FloatArray]]:
    """Run `model` with further outputs: what to make of named operations; [images, ...] each."""
    probe = model.clone()
    named = {operation.get_friendly_name(): operation for operation in probe.get_ordered_ops()}
    slots: dict[_Key, range] = {}
    extra: list[Any] = []
    for key, (name, make) in wanted.items():
        made = make(named[name].output(0))
        slots[key] = range(len(extra), len(extra) + len(made))
        extra += [operation.output(0) for operation in made]
    if not extra:
        return {}
    probe.add_outputs(extra)
    rows: dict[_Key, list[list[FloatArray]]] = {key: [] for key in wanted}
    for values in added_outputs(probe, images):
        for key, places in slots.items():
            rows[key].append([values[k].astype(np.float64) for k in places])
        task.advance()
    return {key: [np.stack(part) for part in zip(*row, strict=True)] for key, row in rows.items()}
