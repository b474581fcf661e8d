"""A graph or parts of it, run on many images: one image per core at a time.

That is faster than one image on all cores, and what is done with one image's values can overlap with the
computation of the next.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.runtimes.tflite import flatbuffer
from edgefx.system.host import cores
from edgefx.system.parallel import ordered

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

Values = Mapping[int, NDArray[Any]]  # of all images, [N, ...], by tensor index
Reduce = Callable[[int, NDArray[Any]], NDArray[Any]]

_MEMORY_BYTES = 500_000_000  # for the values of the images that are being run; else fewer at a time


def activations(
    model: ModelT, wanted: Sequence[int], images: NDArray[Any]
) -> Iterator[dict[int, NDArray[Any]]]:
    """Run a graph, and yield the activations of one image after the other.

    Args:
        model: The model; it is not changed.
        wanted: Indices of the tensors to yield.
        images: [N, H, W, 3], converted to the type of the graph's input.

    Yields:
        Each wanted tensor with its leading 1, by index.
    """
    graph = model.subgraphs[0]
    content = _extracted(model, graph.operators, graph.inputs, wanted)
    size = sum(4 * math.prod(flatbuffer.shape_of(graph.tensors[index])) for index in wanted)
    # An image's values lie in its interpreter's memory, in a copy that waits, and in one that is worked on.
    workers = max(1, min(cores(), len(images), _MEMORY_BYTES // max(3 * size, 1)))
    idle: SimpleQueue[Callable[[NDArray[Any]], dict[int, NDArray[Any]]]] = SimpleQueue()

    def opened() -> Callable[[NDArray[Any]], dict[int, NDArray[Any]]]:
        interpreter = _opened(content, threads=cores() // workers)
        (feed,) = _by_index(model, interpreter, interpreter.get_input_details(), graph.inputs).values()
        views = _by_index(model, interpreter, interpreter.get_output_details(), wanted)

        def infer(image: NDArray[Any]) -> dict[int, NDArray[Any]]:
            feed()[0] = image
            interpreter.invoke()
            return {index: view().copy() for index, view in views.items()}

        return infer

    def one(image: NDArray[Any]) -> dict[int, NDArray[Any]]:
        infer = idle.get()
        try:
            return infer(image)
        finally:
            idle.put(infer)

    for _ in range(workers):
        idle.put(opened())
    yield from ordered(one, images, workers=workers)


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

    def part(first: int) -> list[dict[int, NDArray[Any]]]:
        interpreter = _opened(content, threads=1)
        feeds = _by_index(model, interpreter, interpreter.get_input_details(), inputs)
        views = _by_index(model, interpreter, interpreter.get_output_details(), wanted)
        found = []
        for image in range(first, count, workers):
            for index, feed in feeds.items():
                feed()[0] = given[index][image]
            interpreter.invoke()
            values = {index: view()[0] for index, view in views.items()}
            found.append({i: np.array(reduce(i, value) if reduce else value) for i, value in values.items()})
            del values  # views of the interpreter's memory must be gone before the next invoke
        return found

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(part, range(workers)))
    return {i: np.stack([parts[n % workers][n // workers][i] for n in range(count)]) for i in wanted}


def advance(model: ModelT, start: int, end: int, given: Values) -> dict[int, NDArray[Any]]:
    """Run the operations from `start` up to `end`; return the activations that those from `end` on read."""
    graph = model.subgraphs[0]
    later = {int(index) for op in graph.operators[end:] for index in op.inputs}
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
