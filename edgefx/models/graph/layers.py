"""What each Keras layer class means in the canonical graph. To support another one: one reader, one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph import ir
from edgefx.types import Spread

# Layers that pass their input through at inference (`training=False`), in Keras 3 and Keras 2. RandomCrop is
# not here (it crops or resizes at inference too), nor AutoContrast and CLAHE (always active).
_RANDOM = frozenset(
    f"Random{what}"
    for what in (
        "Brightness", "ColorDegeneration", "ColorJitter", "Contrast", "ElasticTransform", "Erasing", "Flip",
        "GaussianBlur", "Grayscale", "Height", "Hue", "Invert", "Perspective", "Posterization", "Rotation",
        "Saturation", "Sharpness", "Shear", "Translation", "Width", "Zoom",
    )
) | {
    "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout", "GaussianNoise", "MixUp", "RandAugment",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "StochasticDepth",
}  # fmt: skip
_IDENTITY = _RANDOM | {"ActivityRegularization", "Identity", "InputLayer"}

_ACTIVATION_ALIASES = {"swish": "silu"}
_TINY = 1e-12  # of a squared length: what is less is no direction

Part = tuple[str, str, ir.Op]  # (suffix to the layer's name, Keras class, operation)


def is_library_class(layer: Any) -> bool:
    """Whether the layer's class is Keras' own, not a custom class of the same name."""
    return type(layer).__module__.split(".")[0] in ("keras", "tf_keras")


def is_identity(layer: Any) -> bool:
    """Whether the layer passes its input through at inference."""
    return is_library_class(layer) and type(layer).__name__ in _IDENTITY


def is_random(layer: Any) -> bool:
    """Whether the layer is random, or depends on the rest of the batch, in training mode."""
    return not is_library_class(layer) or type(layer).__name__ in (
        _RANDOM | {"BatchNormalization", "RandomCrop"}
    )


def read_layer(layer: Any, inputs: int) -> list[Part] | None:
    """Return the operations that make up `layer`, applied one after the other; None when it is not known.

    Args:
        layer: A Keras layer or Keras 3 operation.
        inputs: Number of tensors it is called on.
    """
    if is_library_class(layer) and type(layer).__module__.endswith(".applications.convnext"):
        is_scale = type(layer).__name__ == "LayerScale"
        scale = _affine(_float64(layer.gamma), np.zeros(1)) if is_scale else None
        return None if scale is None else [("", "LayerScale", scale)]
    if not is_library_class(layer) or ".layers." not in type(layer).__module__:
        return None  # a custom class, or a Keras 3 operation such as keras.ops.multiply
    kind = type(layer).__name__
    if kind in _MERGING:
        op = _MERGING[kind](layer)
        return None if op is None or inputs < 2 else [("", kind, op)]
    if kind not in _READERS or inputs != 1:
        return None
    op = _READERS[kind](layer)
    if op is None:
        return None
    parts: list[Part] = [] if op == ir.Activation("linear") else [("", kind, op)]
    if isinstance(op, ir.Conv | ir.DepthwiseConv | ir.Dense):
        function = activation_name(layer)
        if function is None:
            call = layer.activation
            parts.append(("_activation", "Activation", ir.Opaque(lambda tensors: [call(tensors[0])])))
        elif function != "linear":
            parts.append(("_activation", "Activation", ir.Activation(function)))
    return parts


def activation_name(layer: Any) -> str | None:
    """The Keras name of a layer's activation function; None for one that is not Keras' own."""
    function = layer.activation
    if function is None:
        return "linear"
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "").split(".")[0] not in ("keras", "tf_keras"):
        return None
    name = _ACTIVATION_ALIASES.get(name, name)
    return name if name in ir.ACTIVATIONS else None


def _numpy(variable: Any) -> ir.Array:
    return _float64(variable).astype(np.float32)


def _float64(value: Any) -> NDArray[np.float64]:
    """A variable, tensor, list or number of either Keras as a NumPy array."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value, np.float64)


def _bias(layer: Any) -> ir.Array | None:
    return _numpy(layer.bias) if layer.use_bias else None


def _channels_last(layer: Any) -> bool:
    return getattr(layer, "data_format", "channels_last") in (None, "channels_last")


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _conv(layer: Any) -> ir.Op | None:
    if not _channels_last(layer) or layer.padding not in ("same", "valid"):
        return None
    kernel, strides = _numpy(layer.kernel), _pair(layer.strides)
    if layer.groups > 1 and kernel.shape[2] == 1 and strides[0] == strides[1]:
        height, width, _, outputs = kernel.shape  # a group for each channel: a depthwise convolution
        return ir.DepthwiseConv(
            kernel=kernel.reshape(height, width, layer.groups, outputs // layer.groups),
            bias=_bias(layer),
            strides=strides,
            dilation=_pair(layer.dilation_rate),
            padding=layer.padding.upper(),
        )
    return ir.Conv(
        kernel=kernel,
        bias=_bias(layer),
        strides=strides,
        dilation=_pair(layer.dilation_rate),
        padding=layer.padding.upper(),
    )


def _depthwise(layer: Any) -> ir.Op | None:
    if not _channels_last(layer) or layer.padding not in ("same", "valid"):
        return None
    kernel = getattr(layer, "depthwise_kernel", None)  # Keras 2; Keras 3 calls it `kernel`
    return ir.DepthwiseConv(
        kernel=_numpy(layer.kernel if kernel is None else kernel),
        bias=_bias(layer),
        strides=_pair(layer.strides),
        dilation=_pair(layer.dilation_rate),
        padding=layer.padding.upper(),
    )


def _dense(layer: Any) -> ir.Op | None:
    return ir.Dense(kernel=_numpy(layer.kernel), bias=_bias(layer))


def _batch_normalization(layer: Any) -> ir.Op | None:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)  # Keras 2 keeps a list
    if axes not in ([-1], [layer.input_spec.ndim - 1]):
        return None
    mean, variance = (_float64(v) for v in (layer.moving_mean, layer.moving_variance))
    gamma = _float64(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = _float64(layer.beta) if layer.center else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return ir.Affine(scale, beta - mean * scale, spread=Spread(mean=beta, deviation=np.abs(gamma)))


def _layer_normalization(layer: Any) -> ir.Op | None:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    # Keras 2 counts axes from the front.
    if axes not in ([-1], [_rank(layer) - 1]) or getattr(layer, "rms_scaling", False):
        return None
    return _normalization_of_each(layer, lambda x: (x, (-1,)))


def _group_normalization(layer: Any) -> ir.Op | None:
    if layer.axis not in (-1, 3) or _rank(layer) != 4:
        return None

    def grouped(x: Any) -> tuple[Any, tuple[int, ...]]:
        import tensorflow as tf

        _, height, width, channels = x.shape
        groups = channels if layer.groups == -1 else layer.groups
        return tf.reshape(x, [1, height * width, groups, channels // groups]), (1, 3)

    return _normalization_of_each(layer, grouped)


def _rank(layer: Any) -> int:
    """Number of axes of what a layer was built for; 0 where it does not say."""
    return len((layer.get_build_config() or {}).get("input_shape") or ())


def _normalization_of_each(layer: Any, arranged: Callable[[Any], tuple[Any, tuple[int, ...]]]) -> ir.Op:
    """Normalize each image by its own figures, in operations that 8-bit runtimes have.

    Keras writes ``x * a + (b - mean * a)``: a NEG, which TFLite computes in float, and a difference of two
    large numbers, which are rounded each. The mean goes first here.

    Args:
        layer: Has an epsilon, and may have scales and offsets per channel.
        arranged: Returns the tensor with the values to normalize together along some axes, and these.
    """
    gamma = _numpy(layer.gamma) if layer.scale else None
    beta = _numpy(layer.beta) if layer.center else None

    def call(tensors: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        raw, (given,) = tf.raw_ops, tensors
        x, axes = arranged(given)
        x = raw.Sub(x=x, y=tf.reduce_mean(x, axes, keepdims=True, name="Mean"), name="Centred")
        variance = tf.reduce_mean(raw.Mul(x=x, y=x, name="Squares"), axes, keepdims=True, name="Variance")
        deviation = raw.Rsqrt(x=raw.AddV2(x=variance, y=float(layer.epsilon), name="Epsilon"), name="Rsqrt")
        x = raw.Mul(x=x, y=deviation, name="Normalized")
        if x.shape != given.shape:
            x = tf.reshape(x, given.shape, name="Reshape")
        if gamma is not None:
            x = raw.Mul(x=x, y=tf.constant(gamma), name="Mul")
        if beta is not None:
            x = raw.AddV2(x=x, y=tf.constant(beta), name="Add")
        return [x]

    return ir.Opaque(call, parameters=sum(0 if one is None else one.size for one in (gamma, beta)))


def _unit_normalization(layer: Any) -> ir.Op | None:
    """Return vectors over their length, written as converters know it: as one operation if they have it."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [_rank(layer) - 1]):
        return None

    def call(tensors: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        return [tf.math.l2_normalize(tensors[0], -1, epsilon=_TINY)]

    return ir.Opaque(call)


def _nearest_upsampling(layer: Any) -> ir.Op | None:
    """Repeat rows and columns by one operation: TFLite has that on integers, and not what Keras does."""
    if layer.interpolation != "nearest" or not _channels_last(layer):
        return None
    rows, columns = _pair(layer.size)

    def call(tensors: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        _, height, width, _ = tensors[0].shape
        size = [rows * height, columns * width]
        return [tf.raw_ops.ResizeNearestNeighbor(images=tensors[0], size=size, name="Nearest")]

    return ir.Opaque(call)


def _rescaling(layer: Any) -> ir.Op | None:
    return _affine(_float64(layer.scale), _float64(layer.offset))


def _normalization(layer: Any) -> ir.Op | None:
    if layer.mean is None:
        return None
    mean, variance = _float64(layer.mean), _float64(layer.variance)
    deviation = np.maximum(
        np.sqrt(variance), 1e-7
    )  # keras.config.epsilon(), whose default no model file records
    if layer.invert:
        return _affine(deviation, mean)
    return _affine(1.0 / deviation, -mean / deviation)


def _affine(scale: Any, offset: Any) -> ir.Op | None:
    """Per channel, or None when it varies along another axis."""
    shapes = [value.shape for value in (scale, offset)]
    if any(any(size != 1 for size in shape[:-1]) for shape in shapes):
        return None
    scale, offset = np.broadcast_arrays(scale.reshape(-1), offset.reshape(-1))
    return ir.Affine(scale, offset)


def _activation(layer: Any) -> ir.Op | None:
    name = activation_name(layer)
    return None if name is None else ir.Activation(name)


def _softmax(layer: Any) -> ir.Op | None:
    axis = layer.axis if isinstance(layer.axis, int) else None
    return ir.Activation("softmax") if axis == -1 else None


def _relu(layer: Any) -> ir.Op | None:
    slope = getattr(layer, "negative_slope", 0.0)
    if slope or layer.threshold or layer.max_value not in (None, 6):
        return None
    return ir.Activation("relu6" if layer.max_value else "relu")


def _global_pool(function: str) -> Callable[[Any], ir.Op | None]:
    def read(layer: Any) -> ir.Op | None:
        return ir.GlobalPool(function, keepdims=bool(layer.keepdims)) if _channels_last(layer) else None

    return read


def _pool(function: str) -> Callable[[Any], ir.Op | None]:
    def read(layer: Any) -> ir.Op | None:
        if not _channels_last(layer):
            return None
        return ir.Pool(function, _pair(layer.pool_size), _pair(layer.strides), layer.padding.upper())

    return read


def _pad(layer: Any) -> ir.Op | None:
    if not _channels_last(layer):
        return None
    (top, bottom), (left, right) = layer.padding
    return ir.Pad(((int(top), int(bottom)), (int(left), int(right))))


def _reshape(layer: Any) -> ir.Op | None:
    return ir.Reshape(tuple(int(size) for size in layer.target_shape))


def _flatten(layer: Any) -> ir.Op | None:
    return ir.Reshape((-1,)) if _channels_last(layer) else None


_READERS: dict[str, Callable[[Any], ir.Op | None]] = {
    "Activation": _activation,
    "AveragePooling2D": _pool("AVG"),
    "BatchNormalization": _batch_normalization,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pool("mean"),
    "GlobalMaxPooling2D": _global_pool("max"),
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "MaxPooling2D": _pool("MAX"),
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "UnitNormalization": _unit_normalization,
    "UpSampling2D": _nearest_upsampling,
    "ZeroPadding2D": _pad,
}

_MERGING: dict[str, Callable[[Any], ir.Op | None]] = {
    "Add": lambda _layer: ir.Add(),
    "Concatenate": lambda layer: ir.Concatenate(int(layer.axis)),
    "Multiply": lambda _layer: ir.Multiply(),
}
