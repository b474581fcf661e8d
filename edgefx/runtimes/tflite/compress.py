"""INT8 weights of a ``.tflite`` with few distinct values, or zeros among them, so that errors cancel.

It takes the place of `rounding.optimize`: a stage on the float graph would be undone by what comes behind it,
the scales of `equalize` and the rounding itself. Depthwise convolutions stay as they are: they hold a few
percent of the weights, and their channels have no more values than a codebook.

Where a share of the file is to be saved, each layer has a codebook of its own size: as few values as lose
little of what that layer puts out for the bytes that they save (`quantize.allocation`).

What layers bear is told by the calibration images, through the moments of what each layer reads. Weights
become zero that add least to all that their layer puts out, of whatever layer. A layer has one codebook, and
one for each channel where that loses too much; small layers, such as the stem, keep all their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantization import SMALL, WeightCompression
from edgefx.quantize import allocation, codebook, gptq
from edgefx.quantize.gptq import FloatArray
from edgefx.runtimes.tflite import bias, flatbuffer, lookup, micro, rounding

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT

# tuned: ablations tflite.compress.LOUD
_LOUD = 0.02  # error of one codebook, as a share of a layer's output, above which each channel has one
_SIZES = (4, 8, 16, 32, 64, 128)  # of the codebooks that layers choose from
_SMALL = SMALL


@dataclass(frozen=True, eq=False)
class _Layer:
    """A dense convolution or a matrix product whose weights are INT8.

    Attributes:
        stored: Its weights in the integer graph.
        op: The operation in the integer graph.
        weights: In float, [rows, K].
        steps: Of the rows, [rows].
        moments: Of what they are multiplied with, about its mean, [K, K].
        mean: Of that, [K].
    """

    stored: TensorT
    op: OperatorT
    weights: FloatArray
    steps: FloatArray
    moments: FloatArray
    mean: FloatArray

    @property
    def is_large(self) -> bool:
        """Whether a file is smaller by what becomes of it."""
        return self.weights.size >= _SMALL

    @cached_property
    def order(self) -> gptq.ColumnOrder:
        """The order in which its columns are rounded."""
        return gptq.order_of(self.moments)

    @cached_property
    def energy(self) -> float:
        """Mean square of what it puts out, less its mean."""
        return float(np.einsum("ij,ij->", self.weights @ self.moments, self.weights)) or 1.0

    @property
    def losses(self) -> FloatArray:
        """What is lost by each zero, as a share of what the layer puts out, [rows, K]."""
        return codebook.losses(self.weights, self.moments) / self.energy

    def histograms(self, kept: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return how much each code matters to what it puts out, row by row, [rows, 255]."""
        importance = np.broadcast_to(np.diag(self.moments), self.weights.shape)
        if not importance.any():
            importance = np.ones_like(self.weights)
        if kept is not None:
            importance = importance * kept
        # Of each row in its own unit; an error of a code is the row's step.
        return codebook.histogram(self.weights / self.steps[:, None], importance) * self.steps[:, None] ** 2

    def choices(self) -> list[allocation.Choice]:
        """Return in which ways its weights can be stored, with one codebook."""
        together = self.histograms().sum(axis=0, keepdims=True)
        found = [allocation.Choice(values=None, size=self.weights.size, loss=0.0)]
        for values in _SIZES:
            lost = codebook.distortion(together, codebook.codebooks(together, values)) / self.energy
            size = lookup.size(self.weights.size, values, tables=1)
            found.append(allocation.Choice(values=values, size=size, loss=lost))
        return found

    def codebooks(self, values: int, kept: NDArray[np.bool_] | None, loud: float) -> FloatArray:
        """Return the codes that its weights may have, [1, values]; [rows, values] where that is too loud."""
        rows = self.histograms(kept)
        together = rows.sum(axis=0, keepdims=True)
        one = codebook.codebooks(together, values, with_zero=kept is not None)
        if codebook.distortion(together, one) <= loud * self.energy:
            return one
        return codebook.codebooks(rows, values, with_zero=kept is not None)


def optimize(
    float_model: ModelT,
    model: ModelT,
    correlated: rounding.Correlated,
    compression: WeightCompression,
    progress: Progress,
) -> None:
    """Replace the INT8 weights of the dense convolutions and matrix products of `model`.

    Args:
        float_model: The graph that `model` was quantized from.
        model: The integer graph; changed in place.
        correlated: What the convolutions of `float_model` read of the calibration images.
        compression: How many values, how many zeros.
        progress: Advanced once per layer.
    """
    layers = _layers(float_model, model, correlated)
    kept = _kept(layers, compression)
    fewest = _fewest(layers, model, compression) if compression.saved else {}
    with progress.task("rounding weights", len(layers)) as task:
        for name, layer in layers.items():
            task.advance()
            own, values = kept.get(name), fewest.get(name, compression.values)
            codes = gptq.rounded(
                layer.weights,
                layer.steps,
                layer.moments,
                codebooks=layer.codebooks(values, own, np.inf if fewest else _LOUD)
                if values is not None and layer.is_large
                else None,
                kept=own,
                order=layer.order,
            )
            model.buffers[layer.stored.buffer].data = codes.reshape(-1).view(np.uint8)
            _keep_mean(model, layer, codes)


def _fewest(
    layers: Mapping[str, _Layer], model: ModelT, compression: WeightCompression
) -> dict[str, int | None]:
    """Return how many values each layer has so that a share of the file is saved when it is packed."""
    content = flatbuffer.write(model)
    saved = len(micro.adapted(content, packed=True)) - (1 - compression.saved) * len(content)
    choices = {name: layer.choices() for name, layer in layers.items() if layer.is_large}
    return {name: one.values for name, one in allocation.allocate(choices, saved).items()}


def _layers(float_model: ModelT, model: ModelT, correlated: rounding.Correlated) -> dict[str, _Layer]:
    """Return the layers by the names of their weights."""
    values = {tensor.name.decode(): tensor for tensor in float_model.subgraphs[0].tensors}
    tensors = model.subgraphs[0].tensors
    readers = {
        tensors[op.inputs[1]].name.decode(): op for op in model.subgraphs[0].operators if len(op.inputs) > 1
    }
    stored = {tensor.name.decode(): tensor for tensor in tensors}
    found = {}
    for convolution in rounding.convolutions(float_model):
        name = convolution.weights
        target, exact = stored.get(name), flatbuffer.constant(float_model, values[name])
        if target is None or exact is None or flatbuffer.dtype_name(target) != "int8":
            continue  # kept in float
        steps = np.broadcast_to(np.asarray(target.quantization.scale, np.float64), len(exact))
        found[name] = _Layer(
            stored=target,
            op=readers[name],
            weights=exact.reshape(len(exact), -1),
            steps=steps,
            moments=correlated.moments(name),
            mean=correlated.mean(name),
        )
    return found


def _keep_mean(model: ModelT, layer: _Layer, codes: NDArray[np.int8]) -> None:
    """Move the biases of a layer of pooled vectors so that the mean of what it puts out stays.

    Few values shift it much more than 8 bits do: what pooled vectors hold is mostly their mean. Of layers of
    maps `bias` corrects it, and better: by what the integer kernels make.
    """
    output = flatbuffer.shape_of(model.subgraphs[0].tensors[layer.op.outputs[0]])
    if max(output[1:-1], default=1) == 1 and len(layer.op.inputs) > 2 and layer.op.inputs[2] >= 0:
        bias.add_to(model, layer.op, (layer.weights - codes * layer.steps[:, None]) @ layer.mean)


def _kept(layers: Mapping[str, _Layer], compression: WeightCompression) -> dict[str, NDArray[np.bool_]]:
    """Return which weights of which layers do not become zero, [rows, K] each."""
    if not compression.prunes:
        return {}
    losses = {name: layer.losses for name, layer in layers.items() if layer.is_large}
    if compression.two_of_four:
        return {
            name: codebook.largest_two_of_four(found)
            for name, found in losses.items()
            if found.shape[1] % 4 == 0
        }
    limit = _limit(list(losses.values()), compression.zeros)
    return {name: found > limit for name, found in losses.items()}


def _limit(losses: Sequence[FloatArray], share: float) -> float:
    """Return what a share of all weights loses at most; a layer loses more weights the less they do."""
    if not losses:
        return 0.0
    return float(np.quantile(np.concatenate([found.reshape(-1) for found in losses]), share))
