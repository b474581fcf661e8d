"""Heads, inputs and custom classes that people have: what they are loaded as, and that nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.errors import EdgefxError, ModelError, UsageError
from edgefx.models.front import front
from edgefx.models.graph.canonical import canonicalize, compare
from edgefx.models.hints import Hints
from edgefx.models.load import LoadedModel, load
from edgefx.types import ModelTask

from .models_zoo import SIZE, images


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    keras.utils.set_random_seed(3)
    return keras


def body(keras: Any, channels: int = 3) -> tuple[Any, Any]:
    """A convolution and what it sees, pooled."""
    image = keras.Input((SIZE, SIZE, channels), name="photo")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="swish")(image)
    return image, x


def saved(keras: Any, folder: Path, head: Any, *, channels: int = 3) -> str:
    image, features = body(keras, channels)
    model = keras.Model(image, head(keras.layers, features))
    model.save(folder / "m.keras")
    return str(folder / "m.keras")


def dense(units: int, activation: str | None) -> Any:
    return lambda layers, x: layers.Dense(units, activation=activation, name="answer")(
        layers.GlobalAveragePooling2D()(x)
    )


def both(layers: Any, x: Any) -> list[Any]:
    pooled = layers.GlobalAveragePooling2D(name="embedding")(x)
    return [layers.Dense(5, activation="softmax", name="kind")(pooled), pooled]


def parity(loaded: LoadedModel, folder: Path) -> float:
    return compare(loaded.predict(images()), canonicalize(loaded, folder), images()).max_abs_dp


_TASKS = [  # head, what is said, task, output, classes
    (dense(1, "sigmoid"), Hints(), "binary", "probabilities", 2),
    (dense(1, None), Hints(task=ModelTask.BINARY), "binary", "logits", 2),
    (dense(1, None), Hints(task=ModelTask.REGRESSION), "regression", "values", 1),
    (dense(2, None), Hints(task=ModelTask.REGRESSION), "regression", "values", 2),
    (dense(4, "sigmoid"), Hints(task=ModelTask.MULTILABEL), "multilabel", "probabilities", 4),
    (dense(4, "sigmoid"), Hints(), "classification", "probabilities", 4),
    (dense(6, None), Hints(task=ModelTask.EMBEDDING), "embedding", "values", 6),
    (lambda _, x: x, Hints(), "features", "values", 16 * 16 * 8),
    (both, Hints(head="kind"), "classification", "probabilities", 5),
    (both, Hints(head="embedding", task=ModelTask.EMBEDDING), "embedding", "values", 8),
]


@pytest.mark.parametrize("case", _TASKS)
def test_what_a_model_answers(keras: Any, tmp_path: Path, case: tuple[Any, Hints, str, str, int]) -> None:
    head, hints, task, output, classes = case
    loaded = load(saved(keras, tmp_path, head), hints=hints)
    assert (loaded.spec.task, loaded.spec.output, loaded.spec.classes) == (task, output, classes)
    assert loaded.predict(images()).shape == (6, classes)
    assert parity(loaded, tmp_path) <= 1e-5
    assert canonicalize(loaded, tmp_path).output_names == (output,)


def test_a_model_that_keras_has_quantized_is_refused(keras: Any, tmp_path: Path) -> None:
    model = keras.models.load_model(saved(keras, tmp_path, dense(4, "softmax")))
    model.quantize("int8")
    model.save(tmp_path / "q.keras")
    with pytest.raises(ModelError, match=r"layer answer was quantized by Keras \(int8\)") as caught:
        load(str(tmp_path / "q.keras"))
    assert "before model.quantize()" in caught.value.hint


def test_one_score_is_that_of_the_second_class(keras: Any, tmp_path: Path) -> None:
    path = saved(keras, tmp_path, dense(1, "sigmoid"))
    scores = load(path).predict(images())
    expected = keras.models.load_model(path).predict(images().astype("float32"), verbose=0)
    np.testing.assert_allclose(scores[:, 1:], expected, atol=1e-6)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)


_MISTAKES = [  # head, what is said, message, hint
    (dense(1, None), Hints(), "may be a logit or a quantity", "--task binary"),
    (dense(3, "softmax"), Hints(task=ModelTask.BINARY), "it has 3 outputs", "--task classification"),
    (dense(3, "softmax"), Hints(task=ModelTask.MULTILABEL), "one class excludes", "--task classific"),
    (dense(1, "sigmoid"), Hints(task=ModelTask.CLASSIFICATION), "a single output", "--task binary"),
    (dense(3, None), Hints(task=ModelTask.FEATURES), "a vector of 3", "--task embedding"),
    (lambda _, x: x, Hints(task=ModelTask.BINARY), "its output is a map", "--task features"),
    (both, Hints(task=ModelTask.EMBEDDING), "2 outputs: kind, embedding", "--task kind=embedding"),
    (both, Hints(task={"knd": ModelTask.BINARY}), "unknown output 'knd'", "did you mean kind"),
    (both, Hints(task={"kind": ModelTask.BINARY}), "output kind cannot be", "--task kind=classification"),
    (both, Hints(head="knd"), "unknown output 'knd'", "did you mean kind"),
    (dense(3, "softmax"), Hints(pixels="-1..x"), "neither a range nor", "-1..1"),
    (dense(3, "softmax"), Hints(pixels="1..0"), "must be less", "0..1"),
    (dense(3, "softmax"), Hints(pixels="0..1e9"), "neither a range", "0..1"),
    (dense(3, "softmax"), Hints(pixels="mean=1,2/std=1"), "one number or 3", "mean=127.5"),
    (dense(3, "softmax"), Hints(pixels="bgr:0"), "neither a range nor", "bgr: in front"),
    (dense(3, "softmax"), Hints(threshold=0.3), "for scores that stand alone", "--task binary"),
    (dense(3, "softmax"), Hints(custom_objects=Path("none.py")), "no such file", "Python file"),
]


@pytest.mark.parametrize("case", _MISTAKES)
def test_what_must_be_said_or_cannot_be(
    keras: Any, tmp_path: Path, case: tuple[Any, Hints, str, str]
) -> None:
    head, hints, message, hint = case
    with pytest.raises(UsageError, match=message) as caught:
        load(saved(keras, tmp_path, head), hints=hints)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("pixels", "channels", "expected"),
    [
        ("0..1", 3, lambda x: x / 255),
        ("-1..1", 3, lambda x: x / 127.5 - 1),
        ("-1..1", 1, lambda x: (x @ [0.299, 0.587, 0.114])[..., None] / 127.5 - 1),
        (None, 1, lambda x: (x @ [0.299, 0.587, 0.114])[..., None]),
        ("mean=127.5/std=64,32,16", 3, lambda x: (x - 127.5) / [64, 32, 16]),
        ("bgr:-1..1", 3, lambda x: x[..., ::-1] / 127.5 - 1),
        ("caffe", 3, lambda x: (x[..., ::-1] - [103.939, 116.779, 123.68]) / 1),
        ("bgr:imagenet", 3, lambda x: ((x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])[..., ::-1]),
        ("imagenet", 3, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_pixels_that_the_model_does_not_scale_itself(
    keras: Any, tmp_path: Path, pixels: str | None, channels: int, expected: Any
) -> None:
    path = saved(keras, tmp_path, dense(4, "softmax"), channels=channels)
    loaded = load(path, hints=Hints(pixels=pixels))
    raw = images()
    prepared = expected(raw.astype("float64")).astype("float32")
    wanted = keras.models.load_model(path).predict(prepared, verbose=0)
    np.testing.assert_allclose(loaded.predict(raw), wanted, atol=2e-5)
    assert parity(loaded, tmp_path) <= 2e-5
    assert not any("0..1" in note for note in loaded.notes) or pixels is None


def test_blue_first_costs_no_operation(keras: Any, tmp_path: Path) -> None:
    path = saved(keras, tmp_path, dense(4, "softmax"))
    plain = canonicalize(load(path, hints=Hints(pixels="0..1")), tmp_path / "rgb")
    found = canonicalize(load(path, hints=Hints(pixels="bgr:0..1")), tmp_path / "bgr")
    assert [layer.name for layer in found.layers] == [layer.name for layer in plain.layers]


def test_blue_first_where_more_than_a_convolution_reads_the_image(keras: Any, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Concatenate()([image, keras.layers.Conv2D(2, 3, padding="same")(image)])
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    keras.Model(image, dense(4, "softmax")(keras.layers, x)).save(tmp_path / "m.keras")
    loaded = load(str(tmp_path / "m.keras"), hints=Hints(pixels="bgr:0..1"))
    assert parity(loaded, tmp_path) <= 1e-5


def test_pixels_of_a_saved_model_without_layers(keras: Any, tmp_path: Path) -> None:
    image, features = body(keras, 1)
    model = keras.Model(image, dense(1, "sigmoid")(keras.layers, features))
    model.export(str(tmp_path / "saved"))
    loaded = load(str(tmp_path / "saved"), hints=Hints(pixels="0..1"))
    assert loaded.spec.task is ModelTask.BINARY
    assert parity(loaded, tmp_path) <= 1e-5


def test_a_model_that_scales_pixels_by_arithmetic_needs_no_word(keras: Any, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3)(image / 127.5 - 1.0)
    model = keras.Model(image, dense(3, "softmax")(keras.layers, x))
    model.save(tmp_path / "m.keras")
    assert load(str(tmp_path / "m.keras")).notes == ()


def test_grey_images_have_no_figures_of_imagenet() -> None:
    with pytest.raises(UsageError, match="the model takes grey images"):
        front("imagenet", channels=1)


_LAYER = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Halve(keras.layers.Layer):
    def call(self, x):
        return x / 2

def bent(x):
    return keras.ops.tanh(x) * 2
"""


@pytest.fixture
def customs(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(_LAYER)
    return tmp_path / "mine.py"


def with_customs(keras: Any, file: Path) -> str:
    space: dict[str, Any] = {"__name__": "mine"}
    exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102 - as a user would
    image, features = body(keras)
    x = keras.layers.Activation(space["bent"])(space["Halve"]()(features))
    keras.Model(image, dense(3, "softmax")(keras.layers, x)).save(file.parent / "m.keras")
    for name in ("mine>Halve",):
        keras.saving.get_custom_objects().pop(name)
    return str(file.parent / "m.keras")


def test_custom_layers_and_functions(keras: Any, tmp_path: Path, customs: Path) -> None:
    path = with_customs(keras, customs)
    with pytest.raises(ModelError, match="needs the custom class or function") as caught:
        load(path)
    assert "--custom-objects" in caught.value.hint
    loaded = load(path, hints=Hints(custom_objects=customs))
    assert parity(loaded, tmp_path) <= 1e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no class"),
        ("def broken(:", "SyntaxError"),
        ("raise OSError('gone')", "OSError: gone"),
        ("import tf_keras\nclass Old(tf_keras.layers.Layer): pass", "'Old' is a layer of tf_keras"),
    ],
)
def test_files_of_custom_layers_that_are_none(keras: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        load(saved(keras, tmp_path, dense(3, "softmax")), hints=Hints(custom_objects=tmp_path / "c.py"))


def test_names_of_a_users_classes_open_no_door(keras: Any, tmp_path: Path, customs: Path) -> None:
    """A hostile file that takes a known name still may not name a module to import."""
    import json
    import zipfile

    path = Path(saved(keras, tmp_path, dense(3, "softmax")))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"class_name": "Halve", "module": "antigravity", "registered_name": None}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(EdgefxError, match="antigravity"):
        load(str(path), hints=Hints(custom_objects=customs))


def test_dropout_of_the_efficientnet_package(tmp_path: Path) -> None:
    import tf_keras

    class FixedDropout(tf_keras.layers.Dropout):  # type: ignore[misc]
        """As the package defines it."""

        def _get_noise_shape(self, _inputs: Any) -> Any:
            return self.noise_shape

    image = tf_keras.Input((SIZE, SIZE, 3))
    x = tf_keras.layers.Conv2D(4, 3, activation="swish")(image)
    x = FixedDropout(0.2, noise_shape=(None, 1, 1, 1), name="drop")(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    tf_keras.Model(image, tf_keras.layers.Dense(3, activation="softmax")(x)).save(tmp_path / "m.h5")
    loaded = load(str(tmp_path / "m.h5"))
    assert parity(loaded, tmp_path) <= 1e-5
    assert all(layer.name != "drop" for layer in canonicalize(loaded, tmp_path).layers)
