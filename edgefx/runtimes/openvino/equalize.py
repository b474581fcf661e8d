"""Even out the channels that squeeze-and-excitation has weighted, exactly, before they share a range.

The product of activations and gates is the tensor that INT8 hurts most: one range for channels that differ in
size by factors of ten and more. Dividing each channel's gate by a factor and multiplying the next
convolution's weights by it changes nothing in real numbers (cross-layer equalization, Nagel et al. 2019; the
gate is a vector, so it costs one multiplication per channel). But the weights of an output channel share a
scale too, and channels that the calibration images hardly excite are clipped on others. So power and range
are chosen per layer, by the error of the convolution behind on images that did not set the range.

Measured with all else equal on images that did not calibrate, squared error of the logits: B0 0.29 -> 0.22 %
and 0.44 -> 0.32 %, V2-B0 0.81 -> 0.71 % and 0.60 -> 0.56 %. One power for all layers lost on V2-B0 what it
won on B0.

Where even the best choice loses much, the product is left in float: see `_LOUD`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Task
from edgefx.runtimes.openvino import artifact, calibrate
from edgefx.runtimes.openvino import weights as openvino_weights
from edgefx.runtimes.openvino.calibrate import FloatArray, Grid, Seen
from edgefx.system.parallel import ordered
from edgefx.vocabulary import Hardware

# tuned: ablations openvino.equalize.POWERS
_POWERS = (0.0, 0.25, 0.5)  # of a channel's size, in its factor; 1 would give all channels the same range
# tuned: ablations openvino.equalize.TOWARDS_EXTREMES
_TOWARDS_EXTREMES = (0.0, 0.25, 0.5, 1.0, 1.5)  # see `Grid.chosen`
_POSITIONS = 25  # per image and product; tuned: ablations openvino.equalize.POSITIONS
_SMALLEST = 1e-3  # of the largest channel
_FEWEST = 8  # images below which halves of them say nothing
# Share of its variance that the convolution behind may lose on images that did not set the range. A few late
# blocks lose more, and most of the model's error is theirs: with their products in float, signal to noise of
# V2-B0's logits rises from 22.0 to 27.3, 23.3 to 26.1 and 22.7 to 26.7 dB (three pairs of calibration and
# test images). Only activations: the weights stay INT8. Each block costs half a per cent of V2-B0's time with
# AMX, 1 to 2 without, so they must stay few; with two of six the same figures are 23.1, 24.4 and 24.5 dB.
_LOUD = 0.006  # tuned: ablations openvino.equalize.LOUD
# tuned: ablations openvino.equalize.LOUD_WORK
_LOUD_WORK: Mapping[Hardware, float] = {Hardware.X86_AMX: 0.1}  # share of the model's multiply-accumulates
_LOUD_WORK_ELSEWHERE = 0.035  # two blocks of V2-B0; tuned: ablations openvino.equalize.LOUD_WORK_ELSEWHERE


@dataclass(frozen=True)
class GatedProduct:
    """A product of a map and a gate.

    Attributes:
        product: The operation.
        vector: Which input of the product is the gate.
        reader: The convolution behind.
    """

    product: Any
    vector: int
    reader: Any

    @property
    def name(self) -> str:
        """The product's."""
        return str(self.product.get_friendly_name())


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What suits a product best: power and range, and the share of the reader's variance that they lose."""

    power: float
    towards: float
    lost: float


def gates(
    model: Any, names: Collection[str], *, readers: Collection[str], images: int
) -> tuple[GatedProduct, ...]:
    """Return the products that can be balanced.

    Args:
        model: Float.
        names: Operations that are looked at; others are no candidates.
        readers: Operations whose inputs are quantized; others need no balance.
        images: How many there are to calibrate with.
    """
    if images < _FEWEST:
        return ()
    return tuple(
        gate for gate in _gates(model) if gate.name in names and gate.reader.get_friendly_name() in readers
    )


def sampling(gates: Sequence[GatedProduct], *, seed: int) -> calibrate.Sampling:
    """Return what must be asked of the model to `balance` these."""
    return calibrate.Sampling([gate.name for gate in gates], count=_POSITIONS, seed=seed)


def balance(
    model: Any,
    gates: Sequence[GatedProduct],
    seen: dict[str, Seen],
    samples: Mapping[str, NDArray[np.float32]],
    *,
    task: Task,
    hardware: Hardware = Hardware.OTHER,
) -> tuple[dict[str, float], frozenset[str]]:
    """Rescale gates and weights in `model`, and what was `seen` of the products.

    Args:
        model: Float; changed in place, what it computes is not.
        gates: Of the model.
        seen: By name of operation; products are replaced.
        samples: Values of the products, by name: what `sampling` found.
        task: Counts the gates.
        hardware: The class of CPU that the artifact is for.

    Returns:
        How far towards the extremes the range of each product should reach, by its name; and the names of the
        products that should stay in float.
    """
    pointwise = [openvino_weights.read(gate.reader)[:, :, 0, 0] for gate in gates]

    def chosen(place: int) -> _Choice:
        name = gates[place].name
        return _best(seen[name], samples[name], pointwise[place])

    best = {}
    for gate, choice in zip(gates, ordered(chosen, range(len(gates))), strict=True):
        best[gate.name] = choice
        task.advance()
    costly = _costliest(model, gates, {name: choice.lost for name, choice in best.items()}, hardware)
    for gate in gates:
        power = best[gate.name].power
        if power and gate.name not in costly:
            factors = _factors(seen[gate.name], power)
            _rescale(gate, openvino_weights.read(gate.reader), factors)
            seen[gate.name] = _divided(seen[gate.name], factors)
    model.validate_nodes_and_infer_types()
    return {name: choice.towards for name, choice in best.items() if name not in costly}, costly


def _costliest(
    model: Any, gates: Iterable[GatedProduct], lost: Mapping[str, float], hardware: Hardware
) -> frozenset[str]:
    """Choose the products to leave in float: the costliest first, as long as they are few."""
    work = artifact.macs_by_name(model)
    most = _LOUD_WORK.get(hardware, _LOUD_WORK_ELSEWHERE) * sum(work.values())
    chosen: set[str] = set()
    for gate in sorted(gates, key=lambda gate: lost[gate.name], reverse=True):
        most -= work[gate.reader.get_friendly_name()]
        if lost[gate.name] <= _LOUD or most < 0:
            break
        chosen.add(gate.name)
    return frozenset(chosen)


def _best(seen: Seen, samples: NDArray[np.float32], weights: FloatArray) -> _Choice:
    """Choose power and range by the error on the half of the images that did not set them, both ways.

    Args:
        seen: Of the product, over all images.
        samples: Values of the product, [images, positions, channels].
        weights: Of the convolution behind, [out, channels].
    """
    lost = dict.fromkeys(itertools.product(_POWERS, _TOWARDS_EXTREMES), 0.0)
    variance = 0.0
    for first in (0, 1):
        known = Seen(low=seen.low[first::2], high=seen.high[first::2], mean=seen.mean)
        values = samples[1 - first :: 2].reshape(-1, weights.shape[1])
        exact = values @ weights.T
        variance += float(np.square(exact - exact.mean(axis=0)).sum())
        for power in _POWERS:
            factors = _factors(known, power)
            scaled = weights * factors
            steps = openvino_weights.scales(scaled, groups=False)
            stored = (openvino_weights.to_nearest(scaled, steps) * steps).astype(np.float32)
            inputs, divided = (values / factors).astype(np.float32), _divided(known, factors)
            for towards in _TOWARDS_EXTREMES:
                error = Grid.chosen(divided, towards=towards).apply(inputs) @ stored.T - exact
                error -= error.mean(axis=0)  # the bias makes good what is the same everywhere
                lost[power, towards] += float(np.square(error).sum())
    power, towards = min(lost, key=lambda choice: lost[choice])
    share = lost[power, towards] / max(variance, float(np.finfo(np.float32).tiny))
    return _Choice(power=power, towards=towards, lost=share)


def _factors(seen: Seen, power: float) -> FloatArray:
    """Return what to divide each channel by: a power of the size it may reach, as far as is known.

    A channel may reach beyond its extreme by twice what separates that from the mean over the images: so one
    that a single image excites counts three times what that image shows.
    """
    size = np.maximum(seen.high, -seen.low)  # [images, channels]
    largest = size.max(axis=0)
    reach = largest + 2 * (largest - size.mean(axis=0))
    reach = np.maximum(reach / max(float(reach.max()), float(np.finfo(np.float32).tiny)), _SMALLEST)
    factors: FloatArray = (reach**power).astype(np.float32).astype(np.float64)
    return factors


def _divided(seen: Seen, factors: FloatArray) -> Seen:
    return Seen(low=seen.low / factors, high=seen.high / factors, mean=seen.mean / factors)


def _rescale(gate: GatedProduct, weights: FloatArray, factors: FloatArray) -> None:
    from openvino import opset13 as ops

    shape = (1, -1, 1, 1)
    divisors = ops.constant((1 / factors).astype(np.float32).reshape(shape))
    divided = ops.multiply(gate.product.input_value(gate.vector), divisors)
    divided.set_friendly_name(f"{gate.name}/balance")
    gate.product.input(gate.vector).replace_source_output(divided.output(0))
    scaled = ops.constant((weights * factors.reshape(shape)).astype(np.float32))
    gate.reader.input(1).replace_source_output(scaled.output(0))


def _gates(model: Any) -> Iterator[GatedProduct]:
    """Find the products of a map and a vector that one pointwise convolution reads."""
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Multiply":
            continue
        readers = [reader.get_node() for reader in operation.output(0).get_target_inputs()]
        shapes = [tuple(value.get_shape()) for value in operation.input_values()]
        vectors = [k for k, shape in enumerate(shapes) if len(shape) == 4 and shape[2:] == (1, 1)]
        if (
            len(vectors) == len(readers) == 1
            and not any(artifact.is_constant(value.get_node()) for value in operation.input_values())
            and readers[0].get_type_name() == "Convolution"
            and readers[0].input_value(1).get_node().get_type_name() == "Constant"
            and tuple(readers[0].input_value(1).get_shape()[2:]) == (1, 1)
        ):
            yield GatedProduct(product=operation, vector=vectors[0], reader=readers[0])
