"""A traced graph read backwards: what an operation is computed from, through the functions that it calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

PASS_THROUGH = frozenset({"Identity", "IdentityN", "Cast", "Reshape", "Squeeze", "EnsureShape"})
SUMS = frozenset({"Add", "AddV2", "BiasAdd"})  # the last of two tensors, too, where the batch is 1
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_SMALL = 64  # operations: what is computed from constants alone is computed from fewer
_MOST_READS = 100_000  # twenty times what the ends of the networks of the tests take


class EntangledError(Exception):
    """A graph in which what is asked is not found in bounded time: of many ways, each is read anew."""


@dataclass(frozen=True, eq=False)
class _Scope:
    """The operations of a graph, or of a function where it is called.

    Attributes:
        nodes: The operations by their names.
        arguments: What a function is called with: the tensor's name, and the scope that knows it.
    """

    nodes: dict[str, Any]
    arguments: dict[str, tuple[str, _Scope]]


@dataclass(frozen=True)
class Operation:
    """One of an operation's outputs."""

    graph: Backwards = field(repr=False, compare=False)
    scope: _Scope = field(repr=False)
    name: str
    place: int

    @property
    def type(self) -> str:
        """What it is called in TensorFlow; "" of one that the graph does not have."""
        node = self.scope.nodes.get(self.name)
        return "" if node is None else str(node.op)

    @property
    def inputs(self) -> list[Operation]:
        """What it is computed from, past the calls of functions."""
        if not self.type:
            return []
        sources = [one for one in self.scope.nodes[self.name].input if not one.startswith("^")]
        if self.type == "IdentityN":
            sources = [sources[self.place]]
        return [self.graph.resolved(one, self.scope) for one in sources]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output, with -1 for what is not known; () where nothing is."""
        if not self.type:
            return ()
        known = self.scope.nodes[self.name].attr["_output_shapes"].list.shape
        return tuple(one.size for one in known[self.place].dim) if len(known) > self.place else ()

    @property
    def number(self) -> float | None:
        """Its value, where it is a constant of a single one."""
        from tensorflow import make_ndarray

        if self.type != "Const":
            return None
        value = make_ndarray(self.scope.nodes[self.name].attr["value"].tensor)
        return float(value.item()) if value.size == 1 and value.dtype.kind == "f" else None

    @property
    def is_constant(self) -> bool:
        """Whether no pixel changes it."""
        found = list(islice(self.above(), _SMALL))
        return len(found) < _SMALL and not any(one.name == self.graph.image for one in found)

    def above(self) -> Iterator[Operation]:
        """Yield it and all that it is computed from, each once, the nearest first."""
        seen, waiting = {self}, deque([self])
        while waiting:
            one = waiting.popleft()
            yield one
            for source in one.inputs:
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)

    def past(self, types: frozenset[str] = PASS_THROUGH) -> Operation:
        """Return what it comes from by operations of these types, through the first input of each."""
        found = self
        while found.type in types:
            found = found.inputs[0]
        return found


class Backwards:
    """A graph with its functions, to be read from its outputs.

    Args:
        graph_def: A GraphDef. Shapes are those of its attributes ``_output_shapes``.
        image: The name of the placeholder of the image.
    """

    def __init__(self, graph_def: Any, *, image: str) -> None:
        self.image = image
        self._functions = {one.signature.name: one for one in graph_def.library.function}
        self._outermost = _Scope({node.name: node for node in graph_def.node}, {})
        self._calls: dict[tuple[_Scope, str], _Scope] = {}
        self._reads = 0

    def begin(self) -> None:
        """Begin with a question: the reads that it may take are counted from here."""
        self._reads = 0

    def output(self, name: str) -> Operation:
        """Return the operation of this name; of a call, the one that computes its result."""
        return self.resolved(name, self._outermost)

    def resolved(self, source: str, scope: _Scope) -> Operation:
        """Return the operation that computes a tensor, past arguments and calls of functions.

        Raises:
            EntangledError: The question has taken too many reads.
        """
        while True:
            self._reads += 1
            if self._reads > _MOST_READS:
                raise EntangledError
            name, place = _tensor(source)
            if name in scope.arguments:
                source, scope = scope.arguments[name]
                continue
            node = scope.nodes.get(name)
            if node is None or node.op not in _CALLS:
                return Operation(self, scope, name, place)
            function = self._functions[node.attr["f"].func.name]
            source = function.ret[function.signature.output_arg[place].name]
            scope = self._called(node, function, scope)

    def _called(self, node: Any, function: Any, scope: _Scope) -> _Scope:
        """Return the scope of a call, the same whenever it is read."""
        key = (scope, node.name)
        if key not in self._calls:
            given = [(one, scope) for one in node.input if not one.startswith("^")]
            names = [one.name for one in function.signature.input_arg]
            nodes = {inner.name: inner for inner in function.node_def}
            self._calls[key] = _Scope(nodes, dict(zip(names, given, strict=True)))
        return self._calls[key]


def _tensor(source: str) -> tuple[str, int]:
    """Return the operation of ``name``, ``name:1`` or ``name:output:0``, and the number of its output.

    The last is how functions write it, whose calls of others number their outputs behind that name.
    """
    name, *place = source.split(":")
    return name, int(place[-1]) if place else 0
