"""``python -m edgefx.compilers.arena FILE MOST``: the smallest arena with which TFLM runs a model.

A program of its own, because a file that the interpreter does not get along with may end its process. So may
too small an arena, and each is tried in a process of its own. Prints the bytes; what TFLM says of a failure
goes to stderr. Imports nothing of edgefx.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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

    def opens(size: int) -> bool:
        return _succeeds(lambda: runtime.Interpreter.from_bytes(content, arena_size=size))

    def runs(size: int) -> bool:
        return _succeeds(lambda: _run(runtime.Interpreter.from_bytes(content, arena_size=size)))

    high = _FIRST
    while not runs(high):
        if high >= most:
            raise RuntimeError(f"not in {most} bytes either")
        high = min(2 * high, most)
    low = 0 if high == _FIRST else high // 2  # does not suffice
    enough = high
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        if opens(middle):
            high = middle
        else:
            low = middle
    while high < enough and not runs(high):  # to run it takes some memory more, for a moment
        high = min(high + _MORE, enough)
    return high


def _succeeds(action: Callable[[], object]) -> bool:
    """Do something in a process of its own: in too small an arena the interpreter may end it."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0:
            print(f"the interpreter ended with signal {-code}", file=sys.stderr)  # noqa: T201 - likewise
        return code == 0
    try:
        action()
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - told of a failure
        os._exit(1)
    os._exit(0)


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
