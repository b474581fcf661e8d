"""The embedded model, loaded once for all runs of a process: Keras takes five seconds to build it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def digits_once() -> Iterator[None]:
    """Let what imports `load` while a test runs share one `LoadedModel` of `digits` as it ships.

    Nothing changes a loaded model. Tests of loading import the function before this, and processes that tests
    start do not see it.
    """
    from edgefx.models import load as module
    from edgefx.models.backend import import_keras
    from edgefx.models.hints import NO_HINTS
    from edgefx.models.zoo import PACKAGED

    real, shared = module.load, list[module.LoadedModel]()

    def load(model: str, **options: Any) -> module.LoadedModel:
        plain = (options.get("weights") or PACKAGED) == PACKAGED and not options.get("sha256")
        asked = [options.get(name) for name in ("classes", "input_size")]
        if model != "digits" or not plain or any(asked) or options.get("hints", NO_HINTS) != NO_HINTS:
            return real(model, **options)
        if not shared:
            shared.append(real(model, **options))
        else:  # what building it does to Keras
            keras = import_keras()
            keras.utils.clear_session()
            keras.utils.set_random_seed(options.get("seed", 0))
        return shared[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load", load)
        yield
