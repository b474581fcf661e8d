"""INT8 weights for OpenVINO, and what the bias must make good.

Rounded weights shift the mean of every output channel, and so do quantized inputs: behind a swish most values
lie between -0.28 and 0, closer together than the levels. Such a shift is known exactly from the mean of each
input channel, and the bias takes it back: E[W x] - E[W' x'] = W E[x] - W' E[x'] (Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019, with means from images).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.runtimes.openvino.calibrate import FloatArray

_LEVELS = 127
# 255 * (|a| + |b|) <= 32767 for the codes of two weights, and room for each to be rounded up once. Signal to
# noise of EfficientNet-B0's logits on a CPU without VNNI: 17.3 dB without a bound, 30.5 with this one, 30.3
# with half the levels for all weights. digits: 20.5, 29.7, 30.3.
_PAIR = 126


def read(operation: Any) -> FloatArray:
    """Return the weights of a convolution or matrix product, output channels first, as stored.

    Shapes: [out, in, kh, kw]; [groups, out, in, kh, kw]; [out, in].
    """
    values = np.asarray(operation.input_value(1).get_node().data, np.float64)
    if operation.get_type_name() == "MatMul" and not operation.get_attributes()["transpose_b"]:
        values = values.T
    return values


def scales(weights: FloatArray, *, groups: bool, narrow: bool = False) -> FloatArray:
    """Return the step of each output channel, shaped for broadcasting over `weights`.

    Args:
        weights: As `read` returns them.
        groups: Whether they have a leading axis of groups.
        narrow: Make steps so large that two neighbouring input channels can never saturate a sum in 16 bits
            (`Hardware.saturates_pairs`), whatever the activations are.
    """
    axes = tuple(range(2 if groups else 1, weights.ndim))
    least = np.abs(weights).max(axis=axes, keepdims=True) / _LEVELS
    if narrow and not groups:
        pairs = np.abs(weights)
        if pairs.shape[1] % 2:
            pairs = np.concatenate([pairs, np.zeros_like(pairs[:, :1])], axis=1)
        pairs = pairs[:, 0::2] + pairs[:, 1::2]  # what the kernels of oneDNN add in one register
        least = np.maximum(least, pairs.max(axis=axes, keepdims=True) / _PAIR)
    steps: FloatArray = np.maximum(least, np.finfo(np.float32).tiny).astype(np.float32)
    return steps.astype(np.float64)


def to_nearest(weights: FloatArray, steps: FloatArray) -> NDArray[np.int8]:
    """Round to the nearest of the levels -127 ... 127."""
    return np.clip(np.round(weights / steps), -_LEVELS, _LEVELS).astype(np.int8)


def shift(
    weights: FloatArray, stored: FloatArray, mean: FloatArray, quantized_mean: FloatArray, *, groups: bool
) -> FloatArray:
    """Return what the bias must add, [output channels].

    Args:
        weights: Float, as `read` returns them.
        stored: The same after quantization, in real units.
        mean: Of each input channel.
        quantized_mean: Of each input channel after quantization of the activations.
        groups: Whether the weights have a leading axis of groups.
    """
    if groups:
        count, _, per_group = weights.shape[:3]
        before, after = (values.reshape(count, 1, per_group) for values in (mean, quantized_mean))
        taps = weights.sum(axis=(3, 4)), stored.sum(axis=(3, 4))
    else:
        before, after = mean, quantized_mean
        spatial = tuple(range(2, weights.ndim))
        taps = weights.sum(axis=spatial), stored.sum(axis=spatial)
    difference: FloatArray = (taps[0] * before).sum(axis=-1) - (taps[1] * after).sum(axis=-1)
    return difference.reshape(-1)


def store(operation: Any, integers: NDArray[np.int8], steps: FloatArray, *, at_once: bool = False) -> None:
    """Replace the weights by INT8 ones.

    Args:
        operation: Changed in place.
        integers: The weights, shaped as `read` returns them.
        steps: Of each output channel.
        at_once: Unpack them when the model is opened. What computes in INT8 cannot have that. For what
            computes in float, OpenVINO 2026.4 unpacks INT8 weights in every inference: it leaves Convert and
            Multiply alone, lest they be folded before they can be fused. Another Convert between the two, to
            float16 that holds all codes, is not what it looks for.
    """
    import openvino as ov
    from openvino import opset13 as ops

    if operation.get_type_name() == "MatMul" and not operation.get_attributes()["transpose_b"]:
        integers, steps = np.ascontiguousarray(integers.T), steps.T
    codes = ops.constant(integers)
    if at_once:
        codes = ops.convert(codes, ov.Type.f16)
    unpacked = ops.multiply(ops.convert(codes, ov.Type.f32), ops.constant(steps.astype(np.float32)))
    operation.input(1).replace_source_output(unpacked.output(0))


def store_as_half(operation: Any) -> None:
    """Store the weights in float16 where they fit; they are unpacked when the model is opened."""
    import openvino as ov
    from openvino import opset13 as ops

    values = operation.input_value(1).get_node().data
    if np.abs(values).max() <= np.finfo(np.float16).max:
        unpacked = ops.convert(ops.constant(values.astype(np.float16)), ov.Type.f32)
        operation.input(1).replace_source_output(unpacked.output(0))


def add_to_bias(operation: Any, amount: FloatArray) -> None:
    """Add `amount` [output channels] to what the operation puts out; into its bias where it has one."""
    from openvino import opset13 as ops

    shape = [1] * len(operation.get_output_shape(0))
    shape[1] = amount.size
    readers = list(operation.output(0).get_target_inputs())
    if len(readers) == 1 and readers[0].get_node().get_type_name() == "Add":
        add, other = readers[0].get_node(), 1 - readers[0].get_index()
        bias = add.input_value(other).get_node()
        if bias.get_type_name() == "Constant" and np.size(bias.data) == amount.size:
            total = (np.reshape(bias.data, shape) + amount.reshape(shape)).astype(np.float32)
            add.input(other).replace_source_output(ops.constant(total).output(0))
            return
    added = ops.add(operation.output(0), ops.constant(amount.reshape(shape).astype(np.float32)))
    added.set_friendly_name(f"{operation.get_friendly_name()}/bias")
    for reader in readers:
        reader.replace_source_output(added.output(0))
