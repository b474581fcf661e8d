"""The attacks themselves: models made to run code or to write files, and real ones that look alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgefx.errors import ModelError
from edgefx.models.backend import import_tf_keras
from edgefx.models.load import load
from edgefx.models.safety.operations import PURE, RESTORE
from edgefx.storage.hashes import FileHashes, hash_file

from .models_zoo import one_block


@pytest.fixture(scope="module")
def tf_keras() -> Any:
    return import_tf_keras()


def classifier(tf_keras: Any, before: Callable[[Any], Any] | None = None, *, whole: Any = None) -> Any:
    image = tf_keras.Input((32, 32, 3))
    value = before(image) if before else image
    value = whole(value) if whole else tf_keras.layers.Conv2D(4, 3, strides=2)(value)
    if not whole:
        value = tf_keras.layers.GlobalAveragePooling2D()(value)
        value = tf_keras.layers.Dense(3, activation="softmax")(value)
    return tf_keras.Model(image, value)


def module(tf: Any, effect: Callable[[], object]) -> Any:
    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones([3, 3]))

        @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            effect()
            return {"scores": tf.nn.softmax(tf.reduce_mean(image, [1, 2]) @ self.kernel)}

    return Module()


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(path))
    return caught.value.message


@pytest.mark.parametrize("name", ["saved", "m.h5", "m.keras"])
def test_lambda_code_does_not_run(tf_keras: Any, tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"

    def evil(value: Any, path: str = str(ran)) -> Any:
        import pathlib

        pathlib.Path(path).touch()
        return value

    made = classifier(tf_keras, tf_keras.layers.Lambda(evil, name="evil"))
    made.save(str(tmp_path / name))
    ran.unlink()
    assert "holds Lambda layers (evil)" in refused(tmp_path / name)
    assert not ran.exists()
    loaded = load(str(tmp_path / name), allow_unsafe=True)
    assert ran.exists()
    assert any("--allow-unsafe" in note for note in loaded.notes)


def test_an_operation_of_a_layer_does_not_run(tf_keras: Any, tmp_path: Path) -> None:
    path, written = tmp_path / "m.h5", tmp_path / "written"
    classifier(tf_keras, lambda image: image / 127.5 - 1.0).save(str(path))
    assert load(str(path)).layered
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = next(one for one in config["config"]["layers"] if one["class_name"] == "TFOpLambda")
        layer["config"]["function"] = "io.write_file"
        layer["inbound_nodes"] = [[str(written), "_CONSTANT_VALUE", -1, {"contents": "x"}]]
        file.attrs["model_config"] = json.dumps(config)
    assert "'io.write_file'" in refused(path)
    assert not written.exists()


def test_a_graph_with_effects_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    written = tmp_path / "written"
    effects: dict[str, Callable[[], object]] = {
        "WriteFile": lambda: tf.io.write_file(str(written), "x"),
        "ReadFile": lambda: tf.io.read_file("/etc/hostname"),
        "PrintV2": lambda: tf.print("x", output_stream=f"file://{written}"),
        "EagerPyFunc": lambda: tf.py_function(lambda: 1.0, [], tf.float32),
        "SaveV2": lambda: tf.raw_ops.SaveV2(
            prefix=str(written), tensor_names=["a"], shape_and_slices=[""], tensors=[tf.ones(1)]
        ),
        "RestoreV2": lambda: tf.raw_ops.RestoreV2(
            prefix="/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        ),
        # In a branch, which is a function of its own.
        "MatchingFiles": lambda: tf.cond(
            tf.random.uniform([]) > 0.5, lambda: tf.size(tf.io.matching_files("/*")), lambda: 0
        ),
    }
    for operation, effect in effects.items():
        made = module(tf, effect)
        tf.saved_model.save(made, str(tmp_path / operation), signatures=made.__call__)
        message = refused(tmp_path / operation)
        assert f"({operation}) in function" in message
    assert not written.exists()


def test_an_initializer_with_effects_is_refused(tmp_path: Path) -> None:
    """It would run while the model is loaded."""
    import tensorflow as tf

    vocabulary = tmp_path / "labels.txt"
    vocabulary.write_text("a\nb\n")
    made = module(tf, lambda: None)
    made.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(vocabulary), tf.string, -2, tf.int64, -1), -1
    )
    made.look = tf.function(made.table.lookup, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(made, str(tmp_path / "table"), signatures=made.__call__)
    assert "InitializeTableFromTextFileV2" in refused(tmp_path / "table")


def test_a_constant_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    made = module(tf, lambda: tf.constant([[1.0, 2.0], [3.0, 4.0]]) + 1.0)
    tf.saved_model.save(made, str(tmp_path / "big"), signatures=made.__call__)
    file = tmp_path / "big" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const":
                tensor = node.attr["value"].tensor
                tensor.tensor_shape.ClearField("dim")
                for size in (1 << 20, 1 << 14):
                    tensor.tensor_shape.dim.add(size=size)
    file.write_bytes(model.SerializeToString())
    assert "constants of its graph" in refused(tmp_path / "big")


def test_saved_models_of_tensorflow_1(tmp_path: Path) -> None:
    """Their save and restore operations lie in the main graph, where an initializer may lie too."""
    import tensorflow as tf

    v1 = tf.compat.v1

    def saved(folder: Path, effect: Callable[[], Any]) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            image = v1.placeholder(tf.float32, [None, 32, 32, 3])
            kernel = v1.get_variable("kernel", [3, 3], use_resource=True)
            scores = tf.nn.softmax(tf.reduce_mean(image, [1, 2]) @ kernel)
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(
                session, str(folder), {"image": image}, {"scores": scores}, legacy_init_op=effect()
            )

    saved(tmp_path / "plain", lambda: None)
    assert load(str(tmp_path / "plain")).spec.classes == 3
    written = tmp_path / "written"
    saved(tmp_path / "hostile", lambda: tf.io.write_file(str(written), "x"))
    assert "(WriteFile) in its graph" in refused(tmp_path / "hostile")
    assert not written.exists()


def test_real_models_of_keras_2_pass(tf_keras: Any, tmp_path: Path) -> None:
    """An EfficientNet behind the preprocessing functions of Keras 2, compiled with functions of its own."""
    import tensorflow as tf

    def preprocess(image: Any) -> Any:
        caffe = tf_keras.applications.imagenet_utils.preprocess_input(image, mode="caffe")
        return tf_keras.applications.mobilenet_v2.preprocess_input(caffe[:, ::-1])

    made = classifier(tf_keras, preprocess, whole=one_block(tf_keras))
    made.compile(loss=lambda true, given: tf.reduce_mean(true - given), optimizer="adam")
    for name in ("saved", "m.h5"):
        made.save(str(tmp_path / name))
        assert load(str(tmp_path / name)).layered, name


def test_a_custom_layer_of_a_saved_model_needs_no_class(tf_keras: Any, tmp_path: Path) -> None:
    class Mine(tf_keras.layers.Layer):  # type: ignore[misc]
        def call(self, value: Any) -> Any:
            return value * 2.0

    classifier(tf_keras, Mine()).save(str(tmp_path / "saved"))
    assert load(str(tmp_path / "saved")).spec.classes == 3


def test_models_without_weights_or_without_pixels(tmp_path: Path) -> None:
    import tensorflow as tf

    for size in (32, 0):
        made = tf.Module()
        made.call = tf.function(
            lambda image: {"scores": tf.nn.softmax(tf.reduce_sum(image, [1, 2]))},
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32)],
        )
        tf.saved_model.save(made, str(tmp_path / str(size)), signatures=made.call)
    assert load(str(tmp_path / "32")).spec.parameters == 0
    assert "holds no image" in refused(tmp_path / "0")


def test_an_operation_that_fails_on_an_image_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    made = tf.Module()

    def scores(image: Any) -> dict[str, Any]:
        dark = tf.cast(tf.reduce_max(image), tf.int32)  # 0 of a black image
        return {"scores": tf.nn.softmax(tf.reduce_sum(image, [1, 2]) * tf.cast(255 // dark, tf.float32))}

    signature = [tf.TensorSpec([None, 8, 8, 3], tf.float32)]
    made.call = tf.function(scores, input_signature=signature)
    tf.saved_model.save(made, str(tmp_path / "divides"), signatures=made.call)
    loaded = load(str(tmp_path / "divides"))
    assert loaded.predict(np.full((1, 8, 8, 3), 255, np.uint8)).shape == (1, 3)
    with pytest.raises(ModelError, match="divides: it fails on the images: Integer division by zero"):
        loaded.predict(np.zeros((1, 8, 8, 3), np.uint8))


def test_what_is_loaded_has_the_hash_that_is_expected(tf_keras: Any, tmp_path: Path) -> None:
    classifier(tf_keras).save(str(tmp_path / "saved"))
    classifier(tf_keras).save(str(tmp_path / "m.h5"))
    for path in (tmp_path / "saved", tmp_path / "m.h5"):
        known = FileHashes(None).content(path)
        assert load(str(path), sha256=known).spec.sha256 == known
        with pytest.raises(ModelError, match="was changed"):
            load(str(path), sha256="0" * 64)
    with pytest.raises(ModelError, match="was changed"):
        load("digits", weights=str(tmp_path / "m.h5"), sha256="0" * 64)


def test_weights_are_a_copy_too(tmp_path: Path) -> None:
    from edgefx.models.zoo import DIGITS_WEIGHTS

    path = tmp_path / "digits.weights.h5"
    path.write_bytes(DIGITS_WEIGHTS.read_bytes())
    assert load("digits", weights=str(path), sha256=hash_file(path)).spec.classes == 10


def test_the_listed_operations_exist() -> None:
    import tensorflow as tf

    missing = [name for name in PURE | RESTORE if not hasattr(tf.raw_ops, name)]
    assert not [name for name in missing if name not in ("Conv", "HostConst")], missing
