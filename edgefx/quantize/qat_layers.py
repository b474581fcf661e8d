"""Layers that round what the integer kernels round, and that pass gradients through.

Why not tfmot's: its quantizers know ranges that follow the data by moving averages, not ranges that start at
those of a good artifact and are trained; its Conv2D with an activation converts to float operations; a swish
is one quantized operation to it, where the runtime rounds sigmoid and product apart; and it has no word for
channels on scales of their own. The bridge (`edgefx.models.keras2`) can still be given to it.

- Rounding passes gradients straight through inside the grid and none outside (Bengio et al., "Estimating or
  propagating gradients through stochastic neurons", 2013).
- Scales are trained, by the gradient of Esser et al., "Learned step size quantization", 2020, on the
  logarithm. With y the rounded x it is, for a whole tensor, ``dy . y - dx . x``: two dot products.
- Weights are variables in units of their own step, biases in steps of the output, so that one learning rate
  suits layers whose weights differ in size by factors of hundreds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgefx.models import ir
from edgefx.models.ir import Node
from edgefx.quantize.fakequant import LARGEST_WEIGHT, LEVELS, FloatArray, Grid, Weights

_SCALE_SHARE = 8  # one of so many images tells how a scale should change
# Values of one image from which compiling a swish pays: about a tenth of a second once per shape.
_COMPILED = 8192


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _on_grid(x: Any, log_scale: Any, low: Any, high: Any) -> Any:
    """Round x to the codes low ... high times exp(log_scale); `low` and `high` are relative to zero."""
    scale = tf.exp(log_scale)
    lowest, highest = low * scale, high * scale
    y = tf.quantization.fake_quant_with_min_max_vars(x, lowest, highest)

    def gradient(dy: Any) -> Any:
        inside = tf.logical_and(x >= lowest - scale / 2, x <= highest + scale / 2)
        dx = tf.where(inside, dy, tf.zeros_like(dy))
        return dx, _scale_gradient((dy, y), (dx, x)), None, None

    return y, gradient


def _scale_gradient(rounded: tuple[Any, Any], exact: tuple[Any, Any]) -> Any:
    """Gradient of the logarithm of a scale, ``dy . y - dx . x``, from an eighth of the images.

    It is a sum over thousands of values and need not be exact, and on a CPU every look at a whole
    tensor costs as much as a convolution.
    """
    images = tf.shape(exact[0])[0]
    some = tf.maximum(images // _SCALE_SHARE, 1)
    (dy, y), (dx, x) = ((a[:some], b[:some]) for a, b in (rounded, exact))
    share = tf.cast(images, tf.float32) / tf.cast(some, tf.float32)
    return share * (tf.reduce_sum(dy * y) - tf.reduce_sum(dx * x))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _to_codes(values: Any) -> Any:
    """Round weights in units of their step."""
    limit = float(LARGEST_WEIGHT)
    inside = tf.cast(tf.abs(values) <= limit + 0.5, values.dtype)
    return tf.clip_by_value(tf.round(values), -limit, limit), lambda dy: dy * inside


class TrainedGrid(tf.Module):  # type: ignore[misc]
    """A grid whose scale is a variable; layers that must share one share this."""

    def __init__(self, grid: Grid, name: str) -> None:
        super().__init__(name="grid")
        self.key = name
        self.grid = grid
        self.log_scale = tf.Variable(
            np.log(grid.scale), dtype=tf.float32, trainable=not grid.fixed, name="log_scale"
        )
        self._low, self._high = (float(level - grid.zero_point) for level in LEVELS)

    def __call__(self, x: Any) -> Any:
        """Round `x`."""
        if self.grid.fixed:
            return tf.quantization.fake_quant_with_min_max_args(x, self.grid.low, self.grid.high)
        return _on_grid(x, self.log_scale, self._low, self._high)

    def read(self) -> Grid:
        """Return the grid as it is now."""
        if self.grid.fixed:
            return self.grid
        return Grid(scale=float(np.exp(self.log_scale.numpy())), zero_point=self.grid.zero_point)


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
        if step is None:
            step = _step_of(weights.bias) if grid is None else grid.grid.scale
        self.bias_step = np.float32(step)
        self.codes = self.add_weight(
            "codes", weights.kernel.shape, initializer=_constant(weights.kernel / weights.steps)
        )
        self.bias = self.add_weight(
            "bias", weights.bias.shape, initializer=_constant(weights.bias / self.bias_step)
        )

    def kernel(self) -> Any:
        """The kernel that the artifact multiplies with."""
        return _to_codes(self.codes) * self.start.steps

    def read(self) -> Weights:
        """Return kernel and bias as they are now."""
        start = self.start
        return Weights(
            kernel=self.codes.numpy() * start.steps,
            bias=self.bias.numpy() * self.bias_step,
            steps=start.steps,
            factors=start.factors,
            bias_factors=start.bias_factors,
        )


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

    Written as one function with its own gradient, which XLA compiles to one loop each way: operation by
    operation it takes five times as long and was most of the time of a training step.
    """

    def __init__(
        self,
        name: str,
        grid: TrainedGrid,
        *,
        before: TrainedGrid | None,
        gate: Grid,
        whole: Grid | None,
        factors: FloatArray | None,
    ) -> None:
        super().__init__(name, grid)
        self.behind = grid
        self.before = before
        self.gate = gate
        self.whole = whole
        self.factors = np.ones(1, np.float32) if factors is None else factors

    def build(self, shape: Any) -> None:
        """Choose how the loops run."""
        compiled = int(np.prod([size or 1 for size in shape[1:]])) >= _COMPILED
        options = {"autograph": False, "jit_compile": True if compiled else None}
        self._forward = tf.function(lambda x, s, t: self._values(x, s, t)[0], **options)
        self._backward = tf.function(self._input_gradient, **options)
        super().build(shape)

    def _values(self, x: Any, scale: Any, out_scale: Any) -> Any:
        """Return y, the product, where y kept it, the rounded x, where that kept x, and d product / d x."""
        rounded, inside = _nearest(x, scale, self.before and self.before.grid)
        wide, wide_inside = _nearest(rounded * self.factors, _scale_of(self.whole), self.whole)
        slope = tf.sigmoid(wide)
        gate, _ = _nearest(slope, self.gate.scale, self.gate)
        product = rounded * gate
        y, kept = _nearest(product, out_scale, self.behind.grid)
        inner = tf.where(wide_inside, self.factors * slope * (1 - slope), 0.0)
        return y, product, kept, rounded, inside, gate + rounded * inner

    def _input_gradient(self, x: Any, dy: Any, scale: Any, out_scale: Any) -> Any:
        _, _, kept, _, inside, slope = self._values(x, scale, out_scale)
        return tf.where(tf.logical_and(kept, inside), dy * slope, 0.0)

    def call(self, x: Any) -> Any:
        """See the class."""

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def function(x: Any, log_scale: Any, out_log_scale: Any) -> Any:
            scales = tf.exp(log_scale), tf.exp(out_log_scale)

            def gradient(dy: Any) -> Any:
                dx = self._backward(x, dy, *scales)
                images = tf.shape(x)[0]
                some = tf.maximum(images // _SCALE_SHARE, 1)
                few, d_few = x[:some], dy[:some]
                y, product, kept, rounded, inside, slope = self._values(few, *scales)
                d_product = tf.where(kept, d_few, 0.0)
                d_rounded = d_product * slope
                share = tf.cast(images, tf.float32) / tf.cast(some, tf.float32)
                d_scale = tf.reduce_sum(d_rounded * (rounded - tf.where(inside, few, 0.0)))
                d_out = tf.reduce_sum(d_few * y - d_product * product)
                return dx, share * d_scale, share * d_out

            return self._forward(x, *scales), gradient

        before = tf.constant(0.0) if self.before is None else self.before.log_scale
        return function(x, tf.convert_to_tensor(before), tf.convert_to_tensor(self.behind.log_scale))


def _nearest(x: Any, scale: Any, grid: Grid | None) -> tuple[Any, Any]:
    """Return x rounded to a grid, which has the scale given, and where it lies inside."""
    if grid is None:
        return x, tf.constant(True)
    low, high = (float(level - grid.zero_point) for level in LEVELS)
    codes = tf.floor(x * (1 / scale) + 0.5)
    inside = tf.logical_and(codes >= low, codes <= high)
    return tf.clip_by_value(codes, low, high) * scale, inside


def _scale_of(grid: Grid | None) -> float:
    return 1.0 if grid is None else grid.scale


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


def _step_of(bias: FloatArray) -> float:
    return float(np.abs(bias).max()) / LARGEST_WEIGHT or 1.0
