"""``python -m edgefx.compilers.arena FILE MOST``: the smallest arena with which TFLM runs a model.

A program of its own, because a file that the interpreter does not get along with may end its process. So may
too small an arena, and each is tried in a process of its own. Prints the bytes; what TFLM says of a failure
goes to stderr, and the operation at which it ended itself. Imports nothing of edgefx.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ENDED = "the interpreter ended with signal"
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

    def opens(size: int) -> bool:
        return not _tried(lambda: _opened(content, size))

    def runs(size: int) -> bool:
        return not _tried(lambda: _run(content, size))

    high = _FIRST
    while not runs(high):
        if high >= most:
            where = ending(content, most)
            raise RuntimeError(f"{ENDED} at {where}" if where else f"not in {most} bytes either")
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


def ending(content: bytes, arena: int) -> str:
    """Return the operation at which the interpreter ends its process; "" where it does not.

    Args:
        content: A ``.tflite`` file.
        arena: Bytes that suffice.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    if _tried(lambda: _run(content, arena)) >= 0:
        return ""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    model.signatureDefs = None
    operators = graph.operators
    runs, ends = 0, len(operators)  # with so many operations
    while ends - runs > 1:
        middle = (runs + ends) // 2
        graph.operators, graph.outputs = operators[:middle], operators[middle - 1].outputs
        builder = flatbuffers.Builder(len(content))
        builder.Finish(model.Pack(builder), file_identifier=content[4:8])
        part = bytes(builder.Output())
        if _tried(lambda part=part: _run(part, arena)) < 0:  # type: ignore[misc]
            ends = middle
        else:
            runs = middle
    op = operators[ends - 1]
    code = model.operatorCodes[op.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = next((name for name, value in vars(schema.BuiltinOperator).items() if value == number), "?")
    return f"{name} ({graph.tensors[op.outputs[0]].name.decode(errors='replace')})"


def _tried(action: Callable[[], object]) -> int:
    """Do something in a process of its own: in too small an arena the interpreter may end it.

    Returns:
        0 where it was done, 1 where it failed, and the signal that ended the process, negative.
    """
    _runtime()  # once, and not in every process
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0:
            print(f"{ENDED} {-code}", file=sys.stderr)  # noqa: T201 - told of a failure
        return code
    try:
        action()
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - likewise
        os._exit(1)
    os._exit(0)


@cache
def _runtime() -> Any:
    from tflite_micro.python.tflite_micro import runtime

    # An image classifier has no variables, and to count them the file would be parsed at every try.
    runtime.count_resource_variables = lambda _: 0
    return runtime


def _opened(content: bytes, size: int) -> Any:
    return _runtime().Interpreter.from_bytes(content, arena_size=size)


def _run(content: bytes, size: int) -> None:
    """Run a file once, on an image of zeros."""
    import numpy as np

    interpreter = _opened(content, size)
    details = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()


if __name__ == "__main__":
    file, most = sys.argv[1:]
    try:
        print(smallest(Path(file).read_bytes(), int(most)))  # noqa: T201 - the result of the program
    except RuntimeError as error:
        sys.exit(str(error))
