"""Ask native libraries to say less; what they say nevertheless is for the caller to redirect, or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = {
    # Set before TensorFlow is imported; its C++ INFO lines say nothing that helps anyone here.
    "TF_CPP_MIN_LOG_LEVEL": "1",
    "GLOG_minloglevel": "1",
    "AUTOGRAPH_VERBOSITY": "0",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Set the libraries' own log levels while the block runs, except those that the user has set."""
    added = [name for name in _VARIABLES if name not in os.environ]
    os.environ.update({name: _VARIABLES[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
