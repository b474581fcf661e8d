"""Which configurations of Keras layers may be handed to Keras: those that only name parts of Keras.

A configuration names classes and functions, and Keras calls them while it loads. Keras 3 in its safe mode
refuses byte code and imports nothing but Keras' own packages. Keras 2 has no such mode for ``.h5`` files
and SavedModels: it imports any ``module`` that a configuration names, calls any function of TensorFlow's
interface that a ``TFOpLambda`` layer names (with arguments from the file), and runs the byte code of Lambda
layers in a SavedModel. One set of rules holds for both, so that a file's claim of who wrote it changes
nothing:

* no Lambda, and no layer that loads another file, a pickle or foreign code;
* ``module`` is a part of Keras that holds layers or functions of layers, and names in it are plain names;
* a TensorFlow function or operation is on the lists of `edgefx.models.safety.operations`;
* no vocabulary that is read from a path;
* of the keras-hub package, what makes up an image classifier, by the name that it is registered by.

What a model was compiled with (its loss, its metrics) is no concern: edgefx loads without it.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from edgefx.errors import ModelError
from edgefx.models.safety.operations import PURE, is_pure_function

_PACKAGES = ("keras", "tf_keras")
# Parts of Keras, as `keras.layers` or `keras.src.layers.core...`; models, utils, saving and backend have
# functions that read and write files.
_CLASSES = frozenset(
    {
        "activations",
        "constraints",
        "dtype_policies",
        "engine",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "ops",
        "optimizers",
        "quantizers",
        "random",
        "regularizers",
    }
)
_FUNCTIONS = frozenset(
    {"activations", "constraints", "initializers", "losses", "metrics", "ops", "regularizers"}
)
# Layers that Keras keeps beside an architecture; they scale, or drop a branch in training.
_OF_ARCHITECTURES = frozenset({"LayerScale", "StochasticDepth"})
_ARCHITECTURES = ("keras.src.applications.convnext", "tf_keras.src.applications.convnext")
# Where Keras 2 found its initializers in some versions.
_INITIALIZERS = ("tensorflow.python.ops.init_ops", "tensorflow.python.ops.init_ops_v2")
_OPERATION_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda"})
_FOREIGN = {
    "TFSMLayer": "loads another SavedModel",
    "TorchModuleWrapper": "unpickles a PyTorch module",
    "JaxLayer": "calls Python code",
    "FlaxLayer": "calls Python code",
    "ClassMethod": "calls a method by its name",
    "InstanceMethod": "calls a method by its name",
    "InstanceProperty": "reads a property by its name",
}
# Of keras-hub: nets of convolutions, and what stands around them. Looked up among registered classes, which
# are the package's own: no module is imported.
HUB = "keras_hub"
HUB_FAMILIES = (
    "CSPNet", "DenseNet", "EfficientNet", "HGNetV2", "MobileNet", "ResNet", "VGG", "Xception",
)  # fmt: skip
_HUB_PREFIXES = (f"{HUB}>", "keras_nlp>")  # the package registers everything twice
_HUB_KINDS = ("Backbone", "ImageClassifier", "ImageClassifierPreprocessor", "ImageConverter")
_HUB_CLASSES = frozenset(f"{family}{kind}" for family in HUB_FAMILIES for kind in _HUB_KINDS)
_FILES = ("vocabulary", "vocabulary_file")  # keys whose value is a path when it is text
_SPECIAL = frozenset(
    {
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
        "__tuple__",
    }
)

_EXPORT = (
    "where its code is at hand, give it with --custom-objects FILE.py; or export the model with "
    "model.export('folder') and compile that folder: a SavedModel needs no Python classes"
)
_OF_TENSORFLOW_HUB = (
    "it is a layer of TensorFlow Hub, and only the place that it was loaded from is in the file: load the "
    "model where tensorflow_hub is at hand, export it with model.export('folder') and compile that folder"
)
_TRUST = "if you know who made the model and trust them, add --allow-unsafe"


def judge_config(config: Any, *, source: Path, custom: Collection[str] = ()) -> None:
    """Judge the configuration of a model, or the metadata of one object of a SavedModel.

    Args:
        config: Parsed JSON.
        source: The model's name, for messages.
        custom: Names of classes and functions that the user has given the code of.

    Raises:
        ModelError: Something in it could run code or read files; names the layer and what it would do.
    """
    nodes = list(_nodes(config))
    lambdas = sorted({layer or "lambda" for node, layer in nodes if _is_lambda(node)})
    if lambdas:
        raise ModelError(
            f"{source}: holds Lambda layers ({', '.join(lambdas)}), whose Python code edgefx does not run",
            hint="replace them by Keras layers (Rescaling, Normalization, Activation), or export the model "
            "where its code is at hand with model.export('folder') and compile that folder",
        )
    for node, layer in nodes:
        where = f"{source}: layer '{layer}'" if layer else str(source)
        _judge_files(node, where)
        if _is_of_hub(node):
            _judge_hub(node, where)
        elif isinstance(node.get("class_name"), str) and not _is_custom(node, custom):
            _judge_class(node, where)
            _judge_module(node, where, source)


def _nodes(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every object in a configuration with the name of the layer that it belongs to."""
    todo: list[tuple[Any, str]] = [(config, "")]
    while todo:  # no recursion: a configuration may be nested deeper than Python allows
        value, layer = todo.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                inner = value.get("config")
                named = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
                layer = named if isinstance(named, str) else layer
            yield value, layer
            todo += ((child, layer) for child in value.values())
        elif isinstance(value, list):
            todo += ((child, layer) for child in value)


def needs_hub(config: Any) -> bool:
    """Whether a configuration names classes of keras-hub, which must be imported before Keras loads it."""
    return any(_is_of_hub(node) for node, _ in _nodes(config))


def _is_of_hub(node: dict[str, Any]) -> bool:
    """Whether an object would be looked up in keras-hub, or among what it has registered."""
    if str(node.get("module")).partition(".")[0] == HUB:
        return "class_name" in node
    texts = (text for value in node.values() for text in (value if isinstance(value, list) else [value]))
    return any(isinstance(text, str) and text.startswith(_HUB_PREFIXES) for text in texts)


def _names(node: dict[str, Any]) -> set[str]:
    """Return all names by which Keras could look up the class of an object, without packages."""
    given = (node.get("class_name"), node.get("registered_name"), node.get("spec_name"))
    return {name.rpartition(">")[2].rpartition(".")[2] for name in given if isinstance(name, str)}


def _is_custom(node: dict[str, Any], custom: Collection[str]) -> bool:
    """Whether Keras finds a class or function among those given, and so imports no module for it.

    It looks for functions by their name and for classes by the name that they were registered by, or by the
    class's own in files that name no module.
    """
    if node["class_name"] == "function":
        name = node.get("config")
    else:
        name = node.get("class_name" if node.get("module") is None else "registered_name")
    return isinstance(name, str) and name in custom


def _is_lambda(node: dict[str, Any]) -> bool:
    return "class_name" in node and not _names(node).isdisjoint({"Lambda", "__lambda__"})


def _judge_files(node: dict[str, Any], where: str) -> None:
    for key in _FILES:
        path = node.get(key)
        if isinstance(path, str) and path:
            raise ModelError(f"{where} reads a vocabulary from the file '{path}'", hint=_TRUST)


def _judge_class(node: dict[str, Any], where: str) -> None:
    """Judge the layers that do more than layers do."""
    names, config = _names(node), node.get("config")
    inner: dict[str, Any] = config if isinstance(config, dict) else {}
    for name in sorted(names & _FOREIGN.keys()):
        raise ModelError(f"{where} is a {name}, which {_FOREIGN[name]}", hint=_TRUST)
    if names & _OPERATION_LAYERS:
        symbol = inner.get("function")
        if not isinstance(symbol, str) or not is_pure_function(symbol):
            raise ModelError(
                f"{where} calls the TensorFlow function '{symbol}' while the model is loaded; edgefx only "
                "lets a model call functions that do nothing but compute",
                hint=f"replace it by a Keras layer; {_TRUST}",
            )
    if "TensorFlowOpLayer" in names:
        definition = inner.get("node_def")
        operation = definition.get("op") if isinstance(definition, dict) else None
        if operation not in PURE:
            raise ModelError(
                f"{where} is the TensorFlow operation '{operation}'; edgefx only lets a model use operations "
                "that do nothing but compute",
                hint=f"replace it by a Keras layer; {_TRUST}",
            )
    if node["class_name"] == "function" and not isinstance(config, str):
        raise ModelError(
            f"{where} names a function by something that is no name: {config!r:.80}", hint=_TRUST
        )


def _judge_module(node: dict[str, Any], where: str, source: Path) -> None:
    """Judge where Keras would import a class or a function from."""
    module = node.get("module")
    if module is None:  # looked up among the classes of Keras and those that were registered
        return
    is_function = node["class_name"] == "function"
    name = str(node["config"] if is_function else node["class_name"])
    names = {name}  # Keras 2 falls back on the second
    if isinstance(node.get("registered_name"), str):
        names.add(node["registered_name"].rpartition(">")[2])
    package, _, rest = str(module).partition(".")
    if name == "__typespec__":
        _judge_typespec(node, package, source)
        return
    of_architecture = module in _ARCHITECTURES and names <= _OF_ARCHITECTURES and not is_function
    if name in _SPECIAL or of_architecture:
        return
    if module == "builtins":  # Keras' name for its own activations, losses and the like
        if not all(one.isidentifier() and not hasattr(builtins, one) for one in names):
            raise ModelError(f"{where} names the Python function '{name}'", hint=_TRUST)
        return
    if module in _INITIALIZERS:
        part = "initializers"
    elif package in _PACKAGES:
        part = rest.removeprefix("src.").partition(".")[0]
    else:
        raise _custom(source, name, module)
    if is_function:
        allowed = part in _FUNCTIONS
    else:  # functions have small letters
        allowed = (not part or part in _CLASSES) and all(one.lstrip("_")[:1].isupper() for one in names)
    if not allowed or not all(one.isidentifier() for one in names):
        raise ModelError(f"{where} names {module}.{name}, which is no part of a model", hint=_TRUST)


def _judge_hub(node: dict[str, Any], where: str) -> None:
    name = str(node.get("class_name"))
    if name not in _HUB_CLASSES or node.get("registered_name") != f"{HUB}>{name}":
        raise ModelError(
            f"{where} names '{name}' of keras-hub; edgefx takes backbones and image classifiers of "
            f"{', '.join(HUB_FAMILIES)}",
            hint="export the model with model.export('folder') and compile that folder: a SavedModel needs "
            "no Python classes",
        )


def _judge_typespec(node: dict[str, Any], package: str, source: Path) -> None:
    name = str(node.get("spec_name"))
    if package not in ("tensorflow", *_PACKAGES) or not name.isidentifier() or not name.endswith("Spec"):
        raise _custom(source, name, node["module"])


def _custom(source: Path, name: str, module: object) -> ModelError:
    return ModelError(
        f"{source}: needs the custom class or function '{name}' (of {module}), which is not part of Keras",
        hint=hint_for(name),
    )


def hint_for(name: str) -> str:
    """Return what to do about a class or function that Keras does not have."""
    return _OF_TENSORFLOW_HUB if name.rpartition(">")[2] == "KerasLayer" else _EXPORT
