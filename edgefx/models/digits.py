"""The embedded default model: a small genuine EfficientNet for handwritten digits.

EfficientNet-B0 (Tan & Le 2019, table 1) with compound scaling taken down instead of up: the same stem, seven
stages of MBConv blocks with squeeze-and-excitation and swish, and top, at a fraction of its width and depth.
Trained by calibration/train_digits.py on scikit-learn's handwritten digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgefx.models.backend import import_keras

WIDTH = 0.25
DEPTH = 0.25
DIVISOR = 8
DROPOUT = 0.2
DROP_CONNECT = 0.1


@dataclass(frozen=True)
class _Stage:
    kernel: int
    repeats: int
    filters: int
    expand: int
    stride: int


_B0 = (
    _Stage(3, 1, 16, 1, 1),
    _Stage(3, 2, 24, 6, 2),
    _Stage(5, 2, 40, 6, 2),
    _Stage(3, 3, 80, 6, 2),
    _Stage(5, 3, 112, 6, 1),
    _Stage(5, 4, 192, 6, 2),
    _Stage(3, 1, 320, 6, 1),
)


def build_digits(*, classes: int = 10, height: int = 32, width: int = 32) -> Any:
    """Return the untrained Keras model: [N, height, width, 3] in [0, 255] to [N, classes], softmax."""
    keras = import_keras()
    layers = keras.layers
    image = keras.Input((height, width, 3), name="input_layer")
    x = layers.Rescaling(1.0 / 255.0, name="rescaling")(image)
    x = _conv(layers, x, _round_filters(32), 3, stride=2, name="stem")
    blocks = [
        (stage, number, letter)
        for number, stage in enumerate(_B0, start=1)
        for letter in range(math.ceil(DEPTH * stage.repeats))
    ]
    for index, (stage, number, letter) in enumerate(blocks):
        x = _mbconv(
            layers,
            x,
            stage,
            stride=stage.stride if letter == 0 else 1,
            drop=DROP_CONNECT * index / len(blocks),
            name=f"block{number}{chr(ord('a') + letter)}_",
        )
    x = _conv(layers, x, _round_filters(1280), 1, stride=1, name="top")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(DROPOUT, name="top_dropout")(x)
    scores = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, scores, name="digits")


def _round_filters(filters: int) -> int:
    """Width scaling: the nearest multiple of the divisor, at most 10 % below (Tan & Le's reference code)."""
    scaled = filters * WIDTH
    rounded = max(DIVISOR, int(scaled + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * scaled else rounded


def _conv(layers: Any, x: Any, filters: int, kernel: int, *, stride: int, name: str) -> Any:
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation("swish", name=f"{name}_activation")(x)


def _mbconv(layers: Any, inputs: Any, stage: _Stage, *, stride: int, drop: float, name: str) -> Any:
    """Inverted residual block with squeeze-and-excitation."""
    channels = inputs.shape[-1]
    filters = _round_filters(stage.filters)
    x = inputs
    if stage.expand != 1:
        x = _conv(layers, x, channels * stage.expand, 1, stride=1, name=f"{name}expand")
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}dwconv",
    )(x)
    x = layers.BatchNormalization(name=f"{name}bn")(x)
    x = layers.Activation("swish", name=f"{name}activation")(x)
    expanded = x.shape[-1]
    squeeze = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
    squeeze = layers.Reshape((1, 1, expanded), name=f"{name}se_reshape")(squeeze)
    squeeze = layers.Conv2D(max(1, channels // 4), 1, activation="swish", name=f"{name}se_reduce")(squeeze)
    squeeze = layers.Conv2D(expanded, 1, activation="sigmoid", name=f"{name}se_expand")(squeeze)
    x = layers.Multiply(name=f"{name}se_excite")([x, squeeze])
    x = layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}project_conv"
    )(x)
    x = layers.BatchNormalization(name=f"{name}project_bn")(x)
    if stride == 1 and filters == channels:
        if drop > 0:
            x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x
