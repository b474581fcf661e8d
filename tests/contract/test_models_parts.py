"""Custom layers that are made of Keras layers, models in 16 bits throughout, and models of keras-hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.errors import ModelError
from edgefx.models.graph.canonical import canonicalize, compare
from edgefx.models.hints import Hints
from edgefx.models.load import LoadedModel, load
from edgefx.types import FrozenGraph, ModelTask, OutputKind

from .models_zoo import images

BLOCK = """
import keras

@keras.saving.register_keras_serializable("mine")
class Block(keras.layers.Layer):
    def __init__(self, channels, weighted=False, **options):
        super().__init__(**options)
        self.channels, self.weighted = channels, weighted
        self.convolution = keras.layers.Conv2D(channels, 3, padding="same", groups=2, use_bias=False)
        self.norm = keras.layers.BatchNormalization()
        self.act = keras.layers.Activation("swish")

    def build(self, shape):
        self.convolution.build(shape)
        self.norm.build((*shape[:-1], self.channels))
        if self.weighted:
            self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
        self.built = True

    def call(self, x, training=None):
        y = self.act(self.norm(self.convolution(x), training=training))
        return y * self.factor if self.weighted else y + x

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "weighted": self.weighted}
"""


def _equal(loaded: LoadedModel, folder: Path) -> FrozenGraph:
    graph = canonicalize(loaded, folder / "work")
    pixels = images(graph.spec.height, graph.spec.width)
    assert compare(loaded.predict(pixels), graph, pixels).max_abs_dp <= 1e-5
    return graph


@pytest.mark.parametrize("weighted", [False, True])
def test_a_block_of_keras_layers_is_taken_apart(weighted: bool, tmp_path: Path) -> None:
    """With weights of its own it is kept whole, grouped convolutions and all."""
    import keras

    code = tmp_path / "block.py"
    code.write_text(BLOCK)
    scope: dict[str, Any] = {"__name__": "block"}
    exec(code.read_text(), scope)  # noqa: S102 - the text above
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2)(layers.Rescaling(1 / 255)(image))
    x = scope["Block"](8, weighted=weighted, name="block_1")(x)
    model = keras.Model(
        image, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)), name="blocks"
    )
    model.save(tmp_path / "m.keras")
    loaded = load(str(tmp_path / "m.keras"), hints=Hints(custom_objects=code))
    graph = _equal(loaded, tmp_path)
    kinds = {layer.name: layer.kind for layer in graph.layers}
    parts = {name: kind for name, kind in kinds.items() if name.startswith("block_1")}
    if weighted:
        assert parts == {"block_1": "Block"}
    else:
        assert sorted(parts.values()) == ["Activation", "Add", "Conv2D"]  # the normalization is folded
        assert all(name.startswith("block_1_") for name in parts)


def test_a_group_for_each_channel_is_a_depthwise_convolution(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, groups=3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(12, 3, groups=6, dilation_rate=2, use_bias=False)(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    keras.Model(image, x).save(tmp_path / "m.keras")
    graph = _equal(load(str(tmp_path / "m.keras")), tmp_path)
    assert graph.path.read_bytes().count(b"DepthwiseConv2dNative") == 2


def test_a_recurrent_layer_must_be_unrolled(tmp_path: Path) -> None:
    import keras

    layers = keras.layers

    def saved(*, unroll: bool) -> str:
        image = keras.Input((8, 8, 3))
        x = layers.Reshape((4, 12))(layers.AveragePooling2D((2, 4))(layers.Conv2D(6, 1)(image)))
        x = layers.GRU(4, unroll=unroll)(x)
        path = tmp_path / "m.keras"
        keras.Model(image, layers.Dense(3, activation="softmax")(x)).save(path)
        return str(path)

    with pytest.raises(ModelError, match="part of a loop, as recurrent layers have") as caught:
        canonicalize(load(saved(unroll=False)), tmp_path / "loop")
    assert "unroll=True" in caught.value.hint
    _equal(load(saved(unroll=True)), tmp_path)


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_a_model_of_16_bits_computes_in_32(policy: str, tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    image = keras.Input((16, 16, 3))
    keras.config.set_dtype_policy(policy)
    try:
        x = layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)(image)
        x = layers.BatchNormalization()(layers.Conv2D(8, 3, activation="swish")(x))
        x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    finally:
        keras.config.set_dtype_policy("float32")
    keras.Model(image, x).save(tmp_path / "m.keras")
    loaded = load(str(tmp_path / "m.keras"))
    assert {weight.dtype for weight in loaded.model.weights} == {"float32"}
    assert f"saved with {policy}: the baseline computes in float32" in loaded.notes[0]
    _equal(loaded, tmp_path)


@pytest.mark.parametrize("keepdims", [False, True])
def test_the_number_of_a_class_is_no_answer(keepdims: bool, tmp_path: Path) -> None:
    import keras

    image = keras.Input((16, 16, 3))
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image))
    keras.Model(image, keras.ops.argmax(x, -1, keepdims=keepdims)).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="ArgMax" if keepdims else "shape \\[N\\]") as caught:
        load(str(tmp_path / "m.keras"))
    assert "argmax" in caught.value.hint


# ------------------------------------------------------------------------------------------------ keras-hub


def _efficientnet(hub: Any) -> Any:
    return hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[0.25] * 2,
        stackwise_depth_coefficients=[0.4] * 2,
        stackwise_squeeze_and_excite_ratios=[0.25] * 2,
        stackwise_block_types=["v1"] * 2,
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[32, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 6],
        stackwise_strides=[1, 2],
    )


def _mobilenet(hub: Any) -> Any:
    return hub.models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu"] * 2, ["hard_swish"] * 2],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=96,
        input_num_filters=16,
        image_shape=(32, 32, 3),
        depthwise_filters=8,
        squeeze_and_excite=0.5,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=64,
    )


@pytest.mark.parametrize(("family", "build"), [("EfficientNet", _efficientnet), ("MobileNet", _mobilenet)])
def test_a_classifier_of_keras_hub(family: str, build: Any, tmp_path: Path) -> None:
    hub = pytest.importorskip("keras_hub")
    converter = getattr(hub.layers, f"{family}ImageConverter")(
        image_size=(32, 32), scale=[1 / 58, 1 / 57, 1 / 57], offset=[-2.1, -2.0, -1.8]
    )
    preprocessor = getattr(hub.models, f"{family}ImageClassifierPreprocessor")(image_converter=converter)
    model = getattr(hub.models, f"{family}ImageClassifier")(
        backbone=build(hub), num_classes=5, preprocessor=preprocessor, activation="softmax"
    )
    model.save_to_preset(str(tmp_path / "preset"))
    model.save(tmp_path / "m.keras")
    pixels = images(32, 32)
    want = np.asarray(model(preprocessor(pixels.astype(np.float32)), training=False))
    for path in (tmp_path / "preset", tmp_path / "m.keras"):
        loaded = load(str(path))
        assert (loaded.spec.height, loaded.spec.classes) == (32, 5)
        # MobileNet's classifier makes nothing of its activation.
        kind = OutputKind.PROBABILITIES if family == "EfficientNet" else OutputKind.LOGITS
        assert loaded.spec.output is kind
        assert "--resize crop" in loaded.notes[0]
        np.testing.assert_allclose(loaded.predict(pixels), want, atol=1e-5)
        graph = _equal(loaded, tmp_path / f"{path.stem}-work")
        kinds = {layer.kind for layer in graph.layers}
        assert {"Conv2D", "Activation", "Dense"} <= kinds
        assert not [kind for kind in kinds if "Block" in kind or kind == "BatchNormalization"]


def test_a_backbone_of_keras_hub_has_no_size(tmp_path: Path) -> None:
    hub = pytest.importorskip("keras_hub")
    _efficientnet(hub).save_to_preset(str(tmp_path / "preset"))
    loaded = load(str(tmp_path / "preset"), input_size=32)
    assert loaded.spec.task is ModelTask.FEATURES
    assert "raw pixels" in loaded.notes[0]


def test_names_that_tensorflow_does_not_take(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(image))
    x = layers.Dense(3, activation="softmax")(x)
    keras.Model(image, x, name="fl\u00f6wers, v2 (final)").save(tmp_path / "m.keras")
    _equal(load(str(tmp_path / "m.keras")), tmp_path)


def test_a_tensor_is_put_out_once(tmp_path: Path) -> None:
    import keras

    image = keras.Input((8, 8, 3))
    vector = keras.layers.GlobalAveragePooling2D(name="vector")(image)
    scores = keras.layers.Dense(3, activation="softmax", name="scores")(vector)
    keras.Model(image, [scores, vector, scores]).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="outputs scores and scores_1 are the same tensor") as caught:
        load(str(tmp_path / "m.keras"))
    assert "--head scores" in caught.value.hint


def test_a_saved_model_of_16_bits_is_refused(tmp_path: Path) -> None:
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        image = keras.Input((8, 8, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
        x = keras.layers.Dense(3, activation="softmax", dtype="float32")(x)
    finally:
        keras.config.set_dtype_policy("float32")
    keras.Model(image, x).export(str(tmp_path / "saved"), verbose=False)
    with pytest.raises(ModelError, match="computes in 16 bits") as caught:
        load(str(tmp_path / "saved"))
    assert ".keras" in caught.value.hint


def test_a_custom_activation_in_hdf5_of_tf_keras(tmp_path: Path) -> None:
    """Which tf_keras itself cannot read back."""
    import tf_keras

    def halved(x: Any) -> Any:
        return x * 0.5

    layers = tf_keras.layers
    image = tf_keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation=halved)(image))
    x = layers.Activation(halved)(layers.Dense(3)(x))
    tf_keras.Model(image, layers.Softmax()(x)).save(tmp_path / "m.h5")
    code = tmp_path / "code.py"
    code.write_text("def halved(x):\n    return x * 0.5\n")
    _equal(load(str(tmp_path / "m.h5"), hints=Hints(custom_objects=code)), tmp_path)
    with pytest.raises(ModelError, match="'halved'"):
        load(str(tmp_path / "m.h5"))
