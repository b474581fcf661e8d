"""A canonical graph without the sigmoid or softmax that it ends in, for artifacts that end in logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgefx.errors import ModelError
from edgefx.models.backwards import PASS_THROUGH
from edgefx.models.graph.freeze import reachable, read
from edgefx.storage.atomic import replacing
from edgefx.types import FrozenGraph, OutputKind
from edgefx.vocabulary import ScoreFunction

_FUNCTIONS = {"Sigmoid": ScoreFunction.SIGMOID, "Softmax": ScoreFunction.SOFTMAX}


def before_scores(graph: FrozenGraph) -> FrozenGraph:
    """Return a graph that ends in logits, beside the file of the one that ends in scores.

    Args:
        graph: A canonical graph. One that ends in logits is returned as it is.

    Raises:
        ModelError: No sigmoid or softmax is found at its end.
    """
    if graph.spec.output is not OutputKind.PROBABILITIES:
        return graph
    graph_def = read(graph.path)
    (output,) = graph.output_names
    end = _end(graph_def, output)
    if end is None:
        raise ModelError(
            f"{graph.spec.source}: it does not end in a sigmoid or a softmax of its own",
            hint="leave --ends out",
        )
    function = _FUNCTIONS[end.op]
    for node in graph_def.node:
        node.input[:] = [
            end.input[0] if source.split(":")[0] == end.name else source for source in node.input
        ]
        if node.name == output:
            node.name = function.output_name
    graph_def = reachable(graph_def, [function.output_name])
    used = {node.name.split("/", 1)[0] for node in graph_def.node}
    workdir = graph.workdir / "logits"
    workdir.mkdir(exist_ok=True)
    path = workdir / "graph.pb"
    with replacing(path) as made:
        made.write_bytes(graph_def.SerializeToString(deterministic=True))
    return replace(
        graph,
        path=path,
        spec=replace(graph.spec, output=OutputKind.LOGITS),
        layers=tuple(layer for layer in graph.layers if layer.name in used),
        workdir=workdir,
        left_off=function,
    )


def _end(graph_def: Any, output: str) -> Any:
    """Return the operation that makes scores of logits; None where something else makes them."""
    nodes = {node.name: node for node in graph_def.node}
    node = nodes[output]
    while node.op in PASS_THROUGH:
        node = nodes[node.input[0].split(":")[0]]
    return node if node.op in _FUNCTIONS else None
