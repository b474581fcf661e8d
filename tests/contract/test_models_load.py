"""What is loaded, and what is refused with a clear error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefx.errors import EdgefxError, ModelError, UsageError
from edgefx.models import zoo
from edgefx.models.graph.canonical import canonicalize, compare
from edgefx.models.load import LoadedModel, load
from edgefx.system.resources import folder
from edgefx.types import OutputKind

from .models_zoo import CLASSES, SIZE, images, save_case, trunk


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    return keras


@pytest.fixture(scope="module")
def tf_keras() -> Any:
    import tf_keras

    return tf_keras


@pytest.fixture(scope="module")
def digits() -> LoadedModel:
    return load("digits")


def digit_images() -> tuple[Any, Any]:
    files = sorted((folder("calibration") / "digits" / "val").rglob("*.png"))
    bilinear = Image.Resampling.BILINEAR
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((32, 32), bilinear)) for file in files]
    return np.stack(pixels), np.array([int(file.parent.name) for file in files])


def test_the_packaged_digits_reach_97_percent(digits: LoadedModel, tmp_path: Path) -> None:
    pixels, labels = digit_images()
    assert len(pixels) == 360
    assert (digits.predict(pixels).argmax(axis=1) == labels).mean() >= 0.97
    graph = canonicalize(digits, tmp_path)
    assert compare(digits.predict(pixels[:50]), graph, pixels[:50]).max_abs_dp <= 1e-5
    assert graph.spec.class_names == tuple("0123456789")
    assert graph.spec.parameters == pytest.approx(zoo.FAMILIES["digits"].parameters_m * 1e6, rel=0.05)


class Counter:
    """A progress task that adds up."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, steps: int = 1) -> None:
        self.steps += steps


def test_prediction_does_not_depend_on_how_images_are_batched(digits: LoadedModel) -> None:
    pixels = digit_images()[0][:19]
    task = Counter()
    together = digits.predict(pixels, task=task)
    assert task.steps == 19
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.sum(axis=1), 1.0, rtol=1e-5)
    alone = np.concatenate([digits.predict(pixels[i : i + 1]) for i in range(19)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert digits.predict(pixels[:0]).shape == (0, 10)


def test_random_weights_follow_the_seed_and_names_nothing_that_was_built_before(tmp_path: Path) -> None:
    models = [load("digits", weights="random", seed=seed) for seed in (2, 1, 1)]
    hashes = [model.spec.sha256 for model in models]
    assert hashes[0] != hashes[1] == hashes[2]
    graphs = [canonicalize(model, tmp_path / str(number)) for number, model in enumerate(models[1:])]
    assert graphs[0].layers == graphs[1].layers
    assert graphs[0].path.read_bytes() == graphs[1].path.read_bytes()


def test_weights_from_a_file(tmp_path: Path, digits: LoadedModel) -> None:
    pixels = digit_images()[0][:8]
    for name in ("w.weights.h5", "whole.keras"):
        path = tmp_path / name
        digits.model.save_weights(path) if name.endswith(".h5") else digits.model.save(path)
        np.testing.assert_array_equal(
            load("digits", weights=str(path)).predict(pixels), digits.predict(pixels)
        )
    with pytest.raises(ModelError, match="do not fit 'digits' with 7 classes") as caught:
        load("digits", weights=str(tmp_path / "w.weights.h5"), classes=7)
    assert "--classes" in caught.value.hint


def test_keras_own_weights_file_given_by_its_path_with_classes_and_size(keras: Any, tmp_path: Path) -> None:
    """Keras adds a Rescaling layer for its ImageNet weights, whose file holds deviations for variances."""
    from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB

    model = keras.applications.EfficientNetB0(weights=None, classes=3, input_shape=(SIZE, SIZE, 3))
    (normalization,) = [layer for layer in model.layers if type(layer).__name__ == "Normalization"]
    mean = np.array([0.485, 0.456, 0.406])
    normalization.set_weights([mean, np.array(IMAGENET_STDDEV_RGB), np.array(0)])
    model.save_weights(tmp_path / "w.weights.h5")
    loaded = load("b0", weights=str(tmp_path / "w.weights.h5"), classes=3, input_size=SIZE)
    spec = loaded.spec
    assert (spec.height, spec.classes, spec.output) == (SIZE, 3, OutputKind.PROBABILITIES)
    # 5.33 M with the 1000-class head; its Dense holds (1280 + 1) a class.
    assert spec.parameters + 997 * 1281 == pytest.approx(zoo.FAMILIES["b0"].parameters_m * 1e6, rel=0.002)
    image = np.full((1, SIZE, SIZE, 3), 200.0, np.float32)
    front = keras.Model(loaded.model.input, loaded.model.get_layer("normalization").output)
    # What Keras computes for weights="imagenet": Normalization by the root, then Rescaling by the root again.
    np.testing.assert_allclose(
        front(image)[0, 0, 0], (200 / 255 - mean) / np.array(IMAGENET_STDDEV_RGB), rtol=1e-5
    )


def test_imagenet_weights_without_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))  # an empty cache
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # nothing listens on the discard port
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ModelError, match="ImageNet weights of 'b0' cannot be had") as caught:
        load("b0")
    assert "--weights random" in caught.value.hint
    assert str(tmp_path / "models" / "efficientnetb0.h5") in caught.value.hint


def refused(path: Path, match: str, **options: Any) -> EdgefxError:
    with pytest.raises(EdgefxError, match=match) as caught:
        load(str(path), **options)
    assert isinstance(caught.value, ModelError | UsageError)
    assert "Traceback" not in str(caught.value)
    return caught.value


def simple(keras: Any, *, outputs: Callable[[Any], Any], shape: tuple[int | None, ...] = (16, 16, 3)) -> Any:
    image = keras.Input(shape)
    return keras.Model(image, outputs(image))


def head(keras: Any, x: Any, classes: int = 3, activation: str = "softmax") -> Any:
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.Dense(classes, activation=activation)(x)


def test_models_that_do_not_answer_one_image(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    path = tmp_path / "m.keras"
    cases: list[tuple[Any, str]] = [
        (
            simple(keras, outputs=lambda x: layers.Reshape((4, -1))(layers.Conv2D(4, 3)(x))),
            r"its output has shape \[N, 4, 196\], expected scores or values",
        ),
        (simple(keras, outputs=lambda x: head(keras, x, 1, "linear")), "single output"),
        (
            simple(keras, outputs=lambda x: head(keras, x), shape=(16, 16, 2)),
            r"\[N, 16, 16, 2\], expected RGB",
        ),
        (simple(keras, outputs=layers.Dense(3), shape=(16,)), "not a model of images"),
        (
            keras.Model(two := [keras.Input((8, 8, 3)) for _ in range(2)], head(keras, layers.Add()(two))),
            "2 inputs",
        ),
    ]
    for model, message in cases:
        model.save(path)
        refused(path, message)


def test_sizes_and_classes(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    simple(keras, outputs=lambda x: head(keras, x)).save(path)
    loaded = load(str(path), classes=3, input_size=16)
    assert loaded.spec.output is OutputKind.PROBABILITIES
    assert "raw pixels in [0, 255]" in loaded.notes[0]
    refused(path, "--classes 5: .* has 3 classes", classes=5)
    refused(path, "--input-size 32: .* takes 16 x 16 px", input_size=32)
    refused(path, "--weights goes with a model of the zoo", weights="imagenet")
    simple(keras, outputs=lambda x: head(keras, x), shape=(None, None, 3)).save(path)
    refused(path, "the size to compile for must be given")
    assert load(str(path), input_size=24).spec.height == 24
    base = trunk(keras, size=None, name="efficientnetb0")  # what Keras calls it: the size is known
    simple(keras, outputs=lambda x: head(keras, base(x)), shape=(None, None, 3)).save(path)
    assert load(str(path)).spec.height == 224


def test_custom_layers_that_are_missing(keras: Any, tf_keras: Any, tmp_path: Path) -> None:
    for library, name in ((keras, "m.keras"), (tf_keras, "m.h5")):
        custom = type("TeamAttention", (library.layers.Layer,), {"call": lambda _self, x: x * 2.0})
        custom.__module__ = "team.layers"
        image = library.Input((16, 16, 3))
        library.Model(image, head(library, custom()(image))).save(tmp_path / name)
        error = refused(tmp_path / name, "needs the custom class or function 'TeamAttention'")
        assert "model.export" in error.hint


def test_lambda_layers_are_not_run(keras: Any, tf_keras: Any, tmp_path: Path) -> None:
    for library, name in ((keras, "m.keras"), (tf_keras, "m.h5")):
        image = library.Input((16, 16, 3))
        halved = library.layers.Lambda(lambda x: x / 2, name="halve")(image)
        library.Model(image, head(library, halved)).save(tmp_path / name)
        refused(tmp_path / name, r"Lambda layers \(halve\)")


def test_a_layer_kept_in_training_mode(tf_keras: Any, tmp_path: Path) -> None:
    dropout = tf_keras.layers.Dropout(0.5, name="mc")
    simple(tf_keras, outputs=lambda x: head(tf_keras, dropout(x, training=True))).save(tmp_path / "m.h5")
    loaded = load(str(tmp_path / "m.h5"))
    with pytest.raises(ModelError, match="'mc' is called with training=True"):
        canonicalize(loaded, tmp_path)


def test_damaged_files(keras: Any, tmp_path: Path) -> None:
    for name in ("m.keras", "m.h5"):
        path = tmp_path / name
        trunk(keras, top=True).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        refused(path, "corrupt or truncated")
    saved = tmp_path / "saved"
    simple(keras, outputs=lambda x: head(keras, x)).export(str(saved))
    assert load(str(saved)).spec.classes == 3
    shutil.rmtree(saved / "variables")
    refused(saved, "TensorFlow cannot load this SavedModel")
    (saved / "saved_model.pb").write_bytes(b"not a protocol buffer")
    refused(saved, "corrupt or truncated")


def test_nothing_is_left_half_written(tmp_path: Path) -> None:
    loaded = load(str(save_case("functional", tmp_path)))
    assert loaded.spec.classes == CLASSES
    assert loaded.notes == ()
    work = tmp_path / "work"
    graph = canonicalize(loaded, work)
    assert [file.name for file in work.iterdir()] == ["graph.pb"]
    assert graph.path.read_bytes() == canonicalize(loaded, tmp_path / "again").path.read_bytes()
    assert compare(loaded.predict(images()), graph, images()).max_abs_dp <= 1e-5
