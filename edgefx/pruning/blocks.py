"""Inverted residual blocks in the canonical graph, whose expansion channels no other layer sees.

MBConv (Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018; with
squeeze-and-excitation in Tan and Le, "EfficientNet", 2019): a 1 x 1 convolution expands, a depthwise
convolution follows, a gate multiplies the channels, a 1 x 1 convolution projects. Fused-MBConv (Tan and Le,
"EfficientNetV2", 2021) expands with a larger convolution and has no depthwise one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgefx.models.graph import ir
from edgefx.models.graph.ir import Graph, Node
from edgefx.types import LayerInfo

# What acts on each channel alone and on all alike.
_PASSING = (ir.Activation, ir.Pad)


@dataclass(frozen=True, kw_only=True)
class MBConvBlock:
    """The layers of a block that have to do with its expansion channels.

    Attributes:
        expand: The convolution that makes the channels.
        depthwise: The depthwise convolution; "" in Fused-MBConv.
        reduce: The gate's first convolution, which reads the channels' means; "" without a gate.
        excite: The gate's second convolution, which gives a factor for each channel; "" without a gate.
        project: The convolution that reads the channels last.
        inner: All layers that put the channels out.
        end: The layer that ends the block: the sum with what it read, or `project`.
        channels: How many there are.
    """

    expand: str
    depthwise: str = ""
    reduce: str = ""
    excite: str = ""
    project: str
    inner: tuple[str, ...] = ()
    end: str
    channels: int

    @property
    def cut_outputs(self) -> tuple[str, ...]:
        """The layers with weights whose outputs are the channels."""
        return tuple(filter(None, (self.expand, self.depthwise, self.excite)))

    @property
    def cut_inputs(self) -> tuple[str, ...]:
        """The layers with weights that read the channels and put out others."""
        return tuple(filter(None, (self.reduce, self.project)))


def find(graph: Graph, layers: Mapping[str, LayerInfo]) -> tuple[MBConvBlock, ...]:
    """Return the blocks of a canonical graph, in order.

    Left out are blocks whose channels something else reads, or without biases to make good what is removed.

    Args:
        graph: The canonical layers.
        layers: What is known of them, by name.
    """
    finder = _Finder(graph, layers)
    return tuple(block for node in graph.nodes if (block := finder.ending_in(node)) is not None)


class _Finder:
    """Walks from a projection back to the convolution that expands."""

    def __init__(self, graph: Graph, layers: Mapping[str, LayerInfo]) -> None:
        self._nodes = graph.by_name()
        self._readers = graph.consumers()
        self._layers = layers
        self._sums = {
            ref.node: node.name
            for node in graph.nodes
            if isinstance(node.op, ir.Add) and len(node.inputs) == 2
            for ref in node.inputs
        }

    def ending_in(self, project: Node) -> MBConvBlock | None:
        """Return the block that a layer is the projection of; None where it is not one."""
        if not self._is_pointwise(project):
            return None
        assert isinstance(project.op, ir.Conv)
        is_added = self._readers[project.name] == 1 and project.name in self._sums
        block = MBConvBlock(
            expand="",
            project=project.name,
            end=self._sums[project.name] if is_added else project.name,
            channels=project.op.kernel.shape[2],
        )
        return self._walked(block, project.inputs[0].node)

    def _walked(self, block: MBConvBlock, name: str, readers: int = 1) -> MBConvBlock | None:
        """Go on from a layer that puts the channels out, towards the image."""
        node = self._nodes.get(name)
        if node is None or self._readers[name] != readers:
            return None
        block = replace(block, inner=(node.name, *block.inner))
        op, before = node.op, node.inputs[0].node
        if isinstance(op, _PASSING) and op != ir.Activation("softmax"):
            return self._walked(block, before)
        if isinstance(op, ir.DepthwiseConv) and not block.depthwise:
            is_plain = op.kernel.shape[3] == 1 and op.bias is not None
            return self._walked(replace(block, depthwise=name), before) if is_plain else None
        if isinstance(op, ir.Multiply) and not (block.excite or block.depthwise):
            return self._gated(block, node)
        if not isinstance(op, ir.Conv) or not self._is_dense(node):
            return None
        # Neither a stem that a depthwise convolution reads, nor the two convolutions of a gate.
        is_expanding = (op.kernel.shape[:2] == (1, 1)) == bool(block.depthwise)
        return replace(block, expand=name) if is_expanding else None

    def _gated(self, block: MBConvBlock, multiply: Node) -> MBConvBlock | None:
        """Go on from a product of the channels with factors that are computed of their means."""
        if len(multiply.inputs) != 2:
            return None
        for ref, other in (multiply.inputs, multiply.inputs[::-1]):
            gated = self._gate(block, ref.node, other.node)
            if gated is not None:
                return self._walked(gated, other.node, readers=2)
        return None

    def _gate(self, block: MBConvBlock, factors: str, source: str) -> MBConvBlock | None:
        """Return the block with its gate, where `factors` are computed of the means of `source`."""
        behind, excite = self._pointwise_before(factors)
        _, reduce = self._pointwise_before(excite.inputs[0].node) if excite is not None else ((), None)
        pool = self._nodes.get(reduce.inputs[0].node) if reduce is not None else None
        if excite is None or reduce is None or pool is None or self._readers[pool.name] != 1:
            return None
        if pool.op != ir.GlobalPool("mean", keepdims=True) or pool.inputs[0].node != source:
            return None
        inner = (pool.name, excite.name, *behind, *block.inner)
        return replace(block, reduce=reduce.name, excite=excite.name, inner=inner)

    def _pointwise_before(self, name: str) -> tuple[tuple[str, ...], Node | None]:
        """Return the pointwise convolution that only activations lie behind, and these."""
        behind: tuple[str, ...] = ()
        while (node := self._nodes.get(name)) is not None and self._readers[name] == 1:
            if not isinstance(node.op, ir.Activation):
                return behind, node if self._is_pointwise(node) else None
            behind, name = (name, *behind), node.inputs[0].node
        return behind, None

    def _is_pointwise(self, node: Node) -> bool:
        op = node.op
        return (
            isinstance(op, ir.Conv)
            and op.kernel.shape[:2] == (1, 1)
            and op.strides == (1, 1)
            and self._is_dense(node)
        )

    def _is_dense(self, node: Node) -> bool:
        """Whether a convolution has a bias, and reads all channels for each that it puts out."""
        op = node.op
        assert isinstance(op, ir.Conv)
        source = self._layers.get(node.inputs[0].node)
        channels = source.output_shape[-1] if source is not None else 3  # of the image
        return op.bias is not None and op.kernel.shape[2] == channels
