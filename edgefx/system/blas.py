"""Matrix products and factors on one core."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which NumPy's linear algebra uses one thread.

    For matrices of about a thousand rows, beside which a runtime computes on the other cores: OpenBLAS's
    threads wait for each other by spinning. Rounding the weights of EfficientNet-B0 takes 4 s of one core
    with one thread, and 12 s of two with two. Nor does the sum depend on the number of cores then.
    """
    limited: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> Any:
    import numpy as np  # noqa: F401 - a library that is not loaded yet is not found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
