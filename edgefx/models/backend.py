"""The one place that imports Keras and TensorFlow, with the settings edgefx depends on."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgefx.errors import UsageError
from edgefx.system.packages import missing

_BACKEND = "tensorflow"


def import_tensorflow() -> ModuleType:
    """Import TensorFlow.

    Raises:
        MissingDependencyError: TensorFlow is absent, or cannot be imported, for want of memory for example.
    """
    try:
        with _quickly():
            import tensorflow as tf
    except (ImportError, MemoryError) as error:
        raise missing("tensorflow", "keras", purpose="loading a model", cause=error) from error
    return tf  # type: ignore[no-any-return]


@contextmanager
def _quickly() -> Iterator[None]:
    """Import TensorFlow in two thirds of the time.

    Nothing of what it defines is garbage. And Keras imports scikit-learn for its wrappers where it is
    installed, as it is with NNCF; no command uses them, but who imports edgefx may.
    """
    collects, blocks = gc.isenabled(), "edgefx.cli" in sys.modules and "sklearn" not in sys.modules
    gc.disable()
    if blocks:
        sys.modules["sklearn"] = None  # type: ignore[assignment]  # the documented way: it raises ImportError
    try:
        yield
    finally:
        if blocks:
            del sys.modules["sklearn"]
        if collects:
            gc.enable()


def import_keras() -> ModuleType:
    """Import Keras 3 on its TensorFlow backend.

    ``KERAS_BACKEND`` (or ``~/.keras/keras.json``) may name another backend for the user's own work. Where
    Keras is not imported yet, this process overrides it: the backend changes nothing in a saved model.

    Raises:
        MissingDependencyError: Keras or TensorFlow cannot be imported.
        UsageError: Another backend is already active in this process, or images are channels-first.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = _BACKEND
    import_tensorflow()
    try:
        import keras
    except (ImportError, MemoryError) as error:
        raise missing("keras", "tensorflow", purpose="loading a model", cause=error) from error
    active = keras.config.backend()
    if active != _BACKEND:
        raise UsageError(
            f"Keras runs on the '{active}' backend in this process, edgefx needs '{_BACKEND}'",
            hint=f"set KERAS_BACKEND={_BACKEND} before keras is imported",
        )
    if keras.config.image_data_format() != "channels_last":
        raise UsageError(
            "Keras is configured for channels-first images (image_data_format in ~/.keras/keras.json)",
            hint='set "image_data_format": "channels_last" there',
        )
    return keras  # type: ignore[no-any-return]


def import_tf_keras() -> ModuleType:
    """Import tf_keras, the maintained Keras 2, which reads what Keras 2 saved.

    Raises:
        MissingDependencyError: tf_keras cannot be imported.
    """
    try:
        import tf_keras
    except (ImportError, MemoryError) as error:
        raise missing("tf_keras", purpose="a model saved by Keras 2", cause=error) from error
    return tf_keras  # type: ignore[no-any-return]


def import_keras_hub() -> ModuleType:
    """Import keras-hub, which registers its classes with Keras.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    import_keras()
    try:
        import keras_hub
    except (ImportError, MemoryError) as error:
        raise missing("keras_hub", purpose="a model of keras-hub", cause=error) from error
    return keras_hub  # type: ignore[no-any-return]


def first_line(error: BaseException) -> str:
    """The first line of what a library says; the type of the error if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
