"""What users put in front of an EfficientNet and behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bodies import SIZE, trunk
from .fitting import CLASSES


def around(
    front: Callable[[Any, Any], Any] | None = None,
    head: Callable[[Any, Any], Any] | None = None,
    *,
    size: Any = (SIZE, SIZE),
    channels: int = 3,
) -> Callable[[Any], Any]:
    """Return the builder of a functional model: what is in front, the trunk as one layer, what is behind."""

    def build(keras: Any) -> Any:
        image = keras.Input((*size, channels), name="photo")
        x = front(keras, image) if front is not None else image
        x = trunk(keras, size=size if front is None else x.shape[1:3], channels=x.shape[-1])(x)
        return keras.Model(image, (head or dense(CLASSES, "softmax"))(keras, x))

    return build


def dense(units: int, activation: str | None) -> Callable[[Any, Any], Any]:
    """The usual head."""

    def head(keras: Any, x: Any) -> Any:
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dropout(0.3)(x)
        return keras.layers.Dense(units, activation=activation, name="head")(x)

    return head


def sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            trunk(keras),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(CLASSES, activation="softmax", name="head"),
        ]
    )


def sequential_twice(keras: Any) -> Any:
    """A Sequential in a Sequential, with layers for training only."""
    layers = keras.layers
    body = keras.Sequential([keras.Input((SIZE, SIZE, 3)), trunk(keras), layers.GlobalMaxPooling2D()])
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augment"),
            body,
            layers.Dense(16, activation="swish"),
            layers.Dense(CLASSES, name="head"),
            layers.Softmax(),
        ]
    )


def augmented(keras: Any, image: Any) -> Any:
    layers = keras.layers
    for layer in (
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
    ):
        image = layer(image)
    return image


def rescaled(keras: Any, image: Any) -> Any:
    """Scaled once more than the trunk wants it: the user's mistake, and the model's own business."""
    return keras.layers.Rescaling(1 / 127.5, offset=-1)(image)


def called(keras: Any, image: Any) -> Any:
    """The scaling as arithmetic, as `preprocess_input` does it."""
    del keras
    return image / 127.5 - 1.0


def lambda_(keras: Any, image: Any) -> Any:
    return keras.layers.Lambda(lambda x: x / 127.5 - 1.0, name="scale")(image)


def resized(keras: Any, image: Any) -> Any:
    return keras.layers.Resizing(SIZE, SIZE)(image)


def grey_repeated(keras: Any, image: Any) -> Any:
    return keras.layers.Concatenate()([image, image, image])


def grey_convolved(keras: Any, image: Any) -> Any:
    return keras.layers.Conv2D(3, 1, name="colours")(image)


def normalized_after(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D()(x))
    return layers.Activation("softmax")(layers.BatchNormalization()(x))


def dropouts(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.GaussianNoise(0.1)(layers.SpatialDropout2D(0.2)(x))
    x = layers.GaussianDropout(0.1)(layers.AlphaDropout(0.1)(layers.GlobalAveragePooling2D()(x)))
    x = layers.ActivityRegularization(l2=1e-4)(x)
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def two_branches(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def averaged(keras: Any, x: Any) -> Any:
    """The mean of a branch's ReLU and another's tanh."""
    layers = keras.layers
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Average()([layers.Dense(24, activation="relu")(x), layers.Dense(24, activation="tanh")(x)])
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def deep(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.Dense(32, use_bias=False)(layers.Flatten()(x))
    x = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(x))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def convolved(keras: Any, x: Any) -> Any:
    """A head without a dense layer."""
    layers = keras.layers
    x = layers.Conv2D(CLASSES, 1, name="head")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Softmax()(layers.Flatten()(x))


def pooled_by_attention(keras: Any, x: Any) -> Any:
    layers = keras.layers
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height * width, channels))(x)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(layers.Dense(16, activation="tanh")(x)))
    x = layers.Flatten()(layers.Dot(axes=1)([weights, x]))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def embedded(keras: Any, x: Any) -> Any:
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.UnitNormalization()(keras.layers.Dense(32, name="vector")(x))


def nothing(keras: Any, x: Any) -> Any:
    """The map itself."""
    del keras
    return x


def class_and_vector(keras: Any, x: Any) -> Any:
    pooled = keras.layers.GlobalAveragePooling2D(name="vector")(x)
    return [keras.layers.Dense(CLASSES, activation="softmax", name="head")(pooled), pooled]


def class_and_quality(keras: Any, x: Any) -> dict[str, Any]:
    """A dictionary of outputs: what it is, and how good it is."""
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    kind = keras.layers.Dense(CLASSES, activation="softmax", name="head")(pooled)
    return {"class": kind, "quality": keras.layers.Dense(1, name="grade")(pooled)}


def class_and_embedding(keras: Any, x: Any) -> list[Any]:
    """What it is, and a vector of length 1 to search by."""
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    vector = keras.layers.Dense(32, name="vector")(pooled)
    kind = keras.layers.Dense(CLASSES, activation="softmax", name="head")(pooled)
    return [kind, keras.layers.UnitNormalization(name="embedding")(vector)]


def pyramid(keras: Any) -> Any:
    """The maps of a backbone in three scales, as detectors take them."""
    base = trunk(keras)
    scales: dict[int, Any] = {}
    for layer in base.layers:
        if layer.__class__.__name__ == "Activation" and len(layer.output.shape) == 4:
            scales[layer.output.shape[1]] = layer.output
    return keras.Model(base.inputs, list(scales.values())[:3])


def twins(keras: Any) -> Any:
    """One trunk called twice: on the image, and on it turned over."""
    layers = keras.layers
    image, base = keras.Input((SIZE, SIZE, 3)), trunk(keras)
    both = layers.Add()([base(image), base(layers.Permute((2, 1, 3))(image))])
    x = layers.GlobalAveragePooling2D()(both)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def subclassed(keras: Any) -> Any:
    """A model whose layers only its own `call` connects; see customs.py."""
    from .customs import Subclassed

    del keras
    model = Subclassed(classes=CLASSES)
    model.build((None, SIZE, SIZE, 3))
    return model


def custom_layer(keras: Any) -> Any:
    from .customs import Doubled

    def head(keras: Any, x: Any) -> Any:
        x = Doubled(name="doubled")(keras.layers.GlobalAveragePooling2D()(x))
        return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)

    return around(head=head)(keras)
