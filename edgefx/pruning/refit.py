"""Weights of narrower blocks that put out what the whole ones did, block after block.

Each block is fitted with the blocks before it narrow already, so that it makes good what these have lost as
well (He, Zhang and Sun, "Channel pruning for accelerating very deep neural networks", 2017, section 3.2): the
gate's first convolution to its former sums, then the projection to its former outputs. Depthwise convolutions
and the gate's factors stay as they are, but for the channels that go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph import ir
from edgefx.models.graph.freeze import GraphSession
from edgefx.models.graph.ir import IMAGE, Node
from edgefx.pruning import elimination
from edgefx.pruning.blocks import MBConvBlock
from edgefx.pruning.observe import BlockValues, places, rows
from edgefx.system.graphs import running
from edgefx.system.parallel import ordered

if TYPE_CHECKING:
    from pathlib import Path

    from edgefx.protocols import Task
    from edgefx.types import Pixels

    FloatArray = NDArray[np.float64]

# What is fitted to one vector for each image, and many more channels than images, stays near what it was.
_GATE_DAMPING = 0.1

Weights = tuple[ir.Array, ir.Array]  # kernel and bias


def narrowed(block: MBConvBlock, nodes: Mapping[str, Node], kept: NDArray[np.int64]) -> dict[str, Weights]:
    """Return the weights of a block's layers without the channels that go, otherwise as they are."""
    found = {}
    for name in (*block.cut_outputs, *block.cut_inputs):
        op = nodes[name].op
        assert isinstance(op, ir.Conv | ir.DepthwiseConv)
        assert op.bias is not None
        is_output = name in block.cut_outputs
        axis = 2 if not is_output or isinstance(op, ir.DepthwiseConv) else 3
        found[name] = np.take(op.kernel, kept, axis=axis), op.bias[kept] if is_output else op.bias
    return found


@dataclass(kw_only=True, eq=False)
class _Sums:
    """What a least-squares fit of outputs to channels needs."""

    count: int = 0
    channels: Any = 0.0
    outputs: Any = 0.0
    squares: Any = 0.0
    products: Any = 0.0

    def add(self, channels: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
        self.count += len(channels)
        self.channels += channels.sum(axis=0, dtype=np.float64)
        self.outputs += outputs.sum(axis=0, dtype=np.float64)
        self.squares += channels.T @ channels
        self.products += channels.T @ outputs

    def fitted(self, weights: Weights, damping: float) -> Weights:
        """Return kernel [1, 1, in, out] and bias [out] that stay near the present ones."""
        kernel = weights[0]
        means, wanted = self.channels / self.count, self.outputs / self.count
        near = np.asarray(kernel, np.float64).reshape(kernel.shape[2:])
        found = elimination.fitted(
            self.squares / self.count - np.outer(means, means),
            self.products / self.count - np.outer(means, wanted),
            near,
            damping=damping,
        )
        return found.reshape(kernel.shape).astype(np.float32), (wanted - means @ found).astype(np.float32)


class Refitting:
    """Goes through a graph whose blocks are narrow already, from the image to the last block.

    Args:
        path: The graph, its channels removed and its weights otherwise those of the whole graph.
        tensors: The tensor that each layer puts out.
        nodes: The layers of the whole graph.
        pixels: Raw RGB uint8 [N, H, W, 3].
        seed: Of the positions that are looked at; as `observe.observe` was given it.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, str],
        nodes: Mapping[str, Node],
        pixels: Pixels,
        *,
        seed: int,
    ) -> None:
        self._session = GraphSession(path)
        self._tensors = tensors
        self._nodes = nodes
        self._pixels = pixels
        self._seed = seed
        self._state = ""  # the tensor that is given for what came before, and its values, by image
        self._values: Sequence[NDArray[np.float32]] = ()

    def fit(
        self, block: MBConvBlock, weights: Mapping[str, Weights], whole: BlockValues, task: Task
    ) -> dict[str, Weights]:
        """Return the weights of a block's gate and projection; the block before it must be done.

        Args:
            block: The next one.
            weights: Those of its layers without the channels that go.
            whole: What the block put out with all of its channels.
            task: Counts images.
        """
        found: dict[str, Weights] = {}
        given: dict[str, list[NDArray[np.float32]]] = {}
        if block.reduce:
            pooled = list(self._run(self._source(block.reduce), given))
            sums = _Sums()
            for value, wanted in zip(pooled, whole.gates, strict=True):
                sums.add(value.reshape(1, -1), wanted)
            found[block.reduce] = sums.fitted(weights[block.reduce], _GATE_DAMPING)
            given[self._tensors[block.reduce]] = [_applied(one, found[block.reduce]) for one in pooled]
        read, sums = self._source(block.project), _Sums()
        for number, value in enumerate(self._run(read, given)):
            sums.add(rows(value, places(self._seed, number, value)), whole.outputs[number])
        found[block.project] = sums.fitted(weights[block.project], elimination.DAMPING)
        put_out = [_applied(value, found[block.project]) for value in self._run(read, given)]
        if block.end != block.project:
            put_out = list(self._run(self._tensors[block.end], {self._tensors[block.project]: put_out}))
        self._state, self._values = self._tensors[block.end], put_out
        task.advance(len(self._pixels))
        return found

    def _source(self, layer: str) -> str:
        """Return the tensor that a layer reads."""
        return self._tensors[self._nodes[layer].inputs[0].node]

    def _run(
        self, wanted: str, given: Mapping[str, Sequence[NDArray[np.float32]]]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield a tensor for each image, where others are given, and the end of the block before."""
        if self._state:
            given = {**given, self._state: self._values}
        run = self._session.callable([wanted], [f"{IMAGE}:0", *given])

        def computed(number: int) -> NDArray[np.float32]:
            image = self._pixels[number][None].astype(np.float32)
            with running("the model's graph"):
                (value,) = run(image, *(values[number] for values in given.values()))
            found: NDArray[np.float32] = value
            return found

        yield from ordered(computed, range(len(self._pixels)))


def _applied(value: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
    """Return what a pointwise convolution makes of a map [1, H, W, in]."""
    kernel, bias = weights
    return np.asarray(value @ kernel.reshape(kernel.shape[2:]) + bias, np.float32)
