"""From a Keras model, nested to any depth, to the flat canonical graph.

The same code walks Keras 3 and Keras 2 (tf_keras) models: both record, per call of a layer, the arguments and
the output tensors, and both use the same class and attribute names for the layers of an image classifier.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgefx.errors import ModelError
from edgefx.models.backend import import_keras
from edgefx.models.graph.ir import IMAGE, Graph, Node, Op, Opaque, Ref
from edgefx.models.graph.layers import is_identity, is_library_class, is_random, read_layer
from edgefx.types import OutputKind

_UNSAFE_NAME = re.compile(r"[^A-Za-z0-9_.\-]")


def flatten(model: Any) -> Graph:
    """Return the layers of a functional or sequential model as one flat graph.

    Augmentation, dropout and other layers that do nothing at inference are left out; an activation inside a
    layer becomes a node of its own; a layer called twice becomes two nodes. A layer of a kind edgefx does not
    know is kept as it is and called.

    Raises:
        ModelError: A layer is called in training mode, or the model cannot be followed.
    """
    walker = _Walker()
    outputs = walker.call(model, (Ref(IMAGE),), {})
    walker.graph.outputs = tuple(outputs)
    return walker.graph


def is_layered(model: Any) -> bool:
    """Whether `model` consists of layers that can be followed: functional or sequential, not subclassed."""
    return _is_functional(model) or _is_sequential(model)


class _Walker:
    """Calls layers on `Ref`s instead of tensors, and takes down what is called."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._taken = {IMAGE, *OutputKind}
        self._within = ""  # the custom layer whose parts are taken down

    def call(self, layer: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Ref]:
        """Take down ``layer(*args, **kwargs)``; returns its outputs as a flat list."""
        kwargs = self._inference_arguments(layer, kwargs)
        inputs = tuple(_refs((args, kwargs)))
        if _is_functional(layer) and len(inputs) == len(layer.inputs):
            return self._functional(layer, inputs)
        if _is_sequential(layer) and len(inputs) == 1:
            for inner in layer.layers:
                inputs = tuple(self.call(inner, inputs, {}))
            return list(inputs)
        if is_identity(layer):
            return list(inputs[:1])
        ops = read_layer(layer, len(inputs))
        if ops is None:
            parts = _parts(layer) if len(inputs) == 1 else None
            if parts is not None:
                return self._composed(layer, parts, inputs)
            return self._opaque(layer, args, kwargs, inputs)
        for suffix, kind, op in ops:
            inputs = (self._add(f"{layer.name}{suffix}", kind, inputs, op),)
        return list(inputs[:1])

    def _functional(self, model: Any, inputs: Sequence[Ref]) -> list[Ref]:
        values: dict[int, Ref] = {id(t): ref for t, ref in zip(model.inputs, inputs, strict=True)}
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):  # noqa: SLF001 - no public way
            for node in nodes:
                if node.is_input:
                    continue
                operation, tensors, args, kwargs = _node_call(node)
                if any(id(t) not in values for t in tensors):
                    continue  # belongs to another model that shares this layer
                args, kwargs = _map((args, kwargs), lambda leaf: values.get(id(leaf), leaf))
                results = self.call(operation, args, kwargs)
                for tensor, ref in zip(_flat(node.outputs), results, strict=True):
                    values[id(tensor)] = ref
        return [values[id(tensor)] for tensor in model.outputs]

    def _composed(self, layer: Any, parts: Any, inputs: Sequence[Ref]) -> list[Ref]:
        """Take down the layers that a custom layer is made of, under names that begin with its own."""
        outside, self._within = self._within, f"{self._within}{layer.name}_"
        found = self._functional(parts, inputs)
        self._within = outside
        return found

    def _opaque(
        self, layer: Any, args: Sequence[Any], kwargs: dict[str, Any], inputs: tuple[Ref, ...]
    ) -> list[Ref]:
        distinct = tuple(dict.fromkeys(inputs))
        if _accepts_training(layer):
            kwargs = {**kwargs, "training": False}

        def call(tensors: Sequence[Any]) -> list[Any]:
            filled = dict(zip(distinct, tensors, strict=True))
            new_args, new_kwargs = _map(
                (args, kwargs), lambda leaf: filled[leaf] if isinstance(leaf, Ref) else leaf
            )
            return _flat(layer(*new_args, **new_kwargs))

        op = Opaque(call, parameters=_count(layer))
        ref = self._add(layer.name, type(layer).__name__, distinct, op)
        return [Ref(ref.node, index) for index in range(_output_count(layer))]

    def _add(self, name: str, kind: str, inputs: tuple[Ref, ...], op: Op) -> Ref:
        name = self._unique(name)
        self.graph.nodes.append(Node(name=name, kind=kind, inputs=inputs, op=op))
        return Ref(name)

    def _unique(self, name: str) -> str:
        """A name that TensorFlow accepts as a scope; the second of the same name gets the suffix ``_1``."""
        base = _UNSAFE_NAME.sub("_", name if name.startswith(self._within) else f"{self._within}{name}")
        if not base[:1].isalnum():
            base = f"layer{base}"
        unique, number = base, 0
        while unique in self._taken:
            number += 1
            unique = f"{base}_{number}"
        self._taken.add(unique)
        return unique

    def _inference_arguments(self, layer: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Drop ``training`` and empty masks; refuse a layer that was asked to stay in training mode.

        Only Keras 2 does: Keras 3 records the default of augmentation layers, training=True, and overrides
        it by the ``training=False`` that the whole model is called with.
        """
        stays = kwargs.get("training") and type(layer).__module__.split(".")[0] != "keras"
        if stays and (is_random(layer) or _is_functional(layer) or _is_sequential(layer)):
            raise ModelError(
                f"layer '{layer.name}' is called with training=True, so that its output is random or depends "
                "on the batch",
                hint="build the model without training=True in the call, then save it again",
            )
        return {k: v for k, v in kwargs.items() if k != "training" and not (k == "mask" and v is None)}


def _node_call(node: Any) -> tuple[Any, list[Any], Any, Any]:
    """The layer, input tensors and arguments of one recorded call, in Keras 3 or Keras 2 terms."""
    if hasattr(node, "operation"):
        return node.operation, node.input_tensors, node.arguments.args, node.arguments.kwargs
    return node.layer, node.keras_inputs, node.call_args or (), node.call_kwargs or {}


def _is_functional(layer: Any) -> bool:
    return (
        hasattr(layer, "_nodes_by_depth") and _call_is_from(layer, "Functional") and not _is_sequential(layer)
    )


def _is_sequential(layer: Any) -> bool:
    return hasattr(layer, "layers") and _call_is_from(layer, "Sequential", "Pipeline")


def _call_is_from(layer: Any, *classes: str) -> bool:
    """Whether the layer's `call` is the library's own, not overridden in a subclass."""
    for owner in type(layer).__mro__:
        if "call" in vars(owner):
            return owner.__name__ in classes and owner.__module__.split(".")[0] in ("keras", "tf_keras")
    return False


def _parts(layer: Any) -> Any:
    """Return the layers that a custom layer of Keras 3 calls, connected; None where it does more than that.

    Its `call` runs on tensors without values, as when its author built the model: code that works on values
    raises something, and such a layer is kept whole, as is one with weights of its own.
    """
    if is_library_class(layer) or not getattr(layer, "_layers", None) or hasattr(layer, "_nodes_by_depth"):
        return None
    keras = import_keras()
    recorded = [node for node in getattr(layer, "_inbound_nodes", ()) if len(node.input_tensors) == 1]
    own = {id(weight) for weight in layer.weights}
    own -= {id(weight) for inner in layer._layers for weight in inner.weights}  # noqa: SLF001 - no public way
    if not recorded or own:
        return None
    tensor = recorded[0].input_tensors[0]
    image = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
    try:
        options = {"training": False} if _accepts_training(layer) else {}
        return keras.Function([image], _flat(layer.call(image, **options)))
    except Exception:  # noqa: BLE001 - a custom `call` may raise anything; the layer is called as it is
        return None


def _accepts_training(layer: Any) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _count(layer: Any) -> int:
    return (
        int(layer.count_params()) if hasattr(layer, "count_params") and getattr(layer, "built", False) else 0
    )


def _output_count(layer: Any) -> int:
    """Number of output tensors of a layer, from its recorded calls."""
    recorded = [node for node in getattr(layer, "_inbound_nodes", ()) if node.outputs is not None]
    return len(_flat(recorded[0].outputs)) if recorded else 1


def _map(structure: Any, function: Callable[[Any], Any]) -> Any:
    """Apply `function` to the leaves of nested lists, tuples and dictionaries."""
    if isinstance(structure, Ref):
        return function(structure)
    if isinstance(structure, dict):
        return {key: _map(value, function) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        mapped = [_map(value, function) for value in structure]
        return tuple(mapped) if isinstance(structure, tuple) else mapped
    return function(structure)


def _refs(structure: Any) -> Iterator[Ref]:
    if isinstance(structure, Ref):
        yield structure
    elif isinstance(structure, dict):
        for value in structure.values():
            yield from _refs(value)
    elif isinstance(structure, list | tuple):
        for value in structure:
            yield from _refs(value)


def _flat(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        return [leaf for value in structure.values() for leaf in _flat(value)]
    if isinstance(structure, list | tuple):
        return [leaf for value in structure for leaf in _flat(value)]
    return [structure]
