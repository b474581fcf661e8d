"""Vectors: which are embeddings, and which are the scores of classes, by the operations they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

from edgefx.errors import ModelError
from edgefx.models.hints import NO_HINTS
from edgefx.models.load import load
from edgefx.models.outputs import describe
from edgefx.types import ModelTask, OutputKind, OutputSpec

Build = Callable[[Any], Any]

SIDE = 16


def features(x: Any, activation: str = "swish", channels: int = 8) -> Any:
    """A map as the last block of an EfficientNet leaves it."""
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return layers.Activation(activation)(layers.BatchNormalization()(x))


def mean(x: Any) -> Any:
    return layers.GlobalAveragePooling2D()(x)


def answers(model: Any, *, within: bool = False) -> tuple[OutputSpec, ...]:
    """Trace a model, within a function that is called if so said, and return what it answers."""

    def answered(image: Any) -> list[Any]:
        return list(tf.nest.flatten((tf.function(model) if within else model)(image, training=False)))

    signature = [tf.TensorSpec([1, SIDE, SIDE, 3], tf.float32)]
    graph = tf.function(answered, input_signature=signature, autograph=False).get_concrete_function().graph
    names = [f"output{number}" for number in range(len(graph.outputs))]
    return describe(graph, names, NO_HINTS, source="m.keras")


def traced(build: Build) -> OutputSpec:
    image = keras.Input((SIDE, SIDE, 3))
    (found,) = answers(keras.Model(image, build(layers.Conv2D(8, 3, strides=2, padding="same")(image))))
    return found


def residual(x: Any) -> Any:
    """ConvNeXt's end: the sum of a block and what went around it."""
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))
    return layers.Add()([x, y])


def excited(x: Any) -> Any:
    x = features(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, gate])


def generalized_mean(x: Any) -> Any:
    return ops.mean(ops.maximum(features(x), 1e-6) ** 3.0, axis=(1, 2)) ** (1 / 3)


_EMBEDDINGS: dict[str, Build] = {
    "mean": lambda x: mean(features(x)),
    "maximum": lambda x: layers.GlobalMaxPooling2D()(features(x)),
    "mean and maximum": lambda x: layers.Concatenate()(
        [mean(y := features(x)), layers.GlobalMaxPooling2D()(y)]
    ),
    "mean, dropout, BatchNormalization": lambda x: layers.BatchNormalization()(
        layers.Dropout(0.2)(mean(features(x)))
    ),
    "mean, LayerNormalization": lambda x: layers.LayerNormalization()(mean(features(x))),
    "generalized mean": generalized_mean,
    "Flatten": lambda x: layers.Flatten()(features(x)),
    "window, Flatten": lambda x: layers.Flatten()(layers.AveragePooling2D(8)(features(x))),
    "VGG": lambda x: mean(layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x))),
    "ConvNeXt": lambda x: layers.LayerNormalization()(mean(residual(x))),
    "gate": lambda x: mean(excited(x)),
    "MobileNetV3's last hidden layer": lambda x: layers.Flatten()(
        layers.Activation("hard_silu")(layers.Conv2D(8, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    ),
    "PReLU": lambda x: mean(layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))),
    "norm of GroupNormalization": lambda x: mean(
        layers.Activation("swish")(layers.GroupNormalization(groups=2)(x))
    ),
    "UnitNormalization": lambda x: layers.UnitNormalization()(layers.Dense(8)(mean(features(x)))),
    "ops.normalize": lambda x: ops.normalize(layers.Dense(8)(mean(features(x)))),
    "l2_normalize in a Lambda": lambda x: layers.Lambda(lambda y: tf.math.l2_normalize(y, axis=-1))(
        layers.Dense(8)(mean(features(x)))
    ),
    "over its norm": lambda x: (
        (y := layers.Dense(8)(mean(features(x)))) / ops.norm(y, axis=-1, keepdims=True)
    ),
    "over its norm, by arithmetic": lambda x: (
        (y := layers.Dense(8)(mean(features(x))))
        / (ops.expand_dims(ops.sqrt(ops.sum(y**2, axis=-1)), -1) + 1e-9)
    ),
    "length 64": lambda x: 64.0 * layers.UnitNormalization()(layers.Dense(8)(mean(features(x)))),
    "mean of two of length 1": lambda x: layers.Average()(
        [layers.UnitNormalization()(layers.Dense(8)(mean(x))) for _ in "ab"]
    ),
} | {
    name: lambda x, name=name: mean(features(x, name))
    for name in ("relu", "relu6", "hard_silu", "gelu", "elu", "selu", "leaky_relu", "mish")
}


def cosines(x: Any) -> Any:
    x = layers.UnitNormalization()(mean(features(x)))
    return 30.0 * layers.Dense(5, use_bias=False, kernel_constraint="unit_norm")(x)


def distances(x: Any) -> Any:
    """How far the classes' centres are: the logits of a prototype network."""
    centres = layers.Embedding(5, 8)(ops.arange(5))
    return -ops.sum((ops.expand_dims(mean(features(x)), 1) - centres) ** 2, axis=-1)


def written_out(x: Any) -> Any:
    x = ops.exp(layers.Dense(5)(mean(features(x))))
    return x / ops.sum(x, axis=-1, keepdims=True)


_SCORES: dict[str, Build] = {
    "dense": lambda x: layers.Dense(5)(mean(features(x))),
    "dense, ReLU": lambda x: layers.Dense(5, activation="relu")(mean(features(x))),
    "dense, temperature": lambda x: layers.Dense(5)(mean(features(x))) / 1.7,
    "dense, BatchNormalization": lambda x: layers.BatchNormalization()(layers.Dense(5)(mean(features(x)))),
    "dense, LayerNormalization": lambda x: layers.LayerNormalization()(layers.Dense(5)(mean(features(x)))),
    "mean of two": lambda x: layers.Average()([layers.Dense(5)(mean(features(x))) for _ in "ab"]),
    "mean of a stack": lambda x: ops.mean(ops.stack([layers.Dense(5)(mean(features(x))) for _ in "ab"]), 0),
    "fully convolutional": lambda x: mean(layers.Conv2D(5, 1)(features(x))),
    "fully convolutional, normalized": lambda x: mean(
        layers.BatchNormalization()(layers.Conv2D(5, 1)(features(x)))
    ),
    "fully convolutional, mean of two": lambda x: mean(
        layers.Add()([layers.Conv2D(5, 1)(features(x)) for _ in "ab"])
    ),
    "SqueezeNet": lambda x: mean(layers.Conv2D(5, 1, activation="relu")(features(x))),
    "dense on a map": lambda x: mean(layers.Dense(5, activation="relu")(features(x))),
    "scaled cosines": cosines,
    "distances": distances,
    "softmax by arithmetic": written_out,
    "log-softmax": lambda x: ops.log_softmax(layers.Dense(5)(mean(features(x)))),
    "softmax": lambda x: layers.Dense(5, activation="softmax")(layers.UnitNormalization()(mean(features(x)))),
    "sigmoids": lambda x: layers.Dense(5, activation="sigmoid")(mean(features(x))),
    "sigmoids, pooled": lambda x: mean(layers.Conv2D(5, 1, activation="sigmoid")(features(x))),
    "softplus": lambda x: layers.Dense(5, activation="softplus")(mean(features(x))),
}


@pytest.mark.parametrize("name", _EMBEDDINGS)
def test_vectors_that_are_surely_embeddings(name: str) -> None:
    assert traced(_EMBEDDINGS[name]).task is ModelTask.EMBEDDING


@pytest.mark.parametrize("name", _SCORES)
def test_vectors_that_may_be_scores(name: str) -> None:
    assert traced(_SCORES[name]).task is ModelTask.CLASSIFICATION


def several(units: int, activation: str | None, x: Any) -> list[Any]:
    return [layers.Dense(units, activation=activation)(mean(features(x))) for _ in "abc"]


@pytest.mark.parametrize(
    ("build", "task", "output"),
    [
        (lambda x: layers.Average()(several(5, "softmax", x)), "classification", "probabilities"),
        (lambda x: ops.mean(ops.stack(several(5, "softmax", x)), axis=0), "classification", "probabilities"),
        (lambda x: 0.7 * several(5, "softmax", x)[0] + 0.3 * several(5, "softmax", x)[0], "classification",
         "probabilities"),
        (written_out, "classification", "probabilities"),
        (lambda x: layers.Average()(several(1, "sigmoid", x)), "binary", "probabilities"),
        (lambda x: layers.Average()(several(5, None, x)), "classification", "logits"),
        (lambda x: layers.Add()(several(5, "softmax", x)), "classification", "logits"),
        (lambda x: layers.Maximum()(several(5, "softmax", x)), "classification", "logits"),
        (lambda x: layers.Average()([*several(5, "softmax", x), *several(5, "sigmoid", x)]), "classification",
         "logits"),
    ],
)  # fmt: skip
def test_means_of_scores_are_scores(build: Build, task: str, output: str) -> None:
    found = traced(build)
    assert (found.task, found.output) == (ModelTask(task), OutputKind(output))


def test_a_softmax_over_one_value_is_refused() -> None:
    with pytest.raises(ModelError, match="which is 1 for every image") as caught:
        traced(lambda x: layers.Dense(1, activation="softmax")(mean(features(x))))
    assert "a sigmoid in its place" in caught.value.hint


def old_net(end: Callable[[Any, Any], Any]) -> Any:
    """A net of tf_keras, whose normalizations are operations of their own."""
    old = tf_keras.layers
    image = old.Input((SIDE, SIDE, 3))
    x = old.BatchNormalization()(old.Conv2D(8, 3, use_bias=False)(image))
    return tf_keras.Model(image, end(old, old.GlobalAveragePooling2D()(old.Activation("swish")(x))))


@pytest.mark.parametrize("within", [False, True], ids=["flat", "in a function"])
@pytest.mark.parametrize(
    ("end", "task"),
    [
        (lambda old, x: old.LayerNormalization()(old.Dropout(0.1)(x)), ModelTask.EMBEDDING),
        (lambda old, x: old.UnitNormalization()(old.Dense(4)(x)), ModelTask.EMBEDDING),
        (lambda old, x: old.LayerNormalization()(old.Dense(4)(x)), ModelTask.CLASSIFICATION),
    ],
    ids=["pooled", "length 1", "dense"],
)
def test_nets_of_tf_keras(*, end: Callable[[Any, Any], Any], task: ModelTask, within: bool) -> None:
    assert [one.task for one in answers(old_net(end), within=within)] == [task]


def test_each_output_of_a_saved_model(tmp_path: Path) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    pooled = mean(features(image))
    ends = {"kind": layers.Dense(5)(pooled), "pooled": pooled, "unit": layers.UnitNormalization()(pooled)}
    keras.Model(image, ends).export(str(tmp_path / "saved"), verbose=False)
    found = {one.name: one.task for one in load(str(tmp_path / "saved")).spec.outputs}
    assert found == {
        "kind": ModelTask.CLASSIFICATION,
        "pooled": ModelTask.EMBEDDING,
        "unit": ModelTask.EMBEDDING,
    }


def test_the_signature_of_images_is_compiled(tmp_path: Path) -> None:
    """Models for serving have a signature of encoded files, and sometimes one of pixels."""
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, layers.Dense(5)(mean(image)))

    def decoded(content: Any) -> Any:
        pixels = tf.io.decode_image(content, channels=3, expand_animations=False)
        return tf.image.resize(tf.cast(pixels, tf.float32), (SIDE, SIDE))

    def of_files(files: Any) -> Any:
        pixels = tf.map_fn(decoded, files, fn_output_signature=tf.float32)
        return model(tf.ensure_shape(pixels, [None, SIDE, SIDE, 3]))

    def signature(function: Callable[[Any], Any], shape: list[int | None], dtype: Any) -> Any:
        return tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)

    served = tf.Module()
    served.weights = model.weights
    served.of_files = signature(of_files, [None], tf.string)
    served.of_pixels = signature(lambda pixels: model(pixels) + 0.0, [None, SIDE, SIDE, 3], tf.float32)
    signatures = {"serving_default": served.of_files, "of pixels": served.of_pixels}
    tf.saved_model.save(served, str(tmp_path / "both"), signatures=signatures)
    loaded = load(str(tmp_path / "both"))
    assert loaded.spec.classes == 5
    assert any("the signature 'of pixels' of the SavedModel is compiled" in note for note in loaded.notes)
    tf.saved_model.save(served, str(tmp_path / "files"), signatures=served.of_files)
    with pytest.raises(ModelError, match="not a model of images") as caught:
        load(str(tmp_path / "files"))
    assert "encoded files" in caught.value.hint


@pytest.mark.parametrize("merge", [layers.Multiply, layers.Add])
def test_a_graph_made_to_be_read_for_ever_is_not(merge: type[layers.Layer]) -> None:
    def merged(x: Any) -> Any:
        one, other = mean(x), mean(ops.tanh(x))
        for _ in range(24):
            one, other = other, merge()([one, other])
        return other

    assert traced(merged).task is ModelTask.CLASSIFICATION
