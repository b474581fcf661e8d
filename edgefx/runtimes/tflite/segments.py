"""A graph or parts of it, run on many images: one image per core at a time.

That is faster than one image on all cores, and what is done with one image's values can overlap with the
computation of the next.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Task
from edgefx.quantize import questions as asking
from edgefx.quantize.questions import Question
from edgefx.runtimes.tflite import flatbuffer
from edgefx.system.host import cores

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

Values = Mapping[int, NDArray[Any]]  # of all images, [N, ...], by tensor index
Reduce = Callable[[int, NDArray[Any]], NDArray[Any]]
_Keep: TypeAlias = Callable[[asking.Values], list[Any]]
_Infer: TypeAlias = Callable[[NDArray[Any], _Keep], list[Any]]

_MEMORY_BYTES = 500_000_000  # for the values of the images that are being run; else fewer at a time


def ask(model: ModelT, questions: Sequence[Question[Any, Any]], images: NDArray[Any], *, task: Task) -> None:
    """Answer questions to a graph in one pass; they see each tensor with its leading 1, by its name.

    Args:
        model: The model; it is not changed.
        questions: What is asked.
        images: [N, H, W, 3], converted to the type of the graph's input.
        task: Counts images.
    """
    graph = model.subgraphs[0]
    indices = {tensor.name.decode(): index for index, tensor in enumerate(graph.tensors)}
    names = asking.names_of(questions)
    wanted = {name: indices[name] for name in names if indices[name] not in graph.inputs}
    content = _extracted(model, graph.operators, graph.inputs, list(wanted.values()))
    size = sum(4 * math.prod(flatbuffer.shape_of(graph.tensors[index])) for index in wanted.values())
    workers = max(1, min(cores(), len(images), _MEMORY_BYTES // max(size, 1)))
    idle: SimpleQueue[_Infer] = SimpleQueue()

    def opened() -> _Infer:
        interpreter = _opened(content, threads=cores() // workers)
        (feed,) = _by_index(model, interpreter, interpreter.get_input_details(), graph.inputs).values()
        views = _by_index(model, interpreter, interpreter.get_output_details(), list(wanted.values()))

        def infer(image: NDArray[Any], keep: _Keep) -> list[Any]:
            feed()[0] = image
            interpreter.invoke()
            values = {name: views[index]() for name, index in wanted.items()}
            return keep(values | {name: image[None] for name in names if name not in wanted})

        return infer

    def one(image: NDArray[Any], keep: _Keep) -> list[Any]:
        infer = idle.get()
        try:
            return infer(image, keep)
        finally:
            idle.put(infer)

    for _ in range(workers):
        idle.put(opened())
    asking.ask(questions, images, one, task=task, workers=workers)


def run(
    model: ModelT,
    operators: Sequence[OperatorT],
    given: Values,
    wanted: Sequence[int],
    reduce: Reduce | None = None,
) -> dict[int, NDArray[Any]]:
    """Run operations over all images.

    Args:
        model: The model; it is not changed.
        operators: Some of its operations, in its order.
        given: What the operations read of the activations; more is ignored.
        wanted: Indices of the tensors to return.
        reduce: What to keep of each image's tensor, given its index and a view [...] of its values; all of
            it by default.

    Returns:
        The wanted tensors, [N, ...] by index.
    """
    read = {int(index) for op in operators for index in op.inputs}
    inputs = sorted(read & given.keys())
    content = _extracted(model, operators, inputs, wanted)
    count = len(next(iter(given.values())))
    workers = min(cores(), count)

    found: dict[int, NDArray[Any]] = {}
    allocating = Lock()

    def place(index: int, value: NDArray[Any]) -> NDArray[Any]:
        with allocating:
            if index not in found:
                found[index] = np.empty((count, *value.shape), value.dtype)
            return found[index]

    def part(first: int) -> None:
        interpreter = _opened(content, threads=1)
        feeds = _by_index(model, interpreter, interpreter.get_input_details(), inputs)
        views = _by_index(model, interpreter, interpreter.get_output_details(), wanted)
        for image in range(first, count, workers):
            for index, feed in feeds.items():
                feed()[0] = given[index][image]
            interpreter.invoke()
            for index, view in views.items():
                value = reduce(index, view()[0]) if reduce else view()[0]
                place(index, value)[image] = value
                del value  # views of the interpreter's memory must be gone before the next invoke

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(part, range(workers)))
    return found


def advance(model: ModelT, start: int, end: int, given: Values) -> dict[int, NDArray[Any]]:
    """Run the operations from `start` up to `end`.

    Returns:
        The activations that the operations from `end` on read, or that the graph gives.
    """
    graph = model.subgraphs[0]
    later = {int(index) for op in graph.operators[end:] for index in op.inputs} | set(map(int, graph.outputs))
    segment = graph.operators[start:end]
    made = [int(index) for op in segment for index in op.outputs if int(index) in later]
    kept = {index: values for index, values in given.items() if index in later}
    return kept | (run(model, segment, given, made) if made else {})


def _extracted(
    model: ModelT, operators: Sequence[OperatorT], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """Return a file of some of the operations, with the tensors and constants that they use and no others."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    used = {int(index) for op in operators for index in (*op.inputs, *op.outputs) if index >= 0}
    places = {index: place for place, index in enumerate(sorted(used))}
    part, body = schema.ModelT(), schema.SubGraphT()
    part.version, part.operatorCodes = model.version, model.operatorCodes
    part.buffers, body.tensors, body.operators = [schema.BufferT()], [], []
    for index in places:
        tensor = copy.copy(graph.tensors[index])
        data = model.buffers[tensor.buffer].data
        tensor.buffer = 0  # by the format's rule the empty one
        if data is not None and len(data):
            part.buffers.append(model.buffers[graph.tensors[index].buffer])
            tensor.buffer = len(part.buffers) - 1
        body.tensors.append(tensor)
    for op in operators:
        renumbered = copy.copy(op)
        renumbered.inputs = [places.get(int(index), -1) for index in op.inputs]
        renumbered.outputs = [places[int(index)] for index in op.outputs]
        body.operators.append(renumbered)
    body.inputs, body.outputs = [places[index] for index in inputs], [places[index] for index in outputs]
    part.subgraphs = [body]
    return flatbuffer.write(part)


def _opened(content: bytes, *, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _by_index(model: ModelT, interpreter: Any, details: Any, indices: Sequence[int]) -> dict[int, Any]:
    """Map our tensor indices to the interpreter's views; it names tensors as the file does."""
    positions = {detail["name"]: detail["index"] for detail in details}
    tensors = model.subgraphs[0].tensors
    return {index: interpreter.tensor(positions[tensors[index].name.decode()]) for index in indices}
