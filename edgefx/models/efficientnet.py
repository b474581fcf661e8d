"""EfficientNets that Keras has no function for, as tables: Lite, EdgeTPU, and the small default model.

One builder follows Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
2019: a stem, stages of inverted residual blocks, a top and a classifier, wider and deeper by coefficients.
What the families do otherwise is a field of `Architecture`. Tables and coefficients: tensorflow/tpu,
``models/official/efficientnet``, ``lite/`` and ``edgetpu/``. Layers have the names of Keras' B0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgefx.models.backend import import_keras

_STEM, _TOP = 32, 1280
_LIMIT = 0.9  # rounding may take a tenth of the channels away, not more


@dataclass(frozen=True)
class BlockStage:
    """Blocks of one kind in a row; the first has the stride.

    Attributes:
        kernel: Of the depthwise convolution, or of the one in its place.
        repeats: How many blocks, before depth scaling.
        filters: Channels that each puts out, before width scaling.
        expand: Factor of the channels inside.
        stride: Of the first block.
        fused: One convolution of all channels expands and sees the neighbours; none is depthwise.
        skip: Whether a block's input is added to its output where the shapes allow it.
        counted_from: Channels that `expand` multiplies, before width scaling; None: the block's own input.
    """

    kernel: int
    repeats: int
    filters: int
    expand: int
    stride: int
    fused: bool = False
    skip: bool = True
    counted_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family member.

    Attributes:
        name: Of the Keras model.
        stages: From stem to top.
        width: Coefficient of the channels.
        depth: Coefficient of the blocks per stage.
        divisor: Channels are multiples of it.
        activation: Behind convolutions, by its Keras name.
        excite: Whether blocks squeeze and excite.
        fixed_ends: Whether stem, top, and the depth of the first and last stage are not scaled.
        scale: Of pixels in [0, 255].
        offset: Added behind it.
        dropout: In front of the classifier.
        drop_connect: Of the last block; it grows from block to block.
        pads: Whether zeros in front of a stride are a layer of their own, as in Keras' B0. Weights that were
            trained with others go in then (`edgefx.models.pytorch`).
    """

    name: str
    stages: tuple[BlockStage, ...]
    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8
    activation: str = "swish"
    excite: bool = True
    fixed_ends: bool = False
    scale: float = 1 / 255
    offset: float = 0.0
    dropout: float = 0.2
    drop_connect: float = 0.2
    pads: bool = True

    def filters(self, count: int, *, end: bool = False) -> int:
        """Scale channels and round them to a multiple of the divisor, at most 10 % below."""
        if end and self.fixed_ends:
            return count
        scaled = count * self.width
        rounded = max(self.divisor, int(scaled + self.divisor / 2) // self.divisor * self.divisor)
        return rounded + self.divisor if rounded < _LIMIT * scaled else rounded

    def repeats(self, number: int) -> int:
        """Scale the blocks of a stage, counted from 0."""
        count = self.stages[number].repeats
        if self.fixed_ends and number in (0, len(self.stages) - 1):
            return count
        return math.ceil(self.depth * count)


B0_STAGES = (
    BlockStage(3, 1, 16, 1, 1),
    BlockStage(3, 2, 24, 6, 2),
    BlockStage(5, 2, 40, 6, 2),
    BlockStage(3, 3, 80, 6, 2),
    BlockStage(5, 3, 112, 6, 1),
    BlockStage(5, 4, 192, 6, 2),
    BlockStage(3, 1, 320, 6, 1),
)
_EDGETPU_STAGES = (
    BlockStage(3, 1, 24, 4, 1, fused=True, skip=False, counted_from=24),
    BlockStage(3, 2, 32, 8, 2, fused=True),
    BlockStage(3, 4, 48, 8, 2, fused=True),
    BlockStage(5, 5, 96, 8, 2),
    BlockStage(5, 4, 144, 8, 1),
    BlockStage(5, 2, 192, 8, 2),
)
_MEAN, _DEVIATION = 127, 128  # of pixels, in the reference code


def _lite(number: int, width: float, depth: float, dropout: float) -> Architecture:
    return Architecture(
        name=f"efficientnet-lite{number}",
        stages=B0_STAGES,
        width=width,
        depth=depth,
        activation="relu6",
        excite=False,
        fixed_ends=True,
        dropout=dropout,
        scale=1 / _DEVIATION,
        offset=-_MEAN / _DEVIATION,
    )


def _edgetpu(size: str, width: float, depth: float, dropout: float) -> Architecture:
    return Architecture(
        name=f"efficientnet-edgetpu-{size}",
        stages=_EDGETPU_STAGES,
        width=width,
        depth=depth,
        activation="relu",
        excite=False,
        dropout=dropout,
        scale=1 / _DEVIATION,
        offset=-_MEAN / _DEVIATION,
    )


ARCHITECTURES = {
    "digits": Architecture(
        name="digits", stages=B0_STAGES, width=0.25, depth=0.25, drop_connect=0.1, pads=False
    ),
    "b0": Architecture(name="efficientnetb0", stages=B0_STAGES),  # to be scaled; Keras has B0 itself
    "lite0": _lite(0, 1.0, 1.0, 0.2),
    "lite1": _lite(1, 1.0, 1.1, 0.2),
    "lite2": _lite(2, 1.1, 1.2, 0.3),
    "lite3": _lite(3, 1.2, 1.4, 0.3),
    "lite4": _lite(4, 1.4, 1.8, 0.3),
    "edgetpu-s": _edgetpu("s", 1.0, 1.0, 0.2),
    "edgetpu-m": _edgetpu("m", 1.0, 1.1, 0.2),
    "edgetpu-l": _edgetpu("l", 1.2, 1.4, 0.3),
}


def build(architecture: Architecture, *, classes: int, height: int, width: int) -> Any:
    """Return the untrained Keras model: [N, height, width, 3] in [0, 255] to [N, classes], softmax."""
    return _Builder(architecture).model(classes, height, width)


class _Builder:
    """Adds layer to layer."""

    def __init__(self, architecture: Architecture) -> None:
        self.keras = import_keras()
        self.layers = self.keras.layers
        self.form = architecture

    def model(self, classes: int, height: int, width: int) -> Any:
        layers, form = self.layers, self.form
        image = self.keras.Input((height, width, 3), name="input_layer")
        x = layers.Rescaling(form.scale, form.offset, name="rescaling")(image)
        x = self.convolution(x, form.filters(_STEM, end=True), 3, stride=2, name="stem")
        blocks = [
            (stage, number, letter)
            for number, stage in enumerate(form.stages)
            for letter in range(form.repeats(number))
        ]
        for index, (stage, number, letter) in enumerate(blocks):
            x = self.block(
                x,
                stage,
                first=letter == 0,
                drop=form.drop_connect * index / len(blocks),
                name=f"block{number + 1}{chr(ord('a') + letter)}_",
            )
        x = self.convolution(x, form.filters(_TOP, end=True), 1, name="top")
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(form.dropout, name="top_dropout")(x)
        scores = layers.Dense(classes, activation="softmax", name="predictions")(x)
        return self.keras.Model(image, scores, name=form.name)

    def padded(self, x: Any, kernel: int, stride: int, *, name: str) -> tuple[Any, str]:
        """Put the zeros of "same" padding in front of a stride; returns them and the padding left to do."""
        if stride == 1 or not self.form.pads:
            return x, "same"
        sides = [(kernel // 2 - 1 + size % 2, kernel // 2) for size in x.shape[1:3]]
        return self.layers.ZeroPadding2D(sides, name=name)(x), "valid"

    def convolution(
        self, x: Any, filters: int, kernel: int, *, stride: int = 1, name: str, padding: str = "same"
    ) -> Any:
        if padding == "same":
            x, padding = self.padded(x, kernel, stride, name=f"{name}_conv_pad")
        x = self.layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        x = self.layers.BatchNormalization(name=f"{name}_bn")(x)
        return self.layers.Activation(self.form.activation, name=f"{name}_activation")(x)

    def block(self, inputs: Any, stage: BlockStage, *, first: bool, drop: float, name: str) -> Any:
        """Inverted residual block."""
        layers, stride = self.layers, stage.stride if first else 1
        channels, filters = inputs.shape[-1], self.form.filters(stage.filters)
        x = (self.fused if stage.fused else self.separable)(inputs, stage, stride=stride, name=name)
        x = layers.Conv2D(
            filters,
            1,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}project_conv",
        )(x)
        x = layers.BatchNormalization(name=f"{name}project_bn")(x)
        if stage.skip and stride == 1 and filters == channels:
            if drop > 0:
                x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
            x = layers.Add(name=f"{name}add")([x, inputs])
        return x

    def separable(self, inputs: Any, stage: BlockStage, *, stride: int, name: str) -> Any:
        layers, channels, x = self.layers, inputs.shape[-1], inputs
        if stage.expand != 1:
            x = self.convolution(x, channels * stage.expand, 1, name=f"{name}expand")
        x, padding = self.padded(x, stage.kernel, stride, name=f"{name}dwconv_pad")
        x = layers.DepthwiseConv2D(
            stage.kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            depthwise_initializer="he_normal",
            name=f"{name}dwconv",
        )(x)
        x = layers.BatchNormalization(name=f"{name}bn")(x)
        x = layers.Activation(self.form.activation, name=f"{name}activation")(x)
        return self.excited(x, max(1, channels // 4), name=f"{name}se_") if self.form.excite else x

    def fused(self, inputs: Any, stage: BlockStage, *, stride: int, name: str) -> Any:
        """Expand by one convolution.

        The reference code strides in the projection behind it. As that looks at every other position, so does
        a convolution with zeros on all sides and the stride itself, for a quarter of the work.
        """
        base = inputs.shape[-1] if stage.counted_from is None else self.form.filters(stage.counted_from)
        x, padding = inputs, "same"
        if stride > 1:
            x = self.layers.ZeroPadding2D(stage.kernel // 2, name=f"{name}pad")(x)
            padding = "valid"
        name = f"{name}expand"
        return self.convolution(
            x, base * stage.expand, stage.kernel, stride=stride, name=name, padding=padding
        )

    def excited(self, x: Any, reduced: int, *, name: str) -> Any:
        """Squeeze and excite."""
        layers, channels = self.layers, x.shape[-1]
        gate = layers.GlobalAveragePooling2D(name=f"{name}squeeze")(x)
        gate = layers.Reshape((1, 1, channels), name=f"{name}reshape")(gate)
        gate = layers.Conv2D(reduced, 1, activation=self.form.activation, name=f"{name}reduce")(gate)
        gate = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}expand")(gate)
        return layers.Multiply(name=f"{name}excite")([x, gate])
