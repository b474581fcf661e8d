"""``python -m edgefx.compilers.arena FILE MOST``: the smallest arena with which TFLM runs a model.

A program of its own, because a file that the interpreter does not get along with may end its process. Prints
the bytes; what TFLM says of a failure goes to stderr. Imports nothing of edgefx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_STEP = 16  # bytes; arenas are aligned to so many
_FIRST = 1 << 16
_MORE = 256  # bytes that are tried in addition, where an arena to prepare the model is too small to run it


def smallest(content: bytes, most: int) -> int:
    """Return the smallest arena, a multiple of 16 bytes.

    Args:
        content: A ``.tflite`` file whose input and output are integers.
        most: What is tried at most.

    Raises:
        RuntimeError: The interpreter refuses the file whatever its arena, or it takes more than `most`.
    """
    from tflite_micro.python.tflite_micro import runtime

    # An image classifier has no variables, and to count them the file would be parsed at every try.
    runtime.count_resource_variables = lambda _: 0

    def opened(size: int) -> Any:
        return runtime.Interpreter.from_bytes(content, arena_size=size)

    high = _FIRST
    while True:
        try:
            _run(opened(high))
            break
        except RuntimeError:
            if high >= most:
                raise
            high = min(2 * high, most)
    low = 0 if high == _FIRST else high // 2  # does not suffice
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        try:
            opened(middle)
        except RuntimeError:
            low = middle
        else:
            high = middle
    while True:
        try:
            _run(opened(high))
        except RuntimeError:  # to run it takes some memory more, for a moment
            if high >= most:
                raise
            high = min(high + _MORE, most)
        else:
            return high


def _run(interpreter: Any) -> None:
    """Run the interpreter once."""
    import numpy as np

    details = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()


if __name__ == "__main__":
    file, most = sys.argv[1:]
    try:
        print(smallest(Path(file).read_bytes(), int(most)))  # noqa: T201 - the result of the program
    except RuntimeError as error:
        sys.exit(str(error))
