"""A user's own classes: what `--custom-objects` is given."""

from __future__ import annotations

from typing import Any

import keras


class Doubled(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """x + x, by a class that only its author has."""

    def call(self, x: Any) -> Any:
        return x + x


class Subclassed(keras.Model):  # type: ignore[misc]  # keras has no types
    """An EfficientNet's first stages and a head, in a subclass of Model."""

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes
        layers = keras.layers
        self.scale = layers.Rescaling(1 / 255)
        self.stem = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)
        self.stem_norm = layers.BatchNormalization()
        self.depthwise = layers.DepthwiseConv2D(3, padding="same", use_bias=False)
        self.depthwise_norm = layers.BatchNormalization()
        self.project = layers.Conv2D(32, 1, use_bias=False)
        self.project_norm = layers.BatchNormalization()
        self.swish = layers.Activation("swish")
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(classes, activation="softmax", name="head")

    def build(self, shape: Any) -> None:
        self.call(keras.KerasTensor(shape))
        self.built = True

    def call(self, image: Any, training: bool = False) -> Any:
        x = self.swish(self.stem_norm(self.stem(self.scale(image)), training=training))
        x = self.swish(self.depthwise_norm(self.depthwise(x), training=training))
        x = self.project_norm(self.project(x), training=training)
        return self.head(self.pool(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}
