"""Bias correction of an INT8 ``.tflite``, layer by layer on the integer kernels.

Rounding and clipping shift the mean of a channel, and the next layer sums such shifts up. Each layer's bias
is therefore moved by the difference between the float graph's channel means and those that the integer graph
really produces, with all layers before it corrected already (Nagel et al., "Data-free quantization through
weight equalization and bias correction", 2019, section 4.2, with measured means). Two things differ:

- The float values are clipped to what the integer tensor can represent: a bias must not make up for that.
- A mean over few images is uncertain. Of each shift only that part is applied which its standard error over
  the images leaves (positive-part shrinkage after James and Stein, "Estimation with quadratic loss", 1961).

Convolutions of maps are corrected. Those of pooled vectors (squeeze-and-excitation) are not: measured, it
costs 2 to 9 dB of signal to noise at the logits; one value per image is too few to tell a shift from chance.

The integer graph is run in segments, from one layer to the next, with the activations between them kept:
together they cost about two passes over the images instead of one pass per layer.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.questions import Values
from edgefx.runtimes.readback import as_stored
from edgefx.runtimes.tflite import flatbuffer, segments

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgefx.types import Pixels

    FloatArray = NDArray[np.float64]

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D")
# tuned: ablations tflite.bias.IMAGES
_IMAGES = 50  # more change the corrections by less than what is shrunk away
_MEMORY_BYTES = 256_000_000  # for the activations kept between two segments; else fewer images
# tuned: ablations tflite.bias.DOUBT
_DOUBT = 4.0  # squared standard errors that are subtracted from a squared shift: two standard errors count
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class _Layer:
    """A convolution of the integer graph: its place, and its output's grid."""

    position: int
    op: OperatorT
    name: str  # of the output tensor, the same in the float graph
    scale: float
    zero_point: int

    def clip(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = ((code - self.zero_point) * self.scale for code in (-128, 127))
        return np.clip(values, low, high)


def correct(float_model: ModelT, model: ModelT, images: Pixels, progress: Progress) -> None:
    """Correct the biases of the integer graph `model` in place.

    Args:
        float_model: The graph that `model` was quantized from.
        model: The integer graph; some layers may compute in float. Where its input is int8, it stores
            a pixel p as p - 128.
        images: Calibration images of the graph's size, uint8 [N, H, W, 3].
        progress: Advanced once per layer.
    """
    layers = _layers(model)
    sample = _sample(model, images)
    wanted = _float_means(float_model, layers, sample, progress)
    image = int(model.subgraphs[0].inputs[0])
    stored = as_stored(sample, flatbuffer.dtype_name(model.subgraphs[0].tensors[image]))
    kept: dict[int, NDArray[Any]] = {image: stored}
    with progress.task("correcting biases", total=len(layers)) as task:
        start = 0
        for layer in layers:
            codes, kept = _run_segment(model, start, layer, kept)
            add_to(model, layer.op, _certain(wanted[layer.name] - (codes - layer.zero_point) * layer.scale))
            start = layer.position  # it runs again, corrected, as the head of the next segment
            task.advance()


def _certain(shifts: FloatArray) -> FloatArray:
    """Return the part of the mean shift per channel that is no chance; `shifts` is [images, channels]."""
    mean: FloatArray = shifts.mean(axis=0)
    if len(shifts) < 2:
        return mean
    doubt = _DOUBT * shifts.var(axis=0, ddof=1) / len(shifts)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(mean != 0, 1 - doubt / np.square(mean), 0.0)
    return np.asarray(mean * np.maximum(share, 0.0))


def _layers(model: ModelT) -> list[_Layer]:
    graph = model.subgraphs[0]
    layers = []
    for position, op in enumerate(graph.operators):
        if flatbuffer.op_name(model, op) not in _WEIGHTED or len(op.inputs) < 3 or op.inputs[2] < 0:
            continue
        output = graph.tensors[op.outputs[0]]
        grid = flatbuffer.quantization_of(output)
        is_map = max(flatbuffer.shape_of(output)[1:3]) > 1
        if is_map and grid is not None and flatbuffer.dtype_name(output) == "int8":
            layers.append(_Layer(position, op, output.name.decode(), *grid))
    return layers


def _sample(model: ModelT, images: Pixels) -> Pixels:
    """Return as many images, evenly spread over the set, as the memory for activations allows."""
    largest = max(int(np.prod(flatbuffer.shape_of(t))) for t in model.subgraphs[0].tensors)
    # Four maps are alive at once where a block's input waits for its sum.
    count = max(1, min(len(images), _IMAGES, _MEMORY_BYTES // max(4 * largest, 1)))
    return np.asarray(images[np.linspace(0, len(images) - 1, count).round().astype(int)])


def _float_means(
    model: ModelT, layers: Sequence[_Layer], images: Pixels, progress: Progress
) -> dict[str, FloatArray]:
    """Return each layer's channel means in the float graph, clipped to its grid: [images, channels]."""
    means = _Means({layer.name: layer for layer in layers})
    with progress.task("measuring means", len(images)) as task:
        segments.ask(model, [means], images, task=task)
    return {name: np.stack(values) for name, values in means.found.items()}


@dataclass(frozen=True)
class _Means:
    """The channel means of layers' outputs, clipped to their grids; see `questions.Question`."""

    layers: Mapping[str, _Layer]
    found: dict[str, list[FloatArray]] = field(default_factory=lambda: defaultdict(list))

    @property
    def names(self) -> Collection[str]:
        return self.layers.keys()

    def told(self) -> Iterable[None]:
        return itertools.repeat(None)

    def keep(self, told: None, values: Values) -> dict[str, FloatArray]:
        del told
        return {name: _channel_means(self.layers[name].clip(value)) for name, value in values.items()}

    def add(self, kept: dict[str, FloatArray]) -> None:
        for name, means in kept.items():
            self.found[name].append(means)


def _channel_means(values: NDArray[Any]) -> FloatArray:
    return np.asarray(values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64))


def _run_segment(
    model: ModelT, start: int, layer: _Layer, kept: dict[int, NDArray[Any]]
) -> tuple[FloatArray, dict[int, NDArray[Any]]]:
    """Run the operations from `start` to the layer over all images.

    Args:
        model: The integer graph.
        start: Position of the first operation.
        layer: The last operation.
        kept: Activations that the operations from `start` on read, [N, ...] by tensor index.

    Returns:
        Mean code of the layer's output, [images, channels], and the activations that the operations from the
        layer on read (its own output is not among them: the layer runs again).
    """
    graph = model.subgraphs[0]
    segment = graph.operators[start : layer.position + 1]
    needed_later = {int(i) for op in graph.operators[layer.position :] for i in op.inputs}
    made = [int(i) for op in segment[:-1] for i in op.outputs if int(i) in needed_later]
    output = int(layer.op.outputs[0])

    def means_of_output(index: int, values: NDArray[Any]) -> NDArray[Any]:
        return _channel_means(values) if index == output else values

    found = segments.run(model, segment, kept, [*made, output], means_of_output)
    means = found.pop(output)
    return means, {index: values for index, values in kept.items() if index in needed_later} | found


def add_to(model: ModelT, op: OperatorT, shift: FloatArray) -> None:
    """Add `shift` (real values per channel) to an operation's int32 bias, saturating."""
    tensor = model.subgraphs[0].tensors[op.inputs[2]]
    buffer = model.buffers[tensor.buffer]
    codes = np.ascontiguousarray(buffer.data).view(np.int32).astype(np.float64)
    codes += shift / np.asarray(tensor.quantization.scale, np.float64)
    buffer.data = np.clip(np.round(codes), _INT32.min, _INT32.max).astype(np.int32).view(np.uint8)
