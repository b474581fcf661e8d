"""Models that compute in 16 bits, of which the baseline is to compute in 32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgefx.errors import ModelError
from edgefx.models.backend import first_line

_HALVES = ("float16", "bfloat16")
_WEIGHTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def in_float32(model: Any, *, source: str) -> tuple[Any, tuple[str, ...]]:
    """Let a model compute in float32, on the weights that it has.

    Args:
        model: Of Keras 2 or 3; it is changed where its weights are stored in float32.
        source: The model, for messages.

    Returns:
        The model, and what the user should know of it.

    Raises:
        ModelError: Its weights are stored in 16 bits, and it cannot be built anew; or in integers.
    """
    for layer in all_layers(model):
        if mode := getattr(layer, "quantization_mode", None):
            raise ModelError(
                f"{source}: its layer {layer.name} was quantized by Keras ({mode}) and is no float"
                " model to compare with",
                hint="give the model as it was before model.quantize()",
            )
    names = sorted(_half_policies(model))
    if not names:
        return model, ()
    if any(getattr(variable.dtype, "name", variable.dtype) in _HALVES for variable in model.weights):
        model = _built_anew(model, source)
    else:
        for layer in all_layers(model):
            _let_compute(layer)
    note = f"saved with {', '.join(names)}: the baseline computes in float32, on the same weights"
    return model, (note,)


def check_graph(graph: Any, *, source: str) -> None:
    """Refuse a graph that computes in 16 bits: nothing can let it compute in 32.

    Args:
        graph: The ``tf.Graph`` of a SavedModel.
        source: The model, for messages.

    Raises:
        ModelError: It has such convolutions or matrix products.
    """
    import tensorflow as tf

    definition = graph.as_graph_def()
    nodes = (*definition.node, *(node for one in definition.library.function for node in one.node_def))
    if any(node.op in _WEIGHTED and tf.as_dtype(node.attr["T"].type).name in _HALVES for node in nodes):
        raise ModelError(
            f"{source}: computes in 16 bits (mixed precision), which cannot be changed in a SavedModel",
            hint="save it as .keras, which edgefx computes in float32; or build it under the policy float32, "
            "set_weights to what get_weights gives, and export that",
        )


def all_layers(model: Any) -> Iterator[Any]:
    """Yield a model and the layers in it, of models within it too."""
    yield model
    if hasattr(model, "_flatten_layers"):
        yield from model._flatten_layers(include_self=False)  # noqa: SLF001 - the only way to reach all


def _half_policies(model: Any) -> set[str]:
    return {layer.dtype_policy.name for layer in all_layers(model) if _is_half(layer)}


def _is_half(layer: Any) -> bool:
    policy = getattr(layer, "dtype_policy", None)
    if policy is None or getattr(policy, "quantization_mode", None):
        return False
    return bool(policy.compute_dtype in _HALVES)


def _let_compute(layer: Any) -> None:
    if not _is_half(layer):
        return
    if hasattr(layer, "_set_dtype_policy"):
        layer._set_dtype_policy("float32")  # noqa: SLF001 - Keras 2 has no public setter
    else:
        layer.dtype_policy = "float32"
    if type(layer).__name__ == "Normalization":
        _renew_statistics(layer)


def _renew_statistics(layer: Any) -> None:
    """Replace the float16 copies of mean and variance that a Normalization layer computes with."""
    import tensorflow as tf

    if layer.input_mean is None:
        layer.finalize_state()
        return
    for name in ("mean", "variance"):
        value = np.asarray(getattr(layer, f"input_{name}"), np.float32)
        shape = np.shape(getattr(layer, name))
        setattr(layer, name, tf.constant(np.broadcast_to(value.reshape(-1), np.prod(shape)).reshape(shape)))


def _built_anew(model: Any, source: str) -> Any:
    """Build the same layers in float32: a layer cannot change what its weights are stored in."""
    try:
        rebuilt = type(model).from_config(_renamed(model.get_config()))
        rebuilt.set_weights([np.asarray(value, np.float32) for value in model.get_weights()])
    except Exception as error:  # a custom class may raise anything
        raise ModelError(
            f"{source}: its weights are stored in 16 bits, and its layers cannot be built in 32: "
            f"{first_line(error)}",
            hint="build it under the float32 policy, set_weights to what get_weights gives, and save that",
        ) from error
    for layer in all_layers(rebuilt):
        if type(layer).__name__ == "Normalization" and layer.input_mean is None:
            layer.finalize_state()
    return rebuilt


def _renamed(config: Any) -> Any:
    """Return a configuration whose policies and dtypes are of 32 bits."""
    if isinstance(config, dict):
        return {key: _renamed(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_renamed(value) for value in config)
    return "float32" if config in (*_HALVES, "mixed_float16", "mixed_bfloat16") else config
