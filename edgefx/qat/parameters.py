"""What is rounded in an integer artifact, layer by layer: where training for quantization starts and ends.

An artifact's module (`edgefx.runtimes.tflite.training`) reads this from a post-training artifact, training
moves weights, biases and scales, and the same module writes them back. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.quantization import SMALL

FloatArray = NDArray[np.float32]

LEVELS = (-128, 127)  # of an activation
LARGEST_WEIGHT = 127  # weights are symmetric and narrow: -127 ... 127


@dataclass(frozen=True, kw_only=True)
class QuantGrid:
    """The grid of 8-bit codes that a tensor is rounded to: real value = (code - zero point) * scale.

    Attributes:
        scale: Step between two codes.
        zero_point: Code of zero; training leaves it.
        fixed: Whether the runtime prescribes the grid (sigmoid, softmax, pixels).
    """

    scale: float
    zero_point: int
    fixed: bool = False

    @property
    def low(self) -> float:
        """Real value of the lowest code."""
        return (LEVELS[0] - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """Real value of the highest code."""
        return (LEVELS[1] - self.zero_point) * self.scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A weighted layer as the artifact multiplies it.

    Attributes:
        kernel: float32 in the canonical graph's layout; training moves it, the artifact rounds it to the
            nearest multiple of `steps`.
        bias: float32 [out].
        steps: float32, broadcasts over the kernel: one step per output channel.
        factors: What the canonical kernel must be multiplied by to give this one, float32, broadcasts over
            the kernel: channels may have scales of their own in the artifact.
        bias_factors: The factors of the bias, [out] or [1].
        shared: Which of some codes each weight has, int64, shaped as the kernel: weights with the same number
            are trained as one. None where each has its own.
        kept: Which weights are trained, bool, shaped as the kernel; the others stay zero. None where all are.
    """

    kernel: FloatArray
    bias: FloatArray
    steps: FloatArray
    factors: FloatArray
    bias_factors: FloatArray
    shared: NDArray[np.int64] | None = None
    kept: NDArray[np.bool_] | None = None

    def pruned(self) -> Weights:
        """Return the same, where weights that are zero now always will be."""
        return replace(self, kept=np.round(self.kernel / self.steps) != 0)

    def clustered(self, most: int) -> Weights:
        """Return the same, where weights that have the same code now will always have.

        That is the trained quantization of Han et al., "Deep compression", 2016: the assignment stays, the
        values move by the sum of what their weights would.

        Args:
            most: How many codes a layer, or else each of its output channels, may have. A layer with more of
                them is none that was clustered, and is returned as it is.
        """
        codes = np.round(self.kernel / self.steps).astype(np.int64)
        alone = np.zeros(codes.shape, np.int64)
        by_channel = alone + np.arange(codes.shape[-1])
        for group in (alone, by_channel):
            pairs = group * (2 * LARGEST_WEIGHT + 2) + codes + LARGEST_WEIGHT + 1
            found, shared = np.unique(pairs, return_inverse=True)
            each = np.bincount(np.unique(found // (2 * LARGEST_WEIGHT + 2), return_inverse=True)[1])
            if each.max() <= most:
                return replace(self, shared=shared.reshape(codes.shape).astype(np.int64))
        return self

    def rounded(self) -> FloatArray:
        """Return the kernel as the artifact stores it, in real units."""
        codes = np.clip(np.round(self.kernel / self.steps), -LARGEST_WEIGHT, LARGEST_WEIGHT)
        result: FloatArray = (codes * self.steps).astype(np.float32)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class FakeQuantization:
    """All that an integer artifact rounds, by canonical layer.

    Attributes:
        grids: Each grid by a name of its own; layers that must share one name the same.
        outputs: Name of the grid of a layer's output; layers that are absent do not round.
        gates: For an activation ``x * sigmoid(x)``: name of the grid of the sigmoid.
        wholes: For such an activation whose input has channels on scales of their own: name of the grid of
            ``k x``, which the sigmoid reads.
        channel_factors: The k of these, float32 [channels], by the activation's layer.
        weights: By weighted layer.
        constants: What is added to or multiplied with the pixels, as stored, by canonical operation.
    """

    grids: Mapping[str, QuantGrid]
    outputs: Mapping[str, str]
    gates: Mapping[str, str] = field(default_factory=dict)
    wholes: Mapping[str, str] = field(default_factory=dict)
    channel_factors: Mapping[str, FloatArray] = field(default_factory=dict)
    weights: Mapping[str, Weights]
    constants: Mapping[str, FloatArray] = field(default_factory=dict)

    def clustered(self, most: int) -> FakeQuantization:
        """Return the same artifact, where the few values of each large layer's weights are trained as such.

        Args:
            most: How many values a layer or a channel may have.
        """
        return self._with_large(lambda stored: stored.clustered(most))

    def pruned(self) -> FakeQuantization:
        """Return the same artifact, where zeros among each large layer's weights stay zero."""
        return self._with_large(Weights.pruned)

    def _with_large(self, change: Callable[[Weights], Weights]) -> FakeQuantization:
        weights = {
            layer: change(stored) if stored.kernel.size >= SMALL else stored
            for layer, stored in self.weights.items()
        }
        return replace(self, weights=weights)

    def arrays(self) -> dict[str, Any]:
        """Return what training moves, by names that `with_arrays` understands."""
        return {
            **{f"scale/{name}": np.float64(grid.scale) for name, grid in self.grids.items()},
            **{f"kernel/{layer}": stored.kernel for layer, stored in self.weights.items()},
            **{f"bias/{layer}": stored.bias for layer, stored in self.weights.items()},
        }

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> FakeQuantization:
        """Return the same artifact with the scales, kernels and biases that `arrays` returned.

        Raises:
            KeyError: They are another artifact's.
        """
        return replace(
            self,
            grids={
                name: replace(grid, scale=float(arrays[f"scale/{name}"])) for name, grid in self.grids.items()
            },
            weights={
                layer: replace(stored, kernel=arrays[f"kernel/{layer}"], bias=arrays[f"bias/{layer}"])
                for layer, stored in self.weights.items()
            },
        )

    def canonical_weights(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Return kernel and bias of each weighted layer in the canonical graph's own scale.

        The kernels are those that the integer artifact multiplies with, so that a grid per channel of
        another runtime meets values that lie on one already.
        """
        return {
            layer: (
                (stored.rounded() / stored.factors).astype(np.float32),
                (stored.bias / stored.bias_factors).astype(np.float32),
            )
            for layer, stored in self.weights.items()
        }

    def activation_ranges(self) -> dict[str, tuple[float, float]]:
        """Return the ends of the grids of the layers' outputs.

        Where channels have scales of their own, these are the ends of the largest, whose factor is 1.
        """
        return {layer: (self.grids[name].low, self.grids[name].high) for layer, name in self.outputs.items()}
