"""Names of models and layers as TensorFlow takes them, which Keras on JAX or PyTorch does not ask for."""

from __future__ import annotations

import re
from typing import Any

from edgefx.models.precision import all_layers

_UNKNOWN = re.compile(r"[^A-Za-z0-9_.\\/>-]")


def made_valid(model: Any) -> None:
    """Rename a model and its layers where TensorFlow would not take their names as scopes.

    Args:
        model: Of Keras 2 or 3; weights and connections stay as they are.
    """
    for layer in all_layers(model):
        name = _UNKNOWN.sub("_", layer.name)
        name = name if name[:1].isalnum() or name[:1] == "." else f"layer{name}"
        if name != layer.name:
            # Keras 2 keeps a property in front of it.
            setattr(layer, "_name" if hasattr(layer, "_name") else "name", name)
