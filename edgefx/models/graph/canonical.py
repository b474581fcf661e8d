"""The deployable graph: what every conversion starts from.

Batch of one; augmentation and dropout stripped; nested models flattened; activations split off; BatchNorm
folded; weights constant; layer names kept. `compare` proves it equal to the model as loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ModelError
from edgefx.models.graph.equality import Discrepancy, of_model
from edgefx.models.graph.flatten import flatten
from edgefx.models.graph.freeze import GraphRunner, count_macs, freeze
from edgefx.models.graph.ir import Conv, Dense, DepthwiseConv
from edgefx.models.graph.passes import simplify
from edgefx.models.graph.to_tensorflow import to_tensorflow
from edgefx.storage.atomic import replacing
from edgefx.types import FrozenGraph, LayerInfo, Spread

if TYPE_CHECKING:
    from edgefx.models.load import LoadedModel
    from edgefx.protocols import Task
    from edgefx.types import Pixels, Scores


def canonicalize(loaded: LoadedModel, workdir: Path) -> FrozenGraph:
    """Write the canonical graph of `loaded` as ``workdir/graph.pb``.

    Raises:
        ModelError: The graph is random at inference, or holds variables that cannot be frozen.
    """
    spec = loaded.spec
    try:
        graph_def, layers, spreads = _graph_def(loaded)
    except ModelError as error:
        raise ModelError(f"{spec.source}: {error.message}", hint=error.hint) from error
    macs = sum(layer.macs for layer in layers) or count_macs(graph_def)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "graph.pb"
    with replacing(path) as made:
        made.write_bytes(graph_def.SerializeToString(deterministic=True))
    return FrozenGraph(
        path=path, spec=replace(spec, macs=macs), layers=layers, workdir=workdir, spreads=spreads
    )


def _graph_def(loaded: LoadedModel) -> tuple[Any, tuple[LayerInfo, ...], dict[str, Spread]]:
    """Layer by layer where the model has layers, else TensorFlow's own graph of it."""
    spec = loaded.spec
    outputs = tuple(one.name for one in spec.outputs) or (spec.output.value,)
    if not loaded.layered:
        return freeze(loaded.trace(batch=1, outputs=outputs), outputs=outputs, inline=True), (), {}
    graph = flatten(loaded.model)
    if loaded.front.is_needed:
        loaded.front.prepend(graph)
    simplify(graph)
    emitted = to_tensorflow(graph, height=spec.height, width=spec.width, outputs=outputs)
    graph_def = freeze(emitted.function, outputs=outputs, inline=emitted.opaque)
    used = {node.name.split("/", 1)[0] for node in graph_def.node}
    spreads = {
        node.name: node.op.spread
        for node in graph.nodes
        if isinstance(node.op, Conv | DepthwiseConv | Dense) and node.op.spread is not None
    }
    return graph_def, tuple(layer for layer in emitted.layers if layer.name in used), spreads


def compare(want: Scores, graph: FrozenGraph, pixels: Pixels, *, task: Task | None = None) -> Discrepancy:
    """Hold the canonical graph against the model as loaded.

    Args:
        want: What the model answers, which runs in batches as for the baseline.
        graph: Its canonical graph, which runs image by image.
        pixels: Real images, uint8 [N, H, W, 3].
        task: Counts images.
    """
    got = GraphRunner(graph.path, outputs=graph.output_names).infer(pixels, task=task)
    return of_model(want, got, graph.spec)
