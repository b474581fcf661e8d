"""Layers that round what the integer kernels round, and that pass gradients through.

Why not tfmot's: its quantizers know ranges that follow the data by moving averages, not ranges that start at
those of a good artifact and are trained; its Conv2D with an activation converts to float operations; a swish
is one quantized operation to it, where the runtime rounds sigmoid and product apart; and it has no word for
channels on scales of their own. The bridge (`edgefx.models.graph.tf_keras`) can still be given to it.

- Rounding passes gradients straight through inside the grid and none outside (Bengio et al., "Estimating or
  propagating gradients through stochastic neurons", 2013).
- Scales are trained, by the gradient of Esser et al., "Learned step size quantization", 2020, on the
  logarithm. With y the rounded x it is, for a whole tensor, ``dy . y - dx . x``: two dot products.
- Weights are variables in units of their own step, biases in steps of the output, so that one learning rate
  suits layers whose weights differ in size by factors of hundreds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgefx.models.graph import ir
from edgefx.models.graph.ir import Node
from edgefx.qat.parameters import LARGEST_WEIGHT, LEVELS, FloatArray, QuantGrid, Weights

# tuned: ablations qat.layers.SCALE_SHARE
_SCALE_SHARE = 8  # one of so many images tells how a scale should change


def _scale_gradient(rounded: tuple[Any, Any], exact: tuple[Any, Any]) -> Any:
    """Gradient of the logarithm of a scale, ``dy . y - dx . x``, from an eighth of the images.

    It is a sum over thousands of values and need not be exact, and on a CPU every look at a whole tensor
    costs as much as a convolution.
    """
    images = exact[0].shape[0] or 1  # known while a step is traced: batches have one size
    some = max(images // _SCALE_SHARE, 1)
    (dy, y), (dx, x) = ((a[:some], b[:some]) for a, b in (rounded, exact))
    return images / some * tf.reduce_sum(dy * y - dx * x)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _to_codes(values: Any) -> Any:
    """Round weights in units of their step."""
    limit = float(LARGEST_WEIGHT)
    inside = tf.cast(tf.abs(values) <= limit + 0.5, values.dtype)
    return tf.clip_by_value(tf.round(values), -limit, limit), lambda dy: dy * inside


class TrainedGrid(tf.Module):  # type: ignore[misc]
    """A grid whose scale is a variable; layers that must share one share this."""

    def __init__(self, grid: QuantGrid, name: str) -> None:
        super().__init__(name="grid")
        self.key = name
        self.grid = grid
        self.log_scale = tf.Variable(
            np.log(grid.scale), dtype=tf.float32, trainable=not grid.fixed, name="log_scale"
        )
        self._low, self._high = (float(level - grid.zero_point) for level in LEVELS)

    def __call__(self, x: Any) -> Any:
        """Round `x`; gradients pass."""
        if self.grid.fixed:
            return tf.quantization.fake_quant_with_min_max_args(x, self.grid.low, self.grid.high)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def function(x: Any, log_scale: Any) -> Any:
            y = self.round(x, log_scale)

            def gradient(dy: Any) -> Any:
                dx = self.inside(dy, x)
                return dx, _scale_gradient((dy, y), (dx, x))

            return y, gradient

        return function(x, tf.convert_to_tensor(self.log_scale))

    def round(self, x: Any, log_scale: Any) -> Any:
        """Round `x` to the grid with a scale, as one operation."""
        scale = tf.exp(log_scale)
        return tf.quantization.fake_quant_with_min_max_vars(x, self._low * scale, self._high * scale)

    def inside(self, dy: Any, x: Any) -> Any:
        """Return `dy` where `x` lies inside the grid as it was at the start, else zero.

        The operation that takes the ends as they are now costs three times as much, and scales move by few
        per cent.
        """
        return tf.raw_ops.FakeQuantWithMinMaxArgsGradient(
            gradients=dy, inputs=x, min=self.grid.low, max=self.grid.high
        )

    def read(self) -> QuantGrid:
        """Return the grid as it is now."""
        if self.grid.fixed:
            return self.grid
        return QuantGrid(scale=float(np.exp(self.log_scale.numpy())), zero_point=self.grid.zero_point)


class _Rounded(tf_keras.layers.Layer):  # type: ignore[misc]
    """A layer with a grid behind it."""

    def __init__(self, name: str, grid: TrainedGrid | None) -> None:
        super().__init__(name=name)
        self.grid = grid

    def rounded(self, y: Any) -> Any:
        """Round what the layer computed."""
        return y if self.grid is None else self.grid(y)


class Weighted(_Rounded):
    """A convolution or matrix product with rounded weights."""

    def __init__(
        self, name: str, grid: TrainedGrid | None, weights: Weights, *, step: float | None = None
    ) -> None:
        super().__init__(name, grid)
        self.start = weights
        self._steps = _per_channel(weights.steps)
        if step is None:
            step = _step_of(weights.bias) if grid is None else grid.grid.scale
        self.bias_step = np.float32(step)
        codes = weights.kernel / weights.steps
        self._shared, self._apart = weights.shared, np.float32(1)
        self._kept = None if weights.kept is None else weights.kept.astype(np.float32)
        if weights.shared is not None:
            # One variable for each value, in units of their distance: few values must move further than many.
            first = np.unique(weights.shared, return_index=True)[1]
            values = np.round(codes).reshape(-1)[first]
            tables = 1 if len(values) <= LARGEST_WEIGHT + 1 else codes.shape[-1]
            self._apart = np.float32(max(np.ptp(values) * tables / len(values), 1))
            codes = values / self._apart
        self.codes = self.add_weight("codes", codes.shape, initializer=_constant(codes))
        self.bias = self.add_weight(
            "bias", weights.bias.shape, initializer=_constant(weights.bias / self.bias_step)
        )

    def kernel(self) -> Any:
        """The kernel that the artifact multiplies with."""
        codes = _to_codes(self.codes * self._apart)
        codes = codes if self._shared is None else tf.gather(codes, self._shared)
        return (codes if self._kept is None else codes * self._kept) * self._steps

    def read(self) -> Weights:
        """Return kernel and bias as they are now."""
        codes = self.codes.numpy() * self._apart
        if self._shared is not None:
            codes = codes[self._shared]
        if self._kept is not None:
            codes = codes * self._kept
        return replace(self.start, kernel=codes * self.start.steps, bias=self.bias.numpy() * self.bias_step)


class Convolution(Weighted):
    """A dense or grouped convolution."""

    def __init__(
        self, node: Node, grid: TrainedGrid | None, weights: Weights, *, step: float | None = None
    ) -> None:
        assert isinstance(node.op, ir.Conv)
        super().__init__(node.name, grid, weights, step=step)
        self.op = node.op

    def call(self, x: Any) -> Any:
        """Convolve with rounded weights."""
        op = self.op
        y = tf.nn.conv2d(x, self.kernel(), op.strides, op.padding, dilations=op.dilation)
        return self.rounded(tf.nn.bias_add(y, self.bias * self.bias_step))


class DepthwiseConvolution(Weighted):
    """A depthwise convolution."""

    def __init__(
        self, node: Node, grid: TrainedGrid | None, weights: Weights, *, step: float | None = None
    ) -> None:
        assert isinstance(node.op, ir.DepthwiseConv)
        super().__init__(node.name, grid, weights, step=step)
        self.op = node.op

    def call(self, x: Any) -> Any:
        """Convolve with rounded weights."""
        op = self.op
        y = tf.nn.depthwise_conv2d(x, self.kernel(), (1, *op.strides, 1), op.padding, dilations=op.dilation)
        return self.rounded(tf.nn.bias_add(y, self.bias * self.bias_step))


class Dense(Weighted):
    """A matrix product."""

    def __init__(
        self, node: Node, grid: TrainedGrid | None, weights: Weights, *, step: float | None = None
    ) -> None:
        super().__init__(node.name, grid, weights, step=step)

    def call(self, x: Any) -> Any:
        """Multiply with rounded weights."""
        return self.rounded(tf.matmul(x, self.kernel()) + self.bias * self.bias_step)


class Affine(_Rounded):
    """``x * scale + offset`` per channel, rounded once."""

    def __init__(self, name: str, grid: TrainedGrid | None, scale: FloatArray, offset: FloatArray) -> None:
        super().__init__(name, grid)
        self.scale, self.offset = scale, offset

    def call(self, x: Any) -> Any:
        """Scale and shift."""
        return self.rounded(x * self.scale + self.offset)


class Swish(_Rounded):
    """``x * sigmoid(k x)``, as the runtime computes it: x, k x, the sigmoid and the product are rounded.

    One function with its own gradient, because activations are most of the time of a training step: what
    automatic differentiation makes of it takes 2.5 times as long. (Compiled by XLA it would be half as long
    again, but compiling a network's swishes takes as long as some hundred images.)
    """

    def __init__(
        self,
        name: str,
        grid: TrainedGrid,
        *,
        before: TrainedGrid | None,
        gate: QuantGrid,
        whole: QuantGrid | None,
        factors: FloatArray | None,
    ) -> None:
        super().__init__(name, grid)
        self.behind = grid
        self.before = before
        self.gate = gate
        self.whole = whole
        self.factors = factors

    def call(self, x: Any) -> Any:
        """See the class."""
        before, behind = self.before, self.behind

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def function(x: Any, log_scale: Any, out_log_scale: Any) -> Any:
            rounded = x if before is None else before.round(x, log_scale)
            slope = tf.sigmoid(self._wide(rounded))
            gate = _fixed(slope, self.gate)
            product = rounded * gate
            y = behind.round(product, out_log_scale)

            def gradient(dy: Any) -> Any:
                d_product = behind.inside(dy, product)
                d_rounded = d_product * (gate + self._inner(product, rounded, slope))
                d_out = _scale_gradient((dy, y), (d_product, product))
                if before is None:
                    return d_rounded, None, d_out
                dx = before.inside(d_rounded, x)
                return dx, _scale_gradient((d_rounded, rounded), (dx, x)), d_out

            return y, gradient

        log_scale = tf.zeros([]) if before is None else tf.convert_to_tensor(before.log_scale)
        return function(x, log_scale, tf.convert_to_tensor(behind.log_scale))

    def _wide(self, rounded: Any) -> Any:
        wide = rounded if self.factors is None else rounded * self.factors
        return wide if self.whole is None else _fixed(wide, self.whole)

    def _inner(self, product: Any, rounded: Any, slope: Any) -> Any:
        """What x contributes through the sigmoid."""
        if self.factors is None:
            return product * (1 - slope)
        # Beyond the ends of k x the sigmoid's slope is a few per mille and not worth a mask.
        return rounded * self.factors * slope * (1 - slope)


def _fixed(x: Any, grid: QuantGrid) -> Any:
    return tf.quantization.fake_quant_with_min_max_args(x, grid.low, grid.high)


class Behind(_Rounded):
    """A layer without weights, with a grid behind it."""

    def __init__(self, layer: Any, grid: TrainedGrid) -> None:
        super().__init__(layer.name, grid)
        self.layer = layer

    def call(self, inputs: Any) -> Any:
        """Run the layer."""
        return self.rounded(self.layer(inputs))


def _constant(values: Any) -> Any:
    return tf_keras.initializers.Constant(values)


def _per_channel(steps: FloatArray) -> FloatArray:
    """Return the steps without the axes along which they are all the same: a constant of the graph."""
    for axis in range(steps.ndim):
        first = steps.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, steps.shape), steps):
            steps = first
    return steps


def _step_of(bias: FloatArray) -> float:
    return float(np.abs(bias).max()) / LARGEST_WEIGHT or 1.0
