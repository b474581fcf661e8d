"""From a zoo name or a path to a loaded model that edgefx can run and compile."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.errors import ModelError, UsageError
from edgefx.models import hub, names, outputs, zoo
from edgefx.models.backend import (
    first_line,
    import_keras,
    import_keras_hub,
    import_tensorflow,
    import_tf_keras,
)
from edgefx.models.customs import custom_objects, name_functions
from edgefx.models.formats import SUFFIXES, Container, ModelFile, name_of, sniff
from edgefx.models.front import Front, front
from edgefx.models.graph.flatten import is_layered
from edgefx.models.hints import NO_HINTS, Hints
from edgefx.models.hub import Preparation
from edgefx.models.inspection import Interface, check_classes, keras_interface, signature_interface
from edgefx.models.precision import all_layers, check_graph, in_float32
from edgefx.models.safety.configs import hint_for, judge_config, needs_hub
from edgefx.models.safety.graphs import judge_saved_model
from edgefx.models.safety.snapshot import Snapshot, snapshot
from edgefx.scores import by_class
from edgefx.system.graphs import running
from edgefx.system.parallel import ordered
from edgefx.types import ModelSpec

if TYPE_CHECKING:
    from edgefx.protocols import Task
    from edgefx.types import Pixels, Scores

# TensorFlow computes a batch on little more than one core: small ones side by side take half the time.
_BATCH_PIXELS = 4 * 224 * 224
_BATCH = 32  # at most

# Operations of Keras 3 by which models scale pixels without a layer, as `preprocess_input` does.
_ARITHMETIC = frozenset({"Divide", "Multiply", "Subtract", "TrueDivide"})

_KERAS_EPSILON = 1e-3  # of its EfficientNets' normalizations

_UNSCALED = (
    "no Rescaling or Normalization layer in the model: it is fed raw pixels in [0, 255]; where it was trained"
    " on others, say so: --pixels 0..1 or --pixels -1..1"
)
# What follows the first semicolon of a note is what to try.
_UNTRAINED = (
    "untrained: the weights are random, so that its speed and size mean something and its answers nothing;"
    " give trained weights: --weights"
)
_UNSAFE = (
    "loaded with --allow-unsafe: its file was not judged, and may run code or use files of this machine;"
    " save its weights into a model that you make yourself, and leave --allow-unsafe out"
)
_NO_LAYERS = (
    "a SavedModel without Keras layers: reports carry TensorFlow's names instead of layer names;"
    " for these save the model as .keras"
)

_UNKNOWN_CLASS = (
    re.compile(r"Could not locate class '([^']+)'"),
    re.compile(r"Unknown (?:layer|object|activation function|class): '?([\w>.]+)'?"),
    re.compile(r"Could not (?:find|locate|interpret) (?:function|object|activation\D+?) '?([\w>.]+)'?"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model as loaded: the float baseline that everything is compared with.

    Attributes:
        spec: What the rest of edgefx needs to know. `macs` is 0 here: it is counted on the canonical graph.
        model: The ``keras.Model`` or ``tf_keras.Model``; for a SavedModel without Keras layers, what
            TensorFlow loaded.
        layered: Whether `model` consists of layers that can be followed.
        function: Maps raw RGB, float32 [N, H, W, 3], to the model's outputs, a list of TensorFlow tensors.
        front: What is in front of `model` in it.
        fixed_batch: The one batch size it takes, or None for any.
        notes: What the user should know, for the report.
    """

    spec: ModelSpec
    model: Any
    layered: bool
    function: Callable[[Any], Any]
    front: Front
    fixed_batch: int | None = None
    notes: tuple[str, ...] = ()

    def predict(self, pixels: Pixels, *, task: Task | None = None) -> Scores:
        """Run the float model.

        Args:
            pixels: Raw RGB, uint8 [N, H, W, 3].
            task: Advanced by the number of images after each batch.

        Returns:
            float32 [N, columns]: probabilities, logits or values (see ``spec.output``), and of several
            outputs all, one after the other; a map in one row.

        Raises:
            ModelError: An operation fails on the images.
        """
        size = self.fixed_batch or max(1, min(_BATCH, _BATCH_PIXELS // (self.spec.height * self.spec.width)))

        def predicted(start: int) -> Scores:
            batch = np.asarray(pixels[start : start + size], np.float32)
            count = len(batch)
            if self.fixed_batch and count < size:
                batch = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), np.float32)])
            with running(self.spec.source):
                found = [
                    np.asarray(one, np.float32)[:count].reshape(count, -1) for one in self.function(batch)
                ]
            # Of several outputs each is made one column per class where it is compared.
            return np.concatenate(found, 1) if self.spec.outputs else by_class(found[0], self.spec.output)

        parts = [np.empty((0, self.spec.columns), np.float32)]
        for scores in ordered(predicted, range(0, len(pixels), size)):
            parts.append(scores)
            if task is not None:
                task.advance(len(scores))
        return np.concatenate(parts)

    def trace(self, *, batch: int, outputs: Sequence[str]) -> Any:
        """Return a concrete function with the placeholder ``image`` and the operations `outputs`."""
        import tensorflow as tf

        shape = [batch, self.spec.height, self.spec.width, 3]

        def canonical(image: Any) -> Any:
            results = self.function(image)
            return [tf.identity(one, name=name) for one, name in zip(results, outputs, strict=True)]

        signature = [tf.TensorSpec(shape, tf.float32, name="image")]
        return tf.function(canonical, input_signature=signature, autograph=False).get_concrete_function()


def load(
    model: str,
    *,
    weights: str | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    seed: int = 0,
    sha256: str | None = None,
    allow_unsafe: bool = False,
    hints: Hints = NO_HINTS,
) -> LoadedModel:
    """Load a zoo model by name, or any Keras model of one image by path.

    A file is untrusted: what is loaded is a copy that was hashed and judged (`edgefx.models.safety`).

    Args:
        model: A name of `edgefx.models.zoo.FAMILIES`, or the path of a ``.keras`` or ``.h5`` file, of a
            SavedModel folder or a preset of keras-hub, or the address of such a preset.
        weights: For a zoo name: see `zoo.build`. For a path: None.
        classes: For a zoo name: number of classes. For a path: the number it must have.
        input_size: Height and width in pixels, for a zoo name or a model that takes any size.
        seed: Seed of random weights.
        sha256: The hash that the model's file or folder, or the file of a zoo model's weights, must have:
            what the caller knows it by. None takes any.
        allow_unsafe: Load a file though it would run code, read or write files, or inflate to far more than
            its size. The model's notes tell of it.
        hints: What the user says of it.

    Raises:
        UnknownNameError: Neither a zoo name nor a path, or no such output.
        UsageError: The options do not go with the model.
        ModelError: The file cannot be loaded, is refused as unsafe, or was changed since `sha256` was
            computed, or the model does not answer one image.
        MissingDependencyError: Keras or TensorFlow is absent.
    """
    kind = zoo.recognized(model)
    if kind is None:
        family = zoo.find(model)
        built = zoo.build(
            model,
            weights=weights,
            classes=classes,
            input_size=input_size,
            seed=seed,
            sha256=sha256,
            bounded=not allow_unsafe,
        )
        chosen = weights or family.weights[0]
        loaded = _from_keras(
            built,
            name=family.name,
            source=f"{family.name} ({chosen})",
            sha256=_hash_weights(built),
            input_size=None,
            classes=None,
            class_names=family.class_names if chosen == zoo.PACKAGED else (),
            hints=hints,
        )
        return loaded if chosen != zoo.RANDOM else replace(loaded, notes=(*loaded.notes, _UNTRAINED))
    path = hub.located(model)
    if weights is not None:
        raise UsageError(
            "--weights goes with a model of the zoo, not with a model file, which carries its own",
            hint=f"leave it out, or name the architecture: edgefx compile b0 --weights {weights}",
        )
    with snapshot(path, suffix=SUFFIXES[kind], sha256=sha256) as copy:
        file = sniff(path, copy=copy.path, bounded=not allow_unsafe)
        customs = custom_objects(hints.custom_objects, legacy=file.legacy)
        if not allow_unsafe:
            _judge(file, copy.path, custom=customs)
        loaded = _from_file(
            file,
            copy,
            model,
            classes=classes,
            input_size=input_size,
            allow_unsafe=allow_unsafe,
            hints=hints,
            customs=customs,
        )
    if allow_unsafe:
        return replace(loaded, notes=(*loaded.notes, _UNSAFE))
    return loaded


def _judge(file: ModelFile, content: Path, *, custom: Collection[str]) -> None:
    """Refuse a model that could run code or do more than compute; `custom` names are the user's own.

    Raises:
        ModelError: Names what it would do.
    """
    if file.container is Container.SAVED_MODEL:
        judge_saved_model(content, source=file.path)
    else:  # the loss and the metrics that it was compiled with are not loaded
        config = {key: value for key, value in file.config.items() if key != "compile_config"}
        judge_config(config, source=file.path, custom=custom)


def _from_file(
    file: ModelFile,
    copy: Snapshot,
    named: str,
    *,
    classes: int | None,
    input_size: int | str | None,
    allow_unsafe: bool,
    hints: Hints,
    customs: Mapping[str, Any],
) -> LoadedModel:
    name = name_of(named)
    if file.container is Container.SAVED_MODEL and not file.legacy:
        return _from_saved_model(
            file.path, copy, name=name, classes=classes, input_size=input_size, hints=hints
        )
    keras = import_tf_keras() if file.legacy else import_keras()
    prepared = None
    if file.legacy and file.container is Container.HDF5:
        name_functions(copy.path, file.config)
    if needs_hub(file.config):
        import_keras_hub()
        prepared = hub.preparation(file.config, source=file.path)
    try:
        model = (
            hub.load(copy.path, file.config)
            if file.container is Container.PRESET
            else keras.models.load_model(
                str(copy.path), custom_objects=dict(customs), compile=False, safe_mode=not allow_unsafe
            )
        )
    except Exception as error:  # what Keras raises depends on how the file is wrong
        raise _load_error(file, copy.path, error) from error
    return _from_keras(
        model,
        name=name,
        source=hub.shown(named),
        sha256=copy.sha256,
        input_size=input_size,
        classes=classes,
        class_names=(),
        hints=hints,
        prepared=prepared,
    )


def _load_error(file: ModelFile, content: Path, error: Exception) -> ModelError:
    text = str(error)
    for pattern in _UNKNOWN_CLASS:
        if match := pattern.search(text):
            return ModelError(
                f"{file.path}: needs the custom class or function '{match[1]}', which is not part of Keras",
                hint=hint_for(match[1]),
            )
    wrote = f"written by Keras {file.keras_version}" if file.keras_version else "a SavedModel"
    return ModelError(
        f"{file.path}: Keras cannot load it ({wrote}): {_renamed(error, content, file.path)}",
        hint="check that the file is complete, and that it loads with keras.models.load_model",
    )


def _renamed(error: Exception, content: Path, path: Path) -> str:
    """Return the first line of what a library says of the copy, with the name that the user knows."""
    return first_line(error).replace(str(content), str(path))


def _from_keras(
    model: Any,
    *,
    name: str,
    source: str,
    sha256: str,
    input_size: int | str | None,
    classes: int | None,
    class_names: tuple[str, ...],
    hints: Hints,
    prepared: Preparation | None = None,
) -> LoadedModel:
    import tensorflow as tf

    interface = keras_interface(
        model,
        source=source,
        input_size=input_size,
        head=hints.head,
        default_size=prepared.size if prepared is not None else None,
    )
    if len(model.outputs) > 1:
        model = _with_outputs(model, interface.output_indices)
    model, notes = in_float32(model, source=source)
    names.made_valid(model)
    fitted, said = _fitted(model, prepared, hints.pixels, channels=interface.channels, source=source)

    def scores(image: Any) -> Any:
        found = model(tf.cast(fitted.apply(image), interface.dtype), training=False)
        return [tf.cast(one, tf.float32) for one in tf.nest.flatten(found)]

    signature = [tf.TensorSpec([interface.batch, interface.height, interface.width, 3], tf.float32)]
    function = tf.function(scores, input_signature=signature, autograph=False)
    try:
        graph = function.get_concrete_function().graph
    except Exception as error:  # a custom layer may raise anything
        raise ModelError(f"{source}: the model cannot be run: {first_line(error)}") from error
    answers = _answers(graph, interface, hints, source=source, classes=classes)
    spec = ModelSpec(
        name=name,
        source=source,
        height=interface.height,
        width=interface.width,
        **answers,
        parameters=int(model.count_params()),
        macs=0,
        sha256=sha256,
        class_names=class_names,
    )
    return LoadedModel(
        spec=spec,
        model=model,
        layered=is_layered(model),
        function=function,
        front=fitted,
        fixed_batch=interface.batch,
        notes=notes + said,
    )


def _fitted(
    model: Any, prepared: Preparation | None, pixels: str | None, *, channels: int, source: str
) -> tuple[Front, tuple[str, ...]]:
    """Return what stands in front of the model, and what the user should know of it."""
    if prepared is not None and pixels is None:
        return prepared.front(channels=channels, source=source), (prepared.note,)
    return front(pixels, channels=channels), _preprocessing_notes(model, pixels)


def _with_outputs(model: Any, indices: Sequence[int]) -> Any:
    """Return a model of the same layers with some of its outputs, as a list."""
    keras = import_tf_keras() if type(model).__module__.startswith("tf_keras") else import_keras()
    return keras.Model(model.inputs, [model.outputs[index] for index in indices], name=model.name)


def _answers(
    graph: Any, interface: Interface, hints: Hints, *, source: str, classes: int | None
) -> dict[str, Any]:
    """Return the fields of `ModelSpec` that say what a traced model answers."""
    found = outputs.describe(graph, interface.output_names, hints, source=source)
    several = found if len(found) > 1 else ()
    first = ModelSpec.first_of(found)
    check_classes(first.classes, source=source, wanted=classes)
    return {
        "classes": first.classes,
        "output": first.output,
        "task": first.task,
        "threshold": first.threshold,
        "outputs": several,
    }


def _from_saved_model(
    path: Path,
    copy: Snapshot,
    *,
    name: str,
    classes: int | None,
    input_size: int | str | None,
    hints: Hints,
) -> LoadedModel:
    tf = import_tensorflow()
    try:
        loaded = tf.saved_model.load(str(copy.path))
    except Exception as error:  # what TensorFlow raises depends on how the folder is wrong
        raise ModelError(
            f"{path}: TensorFlow cannot load this SavedModel: {_renamed(error, copy.path, path)}",
            hint="check that the folder is complete (saved_model.pb and variables/)",
        ) from error
    signature, interface = signature_interface(
        loaded, source=str(path), input_size=input_size, head=hints.head
    )
    fitted = front(hints.pixels, channels=interface.channels)

    def scores(image: Any) -> Any:
        found = signature(**{interface.input_name: tf.cast(fitted.apply(image), interface.dtype)})
        return [tf.cast(found[name], tf.float32) for name in interface.output_names]

    shape = [interface.batch, interface.height, interface.width, 3]
    function = tf.function(scores, input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    graph = function.get_concrete_function().graph
    check_graph(graph, source=str(path))
    answers = _answers(graph, interface, hints, source=str(path), classes=classes)
    spec = ModelSpec(
        name=name,
        source=str(path),
        height=interface.height,
        width=interface.width,
        **answers,
        parameters=sum(int(np.prod(v.shape)) for v in signature.variables),
        macs=0,
        sha256=copy.sha256,
    )
    return LoadedModel(
        spec=spec,
        model=loaded,
        layered=False,
        function=function,
        front=fitted,
        fixed_batch=interface.batch,
        notes=(_NO_LAYERS, *interface.notes),
    )


def _preprocessing_notes(model: Any, pixels: str | None) -> tuple[str, ...]:
    scaling = {"Rescaling", "Normalization"} & {type(layer).__name__ for layer in all_layers(model)}
    if scaling and pixels is not None:
        return (f"pixels are scaled as --pixels {pixels} says, and then by the model's {min(scaling)} layer",)
    operations = (type(one) for one in getattr(model, "operations", ()))  # a gate's Multiply is a layer
    is_scaled = scaling or _ARITHMETIC & {
        one.__name__ for one in operations if ".layers." not in one.__module__
    }
    return () if is_scaled or pixels is not None else (_UNSCALED,)


def _hash_weights(model: Any) -> str:
    """Hash of architecture (names and shapes) and weights."""
    digest = hashlib.sha256(repr((model.name, model.input_shape, model.output_shape)).encode())
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path}{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    for layer in model.layers:  # what weights of PyTorch were trained with otherwise, see `pytorch.transfer`
        if getattr(layer, "epsilon", _KERAS_EPSILON) != _KERAS_EPSILON:
            digest.update(f"{layer.name}{layer.epsilon}".encode())
        if type(layer).__name__ == "ZeroPadding2D" and all(
            before == after for before, after in layer.padding
        ):
            digest.update(f"{layer.name}{layer.padding}".encode())
    return digest.hexdigest()
