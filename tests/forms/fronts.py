"""What users put in front of an EfficientNet: crops, borders, statistics, other kinds of input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bodies import SIZE, trunk
from .fitting import CLASSES
from .heads import around, dense


def by(name: str, *arguments: Any, **options: Any) -> Callable[[Any, Any], Any]:
    """Return the front that is one Keras layer."""

    def front(keras: Any, image: Any) -> Any:
        return getattr(keras.layers, name)(*arguments, **options)(image)

    return front


def adapted(keras: Any, image: Any) -> Any:
    """Scaled to [0, 1], then standardized by statistics that were adapted to images."""
    layers = keras.layers
    return layers.Normalization()(layers.Rescaling(1 / 255)(image))


def shaken(keras: Any, image: Any) -> Any:
    """Augmentation of many kinds, of which nothing is left at inference."""
    layers = keras.layers
    for layer in (
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomBrightness(0.2),
        layers.RandomHue(0.1),
        layers.RandomErasing(),
        layers.RandomGaussianBlur(),
    ):
        image = layer(image)
    return image


def one_frame(keras: Any) -> Any:
    """A model of clips of one frame, fed an image."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.TimeDistributed(trunk(keras))(layers.Reshape((1, SIZE, SIZE, 3))(image))
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def clip(keras: Any) -> Any:
    """A model of clips."""
    layers = keras.layers
    frames = keras.Input((2, SIZE, SIZE, 3))
    x = layers.TimeDistributed(layers.Conv2D(8, 3))(frames)
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(frames, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def with_metadata(keras: Any) -> Any:
    """An image, and three numbers beside it."""
    layers = keras.layers
    image, numbers = keras.Input((SIZE, SIZE, 3), name="photo"), keras.Input((3,), name="age_sex_site")
    x = layers.GlobalAveragePooling2D()(trunk(keras)(image))
    x = layers.Concatenate()([x, layers.Dense(8, activation="relu")(numbers)])
    return keras.Model([image, numbers], layers.Dense(CLASSES, activation="softmax", name="head")(x))


def channels_first(keras: Any) -> Any:
    """Three channels first, as PyTorch has them."""
    layers = keras.layers
    image = keras.Input((3, SIZE, SIZE))
    x = layers.GlobalAveragePooling2D()(trunk(keras)(layers.Permute((2, 3, 1))(image)))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def of_input(**options: Any) -> Callable[[Any], Any]:
    """Return the builder of the usual model with another `keras.Input`."""

    def build(keras: Any) -> Any:
        image = keras.Input((SIZE, SIZE, 3), **options)
        return keras.Model(image, dense(CLASSES, "softmax")(keras, trunk(keras)(image)))

    return build


def of_policy(name: str, head: Callable[[Any, Any], Any] | None = None) -> Callable[[Any], Any]:
    """Return the builder of the usual model under a dtype policy."""

    def build(keras: Any) -> Any:
        keras.mixed_precision.set_global_policy(name)
        try:
            return around(head=head)(keras)
        finally:
            keras.mixed_precision.set_global_policy("float32")

    return build


def scores_in_float32(keras: Any, x: Any) -> Any:
    """What the guides on mixed precision say: the last activation in float32."""
    layers = keras.layers
    x = layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D()(x))
    return layers.Activation("softmax", dtype="float32")(x)
