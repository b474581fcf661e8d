"""A canonical graph with fewer expansion channels, as near to the whole one as calibration images tell.

Of each block, channels go in the order of `elimination`; how many, says what is lost for the weights that are
saved, as for values of weights (`quantize.allocation`). Then the blocks are fitted anew (`refit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgefx.compression import NarrowedBlock
from edgefx.errors import ModelError
from edgefx.models.graph import ir
from edgefx.models.graph.from_tensorflow import with_tensors, with_weights
from edgefx.models.graph.to_tensorflow import describe
from edgefx.pruning import blocks as found_blocks
from edgefx.pruning.blocks import MBConvBlock
from edgefx.pruning.elimination import Elimination, eliminate
from edgefx.pruning.observe import BlockValues, observe
from edgefx.pruning.refit import Refitting, narrowed
from edgefx.quantize.allocation import Choice, allocate
from edgefx.types import FrozenGraph, LayerInfo, Spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.protocols import Progress
    from edgefx.types import Pixels

_LEAST = 0.25  # of a block's channels that stay at least


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruned:
    """A graph with fewer channels.

    Attributes:
        graph: The graph.
        blocks: Those of its blocks that channels were removed of, in order.
    """

    graph: FrozenGraph
    blocks: tuple[NarrowedBlock, ...]


def prune(
    graph: FrozenGraph,
    pixels: Pixels,
    *,
    share: float,
    multiple: int,
    seed: int,
    workdir: Path,
    progress: Progress,
) -> Pruned:
    """Remove expansion channels until a share of the model's weights is gone.

    Args:
        graph: The canonical graph.
        pixels: Images to go by, raw RGB uint8 [N, H, W, 3].
        share: Of all weights of the model, that are to go at least.
        multiple: What the channels that are left in a block are a multiple of.
        seed: Of the positions in the images that are looked at.
        workdir: A folder of the new graph alone, which is emptied first.
        progress: Told of each pass over the images.

    Raises:
        ModelError: There are no blocks to take channels of, or too few.
    """
    if not graph.layers:
        raise ModelError(
            f"{graph.spec.source} has no layers whose channels could be removed",
            hint="a SavedModel exported without its Keras layers is only a function: give the .keras or .h5 "
            "file that it was exported from",
        )
    layers, tensors = with_tensors(graph)
    infos = {layer.name: layer for layer in graph.layers}
    blocks = found_blocks.find(layers, infos)
    if not blocks:
        raise ModelError(
            f"{graph.spec.source} has no block whose expansion channels could be removed",
            hint="only MBConv and Fused-MBConv blocks have some, as EfficientNets are made of, with biases or"
            " batch normalization, whose channels no other layer reads; leave --prune channels out",
        )
    with progress.task("observing channels", len(pixels)) as task:
        observed = observe(graph, blocks, tensors, pixels, seed=seed, task=task)
    nodes = layers.by_name()
    chosen = _chosen(blocks, nodes, infos, observed, share=share, multiple=multiple, source=graph.spec.source)
    weights = {
        name: values
        for block, kept, _ in chosen
        for name, values in narrowed(block, nodes, kept).items()
    }  # fmt: skip
    first = with_weights(graph, weights, workdir / "cut", why="pruned")
    refitting = Refitting(first.path, tensors, nodes, pixels, seed=seed)
    with progress.task("fitting narrower blocks", len(chosen) * len(pixels)) as task:
        for block, _, _ in chosen:
            weights |= refitting.fit(block, weights, observed[block.project], task)
    made = with_weights(graph, weights, workdir / "graph", why="pruned")
    return Pruned(
        graph=_described(made, nodes, {block: kept for block, kept, _ in chosen}, weights),
        blocks=tuple(
            NarrowedBlock(layer=block.expand, before=block.channels, after=len(kept), loss=loss)
            for block, kept, loss in chosen
        ),
    )


def _chosen(
    blocks: Sequence[MBConvBlock],
    nodes: Mapping[str, ir.Node],
    infos: Mapping[str, LayerInfo],
    observed: Mapping[str, BlockValues],
    *,
    share: float,
    multiple: int,
    source: str,
) -> list[tuple[MBConvBlock, NDArray[np.int64], float]]:
    """Return the blocks to narrow, the channels that stay, and what is lost of each block's output."""
    orders: dict[MBConvBlock, Elimination] = {}
    choices: dict[str, list[Choice]] = {}
    for block in blocks:
        project = nodes[block.project].op
        assert isinstance(project, ir.Conv)
        least = max(multiple * math.ceil(_LEAST * block.channels / multiple), multiple)
        whole, counts = observed[block.project], range(least, block.channels, multiple)
        if not counts:
            continue
        order = eliminate(
            np.asarray(project.kernel, np.float64).reshape(project.kernel.shape[2:]),
            whole.channels.central(),
            block.channels - least,
        )
        orders[block] = order
        energy = float(np.trace(whole.ends.central())) or 1.0
        each = sum(infos[name].parameters for name in block.cut_outputs) // block.channels + sum(
            infos[name].output_shape[-1] for name in block.cut_inputs
        )
        choices[block.project] = [
            Choice(values=count, size=each * count, loss=order.losses[block.channels - count] / energy)
            for count in (block.channels, *reversed(counts))
        ]
    total = sum(layer.parameters for layer in infos.values())
    most = sum(own[0].size - own[-1].size for own in choices.values())
    if most < share * total:
        raise ModelError(
            f"{source}: removing channels can take {100 * most / total:.0f} % of its weights at most, in"
            f" multiples of {multiple} with a quarter of each block's left; {100 * share:g} % are asked for",
            hint=f"ask for less: --prune channels:{max(math.floor(80 * most / total), 1)}%",
        )
    found = allocate(choices, share * total)
    return [
        (block, orders[block].kept(block.channels, block.channels - count), found[block.project].loss)
        for block in blocks
        if block in orders and (count := found[block.project].values or 0) < block.channels
    ]


def _described(
    graph: FrozenGraph,
    nodes: Mapping[str, ir.Node],
    kept: Mapping[MBConvBlock, NDArray[np.int64]],
    weights: Mapping[str, tuple[ir.Array, ir.Array]],
) -> FrozenGraph:
    """Return a graph that says of its layers what is true after channels were removed."""
    infos = {layer.name: layer for layer in graph.layers}
    spreads: dict[str, Spread] = dict(graph.spreads)
    for block, channels in kept.items():
        for name in (*block.inner, *block.cut_inputs):
            node, shape = nodes[name], infos[name].output_shape
            if name in weights:
                kernel, bias = weights[name]
                assert isinstance(node.op, ir.Conv | ir.DepthwiseConv)
                node = replace(node, op=replace(node.op, kernel=kernel, bias=bias))
            if name in block.inner:
                shape = (*shape[:-1], len(channels))
                if name in spreads:
                    spread = spreads[name]
                    spreads[name] = Spread(mean=spread.mean[channels], deviation=spread.deviation[channels])
            infos[name] = describe(node, shape)
    described: tuple[LayerInfo, ...] = tuple(infos[layer.name] for layer in graph.layers)
    macs = sum(layer.macs for layer in described)
    return replace(graph, layers=described, spreads=spreads, spec=replace(graph.spec, macs=macs))
