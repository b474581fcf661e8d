"""Classes and functions that Keras does not have: the user's own, and those of a well-known package.

The user's file runs as Python when the model is loaded, which is why only the user can name it: nothing that
a model file says makes edgefx run code.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefx.errors import UsageError
from edgefx.models.backend import first_line, import_keras, import_tf_keras

_MODULE = "edgefx_custom_objects"


def custom_objects(file: Path | None, *, legacy: bool) -> dict[str, Any]:
    """Return what a model file may name besides Keras's own, by each name that Keras looks it up by.

    Args:
        file: The user's Python file; None for none.
        legacy: Whether the model was written by Keras 2.

    Raises:
        UsageError: There is no such file, it cannot be run, or it defines nothing.
    """
    keras = import_tf_keras() if legacy else import_keras()
    found = _of_packages(keras)
    if file is not None:
        found |= _of_file(file, keras, legacy=legacy)
    return found


def _of_packages(keras: ModuleType) -> dict[str, Any]:
    """Return what models of the `efficientnet` package, and of tutorials of hard swish, name.

    FixedDropout is Dropout that drops the same of each image: nothing, at inference.
    """

    def hard_swish(x: Any) -> Any:
        return x * keras.activations.relu(x + 3.0, max_value=6.0) / 6.0

    functions = {"swish": keras.activations.swish, "hard_swish": hard_swish, "h_swish": hard_swish}
    return _named({"FixedDropout": keras.layers.Dropout}) | functions


def _of_file(file: Path, keras: ModuleType, *, legacy: bool) -> dict[str, Any]:
    if not file.is_file():
        raise UsageError(
            f"--custom-objects {file}: no such file", hint="give the Python file that defines them"
        )
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"--custom-objects {file}: not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # where pickles and dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            f"--custom-objects {file}: {type(error).__name__}: {first_line(error)}",
            hint=f"it must run by itself: python {file}",
        ) from error
    own = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == _MODULE and not name.startswith("_")
    }
    if not own:
        raise UsageError(
            f"--custom-objects {file}: it defines no class and no function",
            hint="define the model's custom layers, activations and losses in it",
        )
    _check_keras(file, own, keras, legacy=legacy)
    registered = {keras.saving.get_registered_name(value): value for value in own.values()}
    return _named(own) | registered


def _check_keras(file: Path, own: dict[str, Any], keras: ModuleType, *, legacy: bool) -> None:
    """Refuse layers of the Keras that does not read the model."""
    for name, value in own.items():
        if isinstance(value, type) and not issubclass(value, keras.layers.Layer):
            others = {base.__module__.partition(".")[0] for base in value.__mro__} & {"keras", "tf_keras"}
            if others:
                wrote, wanted = ("Keras 2", "tf_keras") if legacy else ("Keras 3", "keras")
                raise UsageError(
                    f"--custom-objects {file}: '{name}' is a layer of {min(others)}, the model was written by"
                    f" {wrote}",
                    hint=f"import {wanted} in that file",
                )


def name_functions(content: Path, config: Any) -> None:
    """Write custom functions into an HDF5 file of Keras 2 by their names, as it finds them.

    tf_keras writes them as objects, ``{"class_name": "function", "config": "hard_swish"}``, and does not find
    these when it reads HDF5, whatever custom objects it is given.

    Args:
        content: A copy of the file, which is changed.
        config: Its configuration.
    """

    def named(value: dict[str, Any]) -> Any:
        name = value.get("config")
        is_function = value.get("class_name") == "function" and value.get("module") == "builtins"
        return name if is_function and isinstance(name, str) else value

    plain = json.loads(json.dumps(config), object_hook=named)
    if plain != config:
        import h5py

        with h5py.File(content, "r+") as file:
            file.attrs["model_config"] = json.dumps(plain)


def _named(objects: dict[str, Any]) -> dict[str, Any]:
    """Name objects as Keras does without and with its package of custom objects."""
    return objects | {f"Custom>{name}": value for name, value in objects.items()}
