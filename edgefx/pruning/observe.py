"""What the blocks of a whole graph make of some images: which channels matter, and what must be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph.freeze import GraphSession
from edgefx.models.graph.ir import IMAGE
from edgefx.pruning.blocks import MBConvBlock
from edgefx.quantize.gptq import Moments
from edgefx.system.graphs import running
from edgefx.system.parallel import ordered

if TYPE_CHECKING:
    from edgefx.protocols import Task
    from edgefx.types import FrozenGraph, Pixels

POSITIONS = 64  # per image and block; neighbours say much the same


@dataclass(kw_only=True, eq=False)
class BlockValues:
    """What one block makes of the images.

    Attributes:
        channels: Moments of the channels that its projection reads.
        ends: Moments of what the block puts out.
        outputs: What its projection puts out at some positions, by image, [n, out] each.
        gates: What the gate's first convolution puts out, by image, [1, out] each; none without a gate.
    """

    channels: Moments
    ends: Moments
    outputs: list[NDArray[np.float32]] = field(default_factory=list)
    gates: list[NDArray[np.float32]] = field(default_factory=list)


def observe(
    graph: FrozenGraph,
    blocks: Sequence[MBConvBlock],
    tensors: Mapping[str, str],
    pixels: Pixels,
    *,
    seed: int,
    task: Task,
) -> dict[str, BlockValues]:
    """Run a graph over images and note what is made in its blocks, by their projections.

    Args:
        graph: The whole graph.
        blocks: What to look at.
        tensors: The tensor that each layer puts out.
        pixels: Raw RGB uint8 [N, H, W, 3].
        seed: Of the positions that are looked at.
        task: Counts images.
    """
    names = {
        (block.project, what): tensors[layer]
        for block in blocks
        for what, layer in (
            ("channels", block.inner[-1]),
            ("outputs", block.project),
            ("ends", block.end),
            *((("gates", block.reduce),) if block.reduce else ()),
        )
    }
    run = GraphSession(graph.path).callable(list(names.values()), [f"{IMAGE}:0"])

    def looked_at(numbered: tuple[int, NDArray[np.uint8]]) -> dict[tuple[str, str], Any]:
        number, image = numbered
        with running("the model's graph"):
            values = run(image[None].astype(np.float32))
        return {
            key: rows(value, places(seed, number, value))
            for key, value in zip(names, values, strict=True)
        }  # fmt: skip

    found: dict[str, BlockValues] = {}
    for values in ordered(looked_at, enumerate(pixels)):
        for block in blocks:
            own = {what: value for (project, what), value in values.items() if project == block.project}
            one = found.setdefault(
                block.project,
                BlockValues(channels=Moments(block.channels), ends=Moments(own["ends"].shape[1])),
            )
            one.channels.add(own["channels"])
            one.ends.add(own["ends"])
            one.outputs.append(own["outputs"])
            if "gates" in own:
                one.gates.append(own["gates"])
        task.advance()
    return found


def places(seed: int, number: int, value: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the positions of a map [1, H, W, C] that are looked at in an image, by its number."""
    height, width = value.shape[1:3]
    return np.random.default_rng([seed, number]).permutation(height * width)[:POSITIONS]


def rows(value: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors [n, C] at positions of a map [1, H, W, C]."""
    return np.ascontiguousarray(value.reshape(-1, value.shape[-1])[positions])
