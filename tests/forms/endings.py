"""Heads that are less usual, and ends that compile to no classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bodies import SIZE, trunk
from .fitting import CLASSES

_SCALE = 8.0  # of cosines, as ArcFace has it: without it a softmax of them hardly tells classes apart


def pooled(end: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the head that pools, and gives the vector to `end`."""

    def head(keras: Any, x: Any) -> Any:
        return end(keras, keras.layers.GlobalAveragePooling2D()(x))

    return head


def classes(count: int) -> Callable[[Any, Any], Any]:
    """A softmax of so many classes, all but five of which never win."""

    def end(keras: Any, x: Any) -> Any:
        x = keras.layers.Dense(CLASSES, name="head")(x)
        return keras.layers.Dense(count, activation="softmax", name="more")(x)

    return pooled(end)


def tempered(keras: Any, x: Any) -> Any:
    """Logits over a temperature, as models are calibrated."""
    return keras.layers.Softmax()(keras.layers.Dense(CLASSES, name="head")(x) / 1.7)


def written_out(keras: Any, x: Any) -> Any:
    """A softmax by arithmetic."""
    x = keras.ops.exp(keras.layers.Dense(CLASSES, name="head")(x))
    return x / keras.ops.sum(x, axis=-1, keepdims=True)


def log_softmax(keras: Any, x: Any) -> Any:
    return keras.ops.log_softmax(keras.layers.Dense(CLASSES, name="head")(x))


def cosines(keras: Any, x: Any) -> Any:
    """Cosines between the feature and one vector per class, scaled: ArcFace's head at inference."""
    x = keras.layers.UnitNormalization()(x)
    return keras.layers.Softmax()(keras.layers.Dense(CLASSES, name="head")(x) * _SCALE)


def argmax(keras: Any, x: Any) -> Any:
    return keras.ops.argmax(keras.layers.Dense(CLASSES, name="head")(x), axis=-1)


def argmax_kept(keras: Any, x: Any) -> Any:
    return keras.ops.argmax(keras.layers.Dense(CLASSES, name="head")(x), axis=-1, keepdims=True)


def hundredths(keras: Any, x: Any) -> Any:
    """An age: a sigmoid times a hundred."""
    return keras.layers.Dense(1, activation="sigmoid", name="head")(x) * 100.0


def softplus(keras: Any, x: Any) -> Any:
    return keras.layers.Dense(2, activation="softplus", name="head")(x)


def angles(keras: Any, x: Any) -> Any:
    """Sine and cosine of an angle."""
    return keras.layers.Dense(2, activation="tanh", name="head")(x)


def residual(keras: Any, x: Any) -> Any:
    """Two blocks of a transformer's kind, without attention."""
    layers, width = keras.layers, x.shape[-1]
    for _ in range(2):
        y = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def spectral(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.SpectralNormalization(layers.Dense(32, activation="relu"))(x)
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def monte_carlo(keras: Any, x: Any) -> Any:
    """Dropout that stays: answers are random on purpose."""
    x = keras.layers.Dropout(0.5)(x, training=True)
    return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)


def merged(keras: Any, x: Any) -> Any:
    """All the layers that merge two branches."""
    layers = keras.layers
    a, b = (layers.Dense(16, activation="relu", name=f"branch_{name}")(x) for name in "ab")
    kinds = ("Multiply", "Minimum", "Maximum", "Subtract", "Average")
    x = layers.Concatenate()([getattr(layers, kind)()([a, b]) for kind in kinds])
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def tokens(keras: Any, x: Any) -> Any:
    """The map as a sequence of its positions."""
    height, width, channels = x.shape[1:]
    return keras.layers.Reshape((height * width, channels))(x)


def attended(keras: Any, x: Any) -> Any:
    """Multi-head attention over the map, then a vector."""
    layers = keras.layers
    x = tokens(keras, layers.Conv2D(32, 1)(x))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 16)(y, y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def recurrent(*, unroll: bool) -> Callable[[Any, Any], Any]:
    """A GRU over the positions of the map."""

    def head(keras: Any, x: Any) -> Any:
        layers = keras.layers
        x = layers.GRU(16, unroll=unroll)(tokens(keras, layers.AveragePooling2D(2)(x)))
        return layers.Dense(CLASSES, activation="softmax", name="head")(x)

    return head


def separable(keras: Any, x: Any) -> Any:
    layers = keras.layers
    x = layers.SeparableConv2D(32, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.SeparableConv2D(32, 3, activation="swish")(x))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def along_positions(keras: Any, x: Any) -> Any:
    """Permute and Reshape between dense layers, as mixers have them."""
    layers = keras.layers
    x = tokens(keras, layers.Conv2D(16, 1)(x))
    x = layers.Dense(8, activation="relu")(layers.Permute((2, 1))(x))
    x = layers.Flatten()(layers.Permute((2, 1))(x))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def dense_on_map(keras: Any, x: Any) -> Any:
    """Dense layers on four dimensions, and the pooling last."""
    layers = keras.layers
    x = layers.Dense(24, activation="relu")(x)
    x = layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Softmax()(layers.Reshape((CLASSES,))(x))


def pooled_by_window(keras: Any, x: Any) -> Any:
    """An average over a window as large as the map, then Flatten."""
    layers = keras.layers
    x = layers.Flatten()(layers.AveragePooling2D(tuple(x.shape[1:3]))(x))
    return layers.Dense(CLASSES, activation="softmax", name="head")(x)


def upsampled(keras: Any, x: Any) -> Any:
    """A segmenter's decoder: twice as large by a transposed convolution, again by copying, then a mask."""
    layers = keras.layers
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.UpSampling2D(2)(x)
    return layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)


def attended_twice(keras: Any, x: Any) -> Any:
    """CBAM: what channels and what positions count, each by means and maxima; then cut off."""
    layers, ops = keras.layers, keras.ops
    hidden, back = layers.Dense(8, activation="relu"), layers.Dense(x.shape[-1])
    pooled = (layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x))
    weights = layers.Activation("sigmoid")(layers.Add()([back(hidden(one)) for one in pooled]))
    x = layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(weights)])
    both = layers.Concatenate()([function(x, axis=-1, keepdims=True) for function in (ops.mean, ops.max)])
    x = layers.Multiply()([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid")(both)])
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(CLASSES, activation="softmax", name="head")(ops.clip(x, -1.0, 1.0))


def einsum(keras: Any, x: Any) -> Any:
    x = keras.layers.EinsumDense("ab,bc->ac", output_shape=16, bias_axes="c", activation="relu")(x)
    return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)


def operations(keras: Any, x: Any) -> Any:
    """Functions of `keras.ops` in place of layers."""
    ops = keras.ops
    x = ops.silu(ops.mean(x, axis=(1, 2)))
    x = ops.concatenate([x, ops.maximum(x, 0.1) - ops.minimum(x, 0.2)], axis=-1)
    return ops.softmax(keras.layers.Dense(CLASSES, name="head")(x))


def functions(keras: Any, x: Any) -> Any:
    """Functions of TensorFlow on the tensors of tf_keras, which makes layers of them."""
    import tensorflow as tf

    x = tf.nn.silu(tf.reduce_mean(x, axis=[1, 2]))
    x = tf.concat([x, tf.square(x) * 0.5], axis=-1)
    return tf.nn.softmax(keras.layers.Dense(CLASSES, name="head")(x))


def shared(keras: Any, x: Any) -> Any:
    """One dense layer for two poolings."""
    layers = keras.layers
    hidden = layers.Dense(16, activation="relu", name="shared")
    both = [hidden(layers.GlobalAveragePooling2D()(x)), hidden(layers.GlobalMaxPooling2D()(x))]
    return layers.Dense(CLASSES, activation="softmax", name="head")(layers.Concatenate()(both))


def ensemble(keras: Any) -> Any:
    """The mean of the answers of two EfficientNets."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = trunk(keras)(image)
    other = keras.models.clone_model(trunk(keras, width=0.3))
    other.name = "other"
    y = other(image)
    scores = [
        layers.Dense(CLASSES, activation="softmax", name=name)(layers.GlobalAveragePooling2D()(one))
        for name, one in (("head", x), ("second", y))
    ]
    return keras.Model(image, layers.Average()(scores))


def boxes(keras: Any, x: Any) -> Any:
    """A detector's raw answer: values per position."""
    return tokens(keras, keras.layers.Conv2D(9, 1)(x))
