"""Small EfficientNets saved in every way that users save theirs; used by test_models_*.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 32
CLASSES = 5


def images(height: int = SIZE, width: int = SIZE, *, count: int = 6) -> Any:
    """Smooth random images of different brightness: like photographs, neighbouring pixels are alike."""
    rng = np.random.default_rng(0)
    light = np.linspace(0.1, 1.0, count)[:, None, None, None]
    coarse = (rng.uniform(0, 255, (count, 5, 5, 3)) * light).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height))) for c in coarse])


def settle(model: Any) -> Any:
    """Give a trunk the statistics of real use: BatchNorm fitted to images, then all but trivial.

    A fresh EfficientNet gives the same scores for all images, which would hide any mistake.
    """
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "Normalization" and layer.weights:
            statistics = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0]
            layer.set_weights([np.array(value) for value in statistics])
            layer.finalize_state()
        if type(layer).__name__ == "BatchNormalization":
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.6, 1.6, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            layer.momentum = 0.0  # so that one call sets the moving statistics to the batch's
    model(images(count=16).astype(np.float32), training=True)
    return model


def randomise(model: Any) -> Any:
    """Give the head's layers, and BatchNorm outside the trunk, weights that are not trivial."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if layer.name.startswith("batch_normalization"):
            layer.set_weights([rng.uniform(0.6, 1.6, w.shape) for w in layer.get_weights()])
        elif layer.name.startswith(("head", "predictions")):
            layer.set_weights([rng.normal(0, 0.05, w.shape) for w in layer.get_weights()])
    return model


def trunk(keras: Any, *, size: int | None = SIZE, name: str = "efficientnet-tiny", top: bool = False) -> Any:
    """An EfficientNet of three blocks, of Keras 3 or tf_keras, that tells images apart."""
    if keras.__name__ == "keras":
        from keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
    else:
        from tf_keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
    # An unlucky draw is so badly conditioned that Keras differs from itself by 2e-5 between batch sizes.
    keras.utils.set_random_seed(0)
    model = EfficientNet(
        0.1,
        0.1,
        SIZE,
        depth_divisor=4,
        blocks_args=DEFAULT_BLOCKS_ARGS[:3],
        weights=None,
        include_top=top,
        input_shape=(size, size, 3),
        classes=CLASSES,
        **{"name" if keras.__name__ == "keras" else "model_name": name},
    )
    return settle(model)


def augmentation(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomContrast(0.1)],
        name="augment",
    )


def nested_functional(
    keras: Any, *, activation: str | None = "softmax", size: int | None = SIZE, augmented: bool = True
) -> Any:
    """The usual way to fine-tune: augmentation, trunk as one layer, own head."""
    layers = keras.layers
    image = keras.Input((size, size, 3))
    x = layers.RandomZoom(0.1)(augmentation(keras)(image)) if augmented else image
    x = trunk(keras, size=size)(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(image, layers.Dense(CLASSES, activation=activation, name="head")(x))


def nested_sequential(keras: Any, *, augmented: bool = True) -> Any:
    """Sequential all the way, with a hidden layer in the head and softmax as a layer of its own."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            *([augmentation(keras), layers.GaussianNoise(0.1)] if augmented else []),
            trunk(keras),
            layers.GlobalAveragePooling2D(),
            layers.Dense(12, activation="swish", name="head_hidden"),
            layers.Dropout(0.2),
            layers.Dense(CLASSES, name="head"),
            layers.Softmax(),
        ]
    )


def nested_twice(keras: Any) -> Any:
    """A model in a model in a model, with the names of layers repeated at each level."""
    layers = keras.layers
    inner = keras.Input((SIZE, SIZE, 3))
    features = keras.Sequential([trunk(keras), layers.GlobalMaxPooling2D()], name="features")
    middle = keras.Model(
        inner, layers.Dense(8, activation="relu", name="head")(features(inner)), name="middle"
    )
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Dense(CLASSES, name="head")(middle(image))
    return keras.Model(image, layers.Activation("softmax")(x))


def shared_trunk(keras: Any) -> Any:
    """One trunk called twice: on the image and on the image turned over."""
    layers = keras.layers
    image, base = keras.Input((SIZE, SIZE, 3)), trunk(keras)
    turned = layers.AveragePooling2D(1)(layers.Permute((2, 1, 3))(image))
    both = layers.Add()([base(image), base(turned)])
    x = layers.Flatten()(both)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def unusual_layers(keras: Any) -> Any:
    """Layers and operations that edgefx does not know and calls as they are."""
    layers = keras.layers
    image = keras.Input((40, 48, 3))
    x = layers.Resizing(SIZE, SIZE)(image)
    x = x / 2.0 + 3.0
    x = trunk(keras)(x)
    x = layers.SeparableConv2D(12, 3, padding="same", activation="gelu")(x)
    x = layers.LayerNormalization()(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.Concatenate()([x, layers.Conv2D(4, 1, activation="hard_sigmoid")(x)])
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(CLASSES, 1, name="head")(x)
    return keras.Model(image, layers.Softmax()(layers.Flatten()(x)))


def unfoldable_batchnorm(keras: Any) -> Any:
    """Pre-activation BatchNorm, and one whose convolution has a second reader."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.ZeroPadding2D(2)(x)
    x = layers.Conv2D(8, 3, strides=2, groups=1)(x)
    y = layers.BatchNormalization()(x)
    x = layers.Add()([x, layers.ReLU(6.0)(y)])
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(8, 3, padding="same", groups=2, activation="tanh")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="sigmoid", name="head")(x))


def v2(keras: Any) -> Any:
    """A small EfficientNetV2, with fused MBConv blocks."""
    from keras.src.applications.efficientnet_v2 import DEFAULT_BLOCKS_ARGS, EfficientNetV2

    assert keras.__name__ == "keras"
    model = EfficientNetV2(
        0.1,
        0.1,
        SIZE,
        depth_divisor=4,
        min_depth=4,
        blocks_args=DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"][:4],
        weights=None,
        name="efficientnetv2-b0",
        input_shape=(SIZE, SIZE, 3),
        classes=CLASSES,
    )
    return settle(model)


def one_block(keras: Any, *, classes: int = CLASSES) -> Any:
    """A stem and one block of an EfficientNet, with all that a block has."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(layers.Rescaling(1 / 255)(image))
    stem = layers.Activation("swish")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(stem)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    gate = layers.Conv2D(2, 1, activation="swish")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([stem, x]))
    return settle(keras.Model(image, layers.Dense(classes, activation="softmax", name="head")(x)))


def save_block(folder: Path) -> Path:
    """Save `one_block` for the classes of digits: it is loaded and converted in a second."""
    import keras

    path = folder / "block.keras"
    one_block(keras, classes=10).save(path)
    return path


def mixed_precision(keras: Any) -> Any:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return nested_functional(keras)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _save(build: Callable[..., Any], keras: Any, path: Path, **options: Any) -> Path:
    model = randomise(build(keras, **options))
    model.save(path)
    return path


def _export(model: Any, path: Path) -> Path:
    model.export(str(path))
    return path


def save_case(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Build and save the model `name` in `folder`; returns what a user would pass to edgefx."""
    import keras
    import tf_keras

    for library in (keras, tf_keras):
        library.utils.set_random_seed(seed)
    if name == "tf_keras functional as HDF5 called .keras":
        saved = _save(nested_functional, tf_keras, folder / "model.h5")
        return Path(shutil.move(saved, folder / "model.keras"))
    cases: dict[str, Callable[[], Path]] = {
        "functional": lambda: _save(trunk, keras, folder / "m.keras", top=True),
        "v2": lambda: _save(v2, keras, folder / "m.keras"),
        "one block": lambda: _save(one_block, keras, folder / "m.keras"),
        "nested functional": lambda: _save(nested_functional, keras, folder / "m.keras"),
        "nested functional h5": lambda: _save(nested_functional, keras, folder / "m.h5"),
        "nested sequential": lambda: _save(nested_sequential, keras, folder / "m.keras"),
        "nested twice": lambda: _save(nested_twice, keras, folder / "m.keras"),
        "logits": lambda: _save(nested_functional, keras, folder / "m.keras", activation=None),
        "any size": lambda: _save(nested_functional, keras, folder / "m.keras", size=None),
        "shared trunk": lambda: _save(shared_trunk, keras, folder / "m.keras"),
        "unusual layers": lambda: _save(unusual_layers, keras, folder / "m.keras"),
        "unfoldable batchnorm": lambda: _save(unfoldable_batchnorm, keras, folder / "m.keras"),
        "mixed precision": lambda: _save(mixed_precision, keras, folder / "m.keras"),
        "tf_keras functional h5": lambda: _save(nested_functional, tf_keras, folder / "m.h5"),
        "tf_keras sequential h5": lambda: _save(nested_sequential, tf_keras, folder / "m.h5"),
        "tf_keras nested twice zip": lambda: _save(nested_twice, tf_keras, folder / "m.keras"),
        "tf_keras unusual h5": lambda: _save(unusual_layers, tf_keras, folder / "m.h5"),
        "tf_keras mixed precision h5": lambda: _save(mixed_precision, tf_keras, folder / "m.h5"),
        "tf_keras SavedModel": lambda: _save(nested_sequential, tf_keras, folder / "saved"),
        "exported SavedModel": lambda: _export(
            randomise(nested_functional(keras, augmented=False)), folder / "exported"
        ),
        "exported with augmentation": lambda: _export(nested_sequential(keras), folder / "exported"),
        "tf_keras exported SavedModel": lambda: _export(
            randomise(nested_sequential(tf_keras, augmented=False)), folder / "exported"
        ),
    }
    return cases[name]()


CASES = (
    "functional",
    "v2",
    "nested functional",
    "nested functional h5",
    "nested sequential",
    "nested twice",
    "logits",
    "any size",
    "shared trunk",
    "unusual layers",
    "unfoldable batchnorm",
    "mixed precision",
    "tf_keras functional h5",
    "tf_keras functional as HDF5 called .keras",
    "tf_keras sequential h5",
    "tf_keras nested twice zip",
    "tf_keras unusual h5",
    "tf_keras mixed precision h5",
    "tf_keras SavedModel",
    "exported SavedModel",
    "tf_keras exported SavedModel",
)
