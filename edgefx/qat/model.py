"""The canonical graph as a trainable model that rounds where an integer artifact rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from edgefx.models.graph import ir, tf_keras
from edgefx.models.graph.ir import Graph, Node, Ref
from edgefx.qat import layers
from edgefx.qat.layers import TrainedGrid
from edgefx.qat.parameters import FakeQuantization

# Layers that hand values on as they are: what comes out is on the grid of what went in.
_HANDING_ON = (ir.Pad, ir.Reshape)


class FakeQuantModel:
    """A ``tf_keras.Model`` of the scores before softmax or sigmoid, and what is trained in it.

    Args:
        graph: The canonical layers.
        start: What the artifact rounds, and how.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        features: Layers whose outputs are wanted as well.
    """

    def __init__(
        self,
        graph: Graph,
        start: FakeQuantization,
        *,
        height: int,
        width: int,
        features: tuple[str, ...] = (),
    ) -> None:
        self.start = start
        self.grids = {name: TrainedGrid(grid, name) for name, grid in start.grids.items()}
        self._graph, self.head = without_head(graph)
        self._rounded_later = self._before_swish()
        self.model = tf_keras.build(
            self._graph, height=height, width=width, layers=self._makers(), wrap=self._behind
        )
        # tf_keras does not look for variables in what is no layer.
        self._weighted = [layer for layer in self.model.layers if isinstance(layer, layers.Weighted)]
        if features:
            outputs = [self.model.get_layer(name).output for name in features]
            self.model = type(self.model)(self.model.input, [self.model.output, *outputs])

    @property
    def values_per_image(self) -> int:
        """What the layers put out for one image, together; 0 where sizes are not known."""
        outputs = [tensor for layer in self.model.layers for tensor in tf.nest.flatten(layer.output)]
        return sum(output.shape[1:].num_elements() or 0 for output in outputs)

    @property
    def codes(self) -> list[Any]:
        """The weights, in units of their steps."""
        return [layer.codes for layer in self._weighted]

    @property
    def biases(self) -> list[Any]:
        """The biases, in steps of the layers' outputs."""
        return [layer.bias for layer in self._weighted]

    @property
    def log_scales(self) -> list[Any]:
        """The logarithms of the activations' scales, of the grids that may be trained and are used."""
        used = set(self.start.outputs.values())
        return [grid.log_scale for name, grid in self.grids.items() if name in used and not grid.grid.fixed]

    def read(self) -> FakeQuantization:
        """Return weights, biases and scales as they are now."""
        return replace(
            self.start,
            grids={name: grid.read() for name, grid in self.grids.items()},
            weights={layer.name: layer.read() for layer in self._weighted},
        )

    # -------------------------------------------------------------------------------------------- building

    def _makers(self) -> Mapping[type, tf_keras.Maker]:
        return {
            ir.Conv: self._weighted_layer,
            ir.DepthwiseConv: self._weighted_layer,
            ir.Dense: self._weighted_layer,
            ir.Affine: self._affine,
            ir.Activation: self._activation,
        }

    def _before_swish(self) -> dict[str, str]:
        """The weighted layers whose sum only a swish reads, by the swish: it rounds the sum as well."""
        nodes, readers, found = self._graph.by_name(), self._graph.consumers(), {}
        for node in self._graph.nodes:
            maker = nodes.get(node.inputs[0].node)
            if (
                node.op == ir.Activation("silu")
                and node.name in self.start.gates
                and node.name in self.start.outputs
                and maker is not None
                and maker.name in self.start.weights
                and maker.name in self.start.outputs
                and readers[maker.name] == 1
            ):
                found[node.name] = maker.name
        return found

    def _grid(self, node: Node) -> TrainedGrid | None:
        name = self.start.outputs.get(node.name)
        return None if name is None else self.grids[name]

    def _weighted_layer(self, node: Node) -> Any:
        weights = self.start.weights.get(node.name)
        if weights is None:
            return None
        kinds: dict[type, Any] = {
            ir.Conv: layers.Convolution,
            ir.DepthwiseConv: layers.DepthwiseConvolution,
            ir.Dense: layers.Dense,
        }
        grid = self._grid(node)
        if node.name in self._rounded_later.values():
            assert grid is not None
            return kinds[type(node.op)](node, None, weights, step=grid.grid.scale)
        return kinds[type(node.op)](node, grid, weights)

    def _affine(self, node: Node) -> Any:
        """The pixels' affine operation with the constants that the artifact stores."""
        op = node.op
        assert isinstance(op, ir.Affine)
        scale = self._stored(f"{node.name}/Mul", op.scale)
        offset = self._stored(f"{node.name}/Add", op.offset)
        return layers.Affine(node.name, self._grid(node), scale, offset)

    def _stored(self, operation: str, exact: Any) -> Any:
        stored = self.start.constants.get(operation)
        fits = stored is not None and stored.size in (1, exact.size)
        return (stored.reshape(-1) if stored is not None and fits else exact).astype(np.float32)

    def _activation(self, node: Node) -> Any:
        op = node.op
        if not isinstance(op, ir.Activation) or op.function != "silu":
            return None
        grid, gate = self._grid(node), self.start.gates.get(node.name)
        if grid is None or gate is None:
            return None
        maker, whole = self._rounded_later.get(node.name), self.start.wholes.get(node.name)
        return layers.Swish(
            node.name,
            grid,
            before=None if maker is None else self.grids[self.start.outputs[maker]],
            gate=self.start.grids[gate],
            whole=None if whole is None else self.start.grids[whole],
            factors=self.start.channel_factors.get(node.name),
        )

    def _behind(self, node: Node, layer: Any) -> Any:
        """Round what a layer of tf_keras' own puts out."""
        grid = self._grid(node)
        hands_on = isinstance(node.op, _HANDING_ON) or (
            isinstance(node.op, ir.Pool | ir.GlobalPool) and "max" in node.op.function.lower()
        )
        return layer if grid is None or hands_on else layers.Behind(layer, grid)


def without_head(graph: Graph) -> tuple[Graph, str]:
    """Return the graph up to the scores before softmax or sigmoid, and which of them was there.

    Returns:
        The graph, and "softmax", "sigmoid" or "" where the model ends in logits.
    """
    last = graph.by_name()[graph.outputs[0].node]
    head = last.op.function if isinstance(last.op, ir.Activation) else ""
    if head not in ("softmax", "sigmoid") or graph.consumers()[last.name] != 1:
        return graph, ""
    nodes = [node for node in graph.nodes if node.name != last.name]
    return Graph(nodes=nodes, outputs=(Ref(*last.inputs[0]),)), head


def block_outputs(graph: Graph) -> tuple[str, ...]:
    """Return the layers that end a residual block: sums of two tensors, in order."""
    return tuple(node.name for node in graph.nodes if isinstance(node.op, ir.Add))


def scores(model: Any, pixels: Any, *, batch: int) -> Any:
    """Run a model over uint8 [N, H, W, 3]; returns its first output, float32 [N, classes]."""
    run = tf.function(lambda images: tf.nest.flatten(model(images, training=False))[0])
    parts = []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch].astype(np.float32)
        count = len(part)
        if count < batch and len(pixels) > batch:  # one shape, one trace
            part = np.concatenate([part, np.zeros((batch - count, *part.shape[1:]), np.float32)])
        parts.append(run(part).numpy()[:count])
    return np.concatenate(parts)
