"""The canonical graph in memory: a list of nodes in topological order, each with one typed operation.

A model of Keras 3 and one of Keras 2 become the same nodes (`flatten`); `passes` rewrites them;
`to_tensorflow` turns them into TensorFlow operations. Arrays are NumPy, images are NHWC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefx.types import Spread

Array = NDArray[np.floating[Any]]

IMAGE = "image"  # the name of the graph's one input, which is no node

# The element-wise functions (and softmax) that are emitted as plain TensorFlow operations, by Keras 3 name.
# Only those that mean the same in Keras 2 and 3 (hard_sigmoid, for one, does not).
ACTIVATIONS = frozenset(
    {"linear", "relu", "relu6", "silu", "sigmoid", "softmax", "tanh", "elu", "softplus", "gelu"}
)


class Ref(NamedTuple):
    """A tensor: output number `output` of the node called `node` (or the input image)."""

    node: str
    output: int = 0


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution; `kernel` is [kh, kw, in / groups, out]."""

    kernel: Array
    bias: Array | None
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: str  # "SAME" or "VALID"
    spread: Spread | None = None


@dataclass(frozen=True, eq=False)
class DepthwiseConv:
    """Depthwise 2-D convolution; `kernel` is [kh, kw, in, multiplier]."""

    kernel: Array
    bias: Array | None
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: str
    spread: Spread | None = None


@dataclass(frozen=True, eq=False)
class Dense:
    """Matrix product over the last axis; `kernel` is [in, out]."""

    kernel: Array
    bias: Array | None
    spread: Spread | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + offset`` per channel (last axis), kept in float64 until it is emitted or folded."""

    scale: NDArray[np.float64]  # [channels] or [1]
    offset: NDArray[np.float64]  # likewise
    spread: Spread | None = None  # of a batch normalisation


@dataclass(frozen=True)
class Activation:
    """An element-wise function, or softmax over the last axis, by its Keras name."""

    function: str


@dataclass(frozen=True)
class Add:
    """Sum of all inputs."""


@dataclass(frozen=True)
class Multiply:
    """Product of all inputs."""


@dataclass(frozen=True)
class Concatenate:
    """Inputs side by side along `axis`."""

    axis: int


@dataclass(frozen=True)
class GlobalPool:
    """Mean or maximum over height and width."""

    function: str  # "mean" or "max"
    keepdims: bool


@dataclass(frozen=True)
class Pool:
    """Windowed pooling."""

    function: str  # "AVG" or "MAX"
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str


@dataclass(frozen=True)
class Pad:
    """Zeros around height and width: ((top, bottom), (left, right))."""

    padding: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Reshape:
    """New shape without the batch axis; one entry may be -1."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """A layer edgefx does not know: called as it is, in inference mode.

    `call` takes the node's input tensors and returns the layer's outputs as a flat list.
    """

    call: Callable[[Sequence[Any]], list[Any]]
    parameters: int = 0


Op = (
    Conv
    | DepthwiseConv
    | Dense
    | Affine
    | Activation
    | Add
    | Multiply
    | Concatenate
    | GlobalPool
    | Pool
    | Pad
    | Reshape
    | Opaque
)


@dataclass(frozen=True, eq=False)
class Node:
    """One canonical layer: `kind` is the Keras class it came from."""

    name: str
    kind: str
    inputs: tuple[Ref, ...]
    op: Op


@dataclass
class Graph:
    """Nodes in topological order, and which tensors are the outputs."""

    nodes: list[Node] = field(default_factory=list)
    outputs: tuple[Ref, ...] = ()

    def consumers(self) -> Counter[str]:
        """How many inputs read each node; an output of the graph counts as one."""
        counts = Counter(ref.node for node in self.nodes for ref in node.inputs)
        counts.update(ref.node for ref in self.outputs)
        return counts

    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}
