"""What stands below the heads: a small EfficientNet of all seven stages, and nets of other makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .fitting import CLASSES

SIZE = 32


def trunk(keras: Any, *, size: Any = (SIZE, SIZE), channels: int = 3, width: float = 0.25) -> Any:
    """Return an EfficientNet of three blocks, of Keras 3 or tf_keras, a quarter as wide as B0.

    More of them, with random weights, are so sensitive that no figure of theirs means anything.
    """
    if keras.__name__ == "keras":
        from keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
    else:
        from tf_keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
    return EfficientNet(
        width,
        0.3,
        SIZE,
        blocks_args=DEFAULT_BLOCKS_ARGS[:3],
        weights=None,
        include_top=False,
        input_shape=(*size, channels),
        **{"name" if keras.__name__ == "keras" else "model_name": "efficientnet"},
    )


def headed(keras: Any, base: Any) -> Any:
    """Return the base, an application without its top, with the usual head."""
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(5, activation="softmax", name="head")(x))


def application(name: str, *, module: str = "", size: int = 64, **options: Any) -> Callable[[Any], Any]:
    """Return the builder of one of Keras' applications; those that do not scale pixels get the layer."""

    def build(keras: Any) -> Any:
        function = getattr(getattr(keras.applications, module) if module else keras.applications, name)
        base = function(weights=None, include_top=False, input_shape=(size, size, 3), **options)
        kinds = {type(layer).__name__ for layer in base.layers}
        if not kinds & {"Rescaling", "Normalization"}:
            image = keras.Input((size, size, 3))
            scaled = keras.layers.Rescaling(1 / 127.5, -1)(image)
            x = keras.layers.GlobalAveragePooling2D()(base(scaled))
            return keras.Model(image, keras.layers.Dense(5, activation="softmax", name="head")(x))
        return headed(keras, base)

    return build


def resnet(keras: Any, *, preact: bool = False) -> Any:
    """Return the body of ResNet50, or of its second version, a quarter as wide."""
    from keras.src.applications import resnet as make

    stack = make.stack_residual_blocks_v2 if preact else make.stack_residual_blocks_v1

    def stacks(x: Any) -> Any:
        strides = (2, 2, 2, 1) if preact else (1, 2, 2, 2)
        for number, (filters, blocks, stride) in enumerate(
            zip((16, 32, 64, 128), (3, 4, 6, 3), strides, strict=True)
        ):
            options = {"stride1": stride, "name": f"conv{number + 2}"}
            x = stack(x, filters, blocks, **options)
        return x

    base = make.ResNet(
        stacks, preact, True, weights=None, include_top=False, input_shape=(64, 64, 3), name="resnet50"
    )
    image = keras.Input((64, 64, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return keras.Model(image, keras.layers.Dense(5, activation="softmax", name="head")(x))


def convnext(keras: Any) -> Any:
    """Return ConvNeXt-Tiny, a quarter as wide."""
    from keras.src.applications.convnext import ConvNeXt

    return headed(
        keras,
        ConvNeXt(
            depths=(3, 3, 9, 3),
            projection_dims=(24, 48, 96, 192),
            drop_path_rate=0.0,
            weights=None,
            include_top=False,
            input_shape=(64, 64, 3),
            name="convnext_tiny",
        ),
    )


def densenet(keras: Any) -> Any:
    """Return DenseNet121 with a few blocks of each kind."""
    from keras.src.applications.densenet import DenseNet

    base = DenseNet((2, 3, 4, 3), weights=None, include_top=False, input_shape=(64, 64, 3))
    image = keras.Input((64, 64, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return keras.Model(image, keras.layers.Dense(5, activation="softmax", name="head")(x))


def scaled(keras: Any, image: Any) -> Any:
    """To [-1, 1]."""
    return keras.layers.Rescaling(1 / 127.5, -1)(image)


def net(
    block: Callable[[Any, Any, int], Any], *, stem: int = 16, front: Callable[[Any, Any], Any] = scaled
) -> Callable[[Any], Any]:
    """Return the builder of a plain net: a stem, two of the given blocks, and two on a quarter of the map.

    Args:
        block: Gets Keras, the tensor and the number of channels to put out.
        stem: Channels.
        front: What scales the pixels.
    """

    def build(keras: Any) -> Any:
        layers = keras.layers
        image = keras.Input((SIZE, SIZE, 3))
        x = front(keras, image)
        x = layers.Conv2D(stem, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        for number in range(4):
            if number == 2:
                x = layers.MaxPooling2D()(x)
            x = block(keras, x, stem * (1 if number < 2 else 2))
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(x))

    return build


def activated(function: Any) -> Callable[[Any, Any, int], Any]:
    """Return a block of convolution, normalization and an activation: a name or a layer's builder."""

    def block(keras: Any, x: Any, channels: int) -> Any:
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        return keras.layers.Activation(function)(x) if isinstance(function, str) else function(keras)(x)

    return block


def depthwise(keras: Any, x: Any, channels: int) -> Any:
    """MobileNet's first block."""
    layers = keras.layers
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization()(x))


def normalized(kind: str, **options: Any) -> Callable[[Any, Any, int], Any]:
    """Return a block whose normalization is another than batch normalization."""

    def block(keras: Any, x: Any, channels: int) -> Any:
        x = keras.layers.Conv2D(channels, 3, padding="same")(x)
        return keras.layers.Activation("swish")(getattr(keras.layers, kind)(**options)(x))

    return block


def dilated(keras: Any, x: Any, channels: int) -> Any:
    """Convolutions that leave out every other pixel, and a depthwise one that does."""
    layers = keras.layers
    x = layers.Conv2D(channels, 3, padding="same", dilation_rate=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def grouped(keras: Any, x: Any, channels: int) -> Any:
    """ResNeXt's block."""
    layers = keras.layers
    y = layers.Conv2D(channels, 1, use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Conv2D(channels, 3, padding="same", groups=4, use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    if x.shape[-1] != channels:
        x = layers.Conv2D(channels, 1)(x)
    return layers.ReLU()(layers.Add()([x, y]))


def shuffled(keras: Any, x: Any, channels: int) -> Any:
    """ShuffleNet's: half of the channels are convolved, then they are mixed."""
    layers = keras.layers
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    height, width = x.shape[1:3]
    y = depthwise(keras, x[..., channels // 2 :], channels // 2)
    x = layers.Concatenate()([x[..., : channels // 2], y])
    x = layers.Reshape((height, width, 2, channels // 2))(x)
    return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))


def hourglass(keras: Any, x: Any, channels: int) -> Any:
    """Down and up again, as in segmenters."""
    layers = keras.layers
    y = layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    up = layers.UpSampling2D(interpolation="bilinear")(y)
    y = layers.Conv2DTranspose(channels, 2, strides=2, use_bias=False)(y)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    return layers.Concatenate()([x, y, up])


def excited(gate: Callable[[Any, Any], Any]) -> Callable[[Any, Any, int], Any]:
    """Return a block with a gate on its channels or its positions."""

    def block(keras: Any, x: Any, channels: int) -> Any:
        x = activated("swish")(keras, x, channels)
        return keras.layers.Multiply()([x, gate(keras, x)])

    return block


def squeezed(function: str, *, pool: str = "GlobalAveragePooling2D") -> Callable[[Any, Any], Any]:
    """Squeeze and excite with another last function, or another pooling."""

    def gate(keras: Any, x: Any) -> Any:
        layers, channels = keras.layers, x.shape[-1]
        y = getattr(layers, pool)()(x)
        y = layers.Dense(channels // 4, activation="relu")(y)
        return layers.Reshape((1, 1, channels))(layers.Dense(channels, activation=function)(y))

    return gate


def along_channels(keras: Any, x: Any) -> Any:
    """ECA: a convolution along the channels."""
    layers, channels = keras.layers, x.shape[-1]
    y = layers.Reshape((channels, 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 3, padding="same", activation="sigmoid")(y)
    return layers.Reshape((1, 1, channels))(y)


def positions(keras: Any, x: Any) -> Any:
    """CBAM's second half: where to look, by mean and maximum over the channels."""
    ops = keras.ops
    y = keras.layers.Concatenate()([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)])
    return keras.layers.Conv2D(1, 7, padding="same", activation="sigmoid")(y)


def attentive(keras: Any, x: Any, channels: int) -> Any:
    """Self-attention over the positions of a small map."""
    layers = keras.layers
    x = layers.AveragePooling2D(2)(x) if x.shape[1] > 8 else x
    x = layers.Conv2D(channels, 1)(x)
    height, width = x.shape[1:3]
    tokens = layers.Reshape((height * width, channels))(x)
    seen = layers.LayerNormalization()(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, channels // 2)(seen, seen)])
    return layers.Reshape((height, width, channels))(tokens)


def half_normalized(keras: Any, x: Any, channels: int) -> Any:
    """Normalizations without scale, without centre, and frozen."""
    layers = keras.layers
    x = layers.Conv2D(channels, 3, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    x = layers.BatchNormalization(center=False)(x)
    frozen = layers.BatchNormalization(scale=False, center=False)
    return layers.ReLU()(layers.Add()([x, frozen(layers.Conv2D(channels, 1)(x))]))


def inception(keras: Any, x: Any, channels: int) -> Any:
    """InceptionV3's module: four ways, one of them pooling, one of two one-sided kernels."""
    layers, part = keras.layers, channels // 4

    def convolved(x: Any, size: Any) -> Any:
        x = layers.Conv2D(part, size, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(scale=False)(x))

    ways = [
        convolved(x, 1),
        convolved(convolved(x, 1), 5),
        convolved(convolved(convolved(x, 1), (1, 7)), (7, 1)),
        convolved(layers.AveragePooling2D(3, strides=1, padding="same")(x), 1),
    ]
    return layers.Concatenate()(ways)


def xception(keras: Any, x: Any, channels: int) -> Any:
    """Xception's module: separable convolutions beside a strided shortcut."""
    layers = keras.layers
    short = layers.BatchNormalization()(layers.Conv2D(channels, 1, strides=2, use_bias=False)(x))
    for _ in range(2):
        x = layers.ReLU()(x)
        x = layers.SeparableConv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
    return layers.Add()([layers.MaxPooling2D(3, strides=2, padding="same")(x), short])


def nasnet(keras: Any, x: Any, channels: int) -> Any:
    """A cell of NASNet: sums of separable convolutions, poolings and the input, one beside the other."""
    layers = keras.layers
    x = layers.BatchNormalization()(layers.Conv2D(channels // 2, 1, use_bias=False)(layers.ReLU()(x)))

    def separable(x: Any, size: int) -> Any:
        x = layers.SeparableConv2D(channels // 2, size, padding="same", use_bias=False)(layers.ReLU()(x))
        return layers.BatchNormalization()(x)

    first = layers.Add()([separable(x, 3), x])
    second = layers.Add()([separable(x, 5), layers.AveragePooling2D(3, strides=1, padding="same")(x)])
    return layers.Concatenate()([first, second])


def regnet(keras: Any, x: Any, channels: int) -> Any:
    """RegNetY's block: grouped convolutions and a gate."""
    layers = keras.layers
    short = layers.Conv2D(channels, 1)(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(x)))
    x = layers.Conv2D(channels, 3, padding="same", groups=channels // 8, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Multiply()([x, squeezed("sigmoid")(keras, x)])
    x = layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, short]))


def vgg(keras: Any) -> Any:
    """VGG16, an eighth as wide, with its two hidden dense layers."""
    layers = keras.layers
    image = keras.Input((64, 64, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    for filters, count in ((8, 2), (16, 2), (32, 3), (64, 3), (64, 3)):
        for _ in range(count):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(
                x
            )
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def written_hard_swish(keras: Any) -> Any:
    """Hard swish as tutorials write it: x * relu6(x + 3) / 6."""
    return lambda x: x * keras.activations.relu(x + 3.0, max_value=6.0) / 6.0
