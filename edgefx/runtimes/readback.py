"""What reading artifacts back shares: the canonical graph's names, and the search for a tensor's counterpart.

A counterpart is found by its name: every runtime keeps ``<layer>/<operation>`` in some form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph import freeze
from edgefx.runtimes.session import shifted
from edgefx.types import FrozenGraph
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from edgefx.types import Pixels


class Canonical:
    """The names and shapes of the canonical graph, and the search for a tensor's counterpart in it."""

    def __init__(self, graph: FrozenGraph) -> None:
        imported = freeze.imported(freeze.read(graph.path))
        self.layers = frozenset(layer.name for layer in graph.layers)
        self.image = graph.input_name
        self._shapes: dict[str, tuple[int, ...]] = {}  # of operations in topological order
        self._kernels: dict[str, tuple[int, ...]] = {}  # by layer
        self._read: dict[str, str] = {}  # what a weighted layer multiplies with its kernel, by layer
        self._last: dict[str, str] = {}  # by layer
        self._main: dict[str, str] = {}  # by weighted layer
        self._depthwise: set[str] = set()  # layers
        for op in imported.get_operations():
            if op.type == "Const" or not op.outputs:
                continue
            self._shapes[op.name] = _shape(op.outputs[0])
            layer = None if op.name in graph.output_names else self.layer_of(op.name)
            if layer:
                self._last[layer] = op.name
            if layer and op.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"):
                self._kernels[layer] = _shape(op.inputs[1])
                self._main[layer] = op.name
                self._read[layer] = op.inputs[0].op.name
                if op.type == "DepthwiseConv2dNative":
                    self._depthwise.add(layer)
        self.order = {name: number for number, name in enumerate(self._shapes)}
        ends = [imported.get_operation_by_name(name) for name in graph.output_names]
        behind: list[str] = [end.inputs[0].op.name if end.type == "Identity" else end.name for end in ends]
        self.output = behind[0]
        self._same: dict[str, str] = dict(zip(graph.output_names, behind, strict=True))
        if len(ends) == 1 and imported.get_operation_by_name(self.output).type in ("Sigmoid", "Softmax"):
            # An artifact of the same model may end before it.
            before = imported.get_operation_by_name(self.output).inputs[0].op.name
            self._same |= {function.output_name: before for function in ScoreFunction}

    def end(self, output_name: str) -> str:
        """Return the operation that an artifact ends in, by the name of its output."""
        return self._same.get(output_name, self.output)

    def layer_of(self, name: str) -> str | None:
        """Return the canonical layer that a name begins with, or None."""
        layer = name.split("/", 1)[0]
        return layer if layer in self.layers else None

    def weighted(self, names: Iterable[str]) -> str | None:
        """Return the first layer with a kernel that one of `names` begins with, or None."""
        layers = (self.layer_of(name) for name in names)
        return next((layer for layer in layers if layer in self._kernels), None)

    def kernel_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of a weighted layer's kernel."""
        return self._kernels[layer]

    def kernel(
        self, layer: str, stored: NDArray[np.float32], factor: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32] | None:
        """Return a kernel as the canonical graph has it, or None when it is another one's.

        Args:
            layer: A weighted layer.
            stored: [out, in / groups, height, width], with a leading axis of groups too, or [out, in].
            factor: What the channels of the input are multiplied by; the graph's kernel has it instead.
        """
        shape = self._kernels[layer]
        kernel: NDArray[np.float32]
        if stored.size != math.prod(shape):
            return None
        if len(shape) == 2:
            kernel = stored.reshape(shape[1], shape[0]).T
        elif layer in self._depthwise:
            kernel = stored.reshape(-1, *shape[:2]).transpose(1, 2, 0)
        else:
            kernel = stored.reshape(shape[3], shape[2], *shape[:2]).transpose(2, 3, 1, 0)
        kernel = np.ascontiguousarray(kernel).reshape(shape).astype(np.float32)
        if factor is None:
            return kernel
        axis = 0 if len(shape) == 2 else 2
        if factor.size not in (1, shape[axis]):
            return None
        spread = [1] * len(shape)
        spread[axis] = factor.size
        result: NDArray[np.float32] = kernel * factor.reshape(spread)
        return result

    def product_of(self, layer: str) -> str:
        """Return the operation of a weighted layer that multiplies with its kernel, before a bias."""
        return self._main[layer]

    def is_operation(self, name: str) -> bool:
        """Whether the graph has an operation of this name."""
        return name in self._shapes

    def read_by(self, layer: str, shape: tuple[int, ...], *, nchw: bool = False) -> str | None:
        """Return the operation whose output a weighted layer reads, if that has the shape given."""
        found = self._read[layer]
        return found if _same_shape(self._shapes[found], shape, nchw=nchw) else None

    def operation(self, names: Iterable[str], shape: tuple[int, ...], *, nchw: bool = False) -> str | None:
        """Return the operation whose output a tensor is, or None when it has no counterpart.

        Args:
            names: What the tensor is called, or made of when the runtime fused operations.
            shape: Its shape.
            nchw: Whether a tensor of four axes lies NCHW.
        """
        names = [self._same.get(name, name) for name in names]
        exact = [name for name in names if name in self._shapes]
        # A runtime may have merged several operations into one: the output is that of the last.
        found = max(exact, key=lambda name: self.order[name], default=None)
        if found is None:
            layers = [layer for name in names if (layer := self.layer_of(name)) in self._last]
            found = self._last[layers[0]] if layers else None
        if found is None or not _same_shape(self._shapes[found], shape, nchw=nchw):
            return None
        return found

    def layer_behind(self, operation: str | None) -> str | None:
        """Return the layer whose output an operation computes, or None."""
        layer = self.layer_of(operation or "")
        return layer if layer is not None and self._last[layer] == operation else None


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(-1 if size is None else int(size) for size in tensor.shape)


def _same_shape(canonical: tuple[int, ...], found: tuple[int, ...], *, nchw: bool) -> bool:
    if nchw and len(found) == 4:
        found = (found[0], *found[2:], found[1])
    # A pooled vector may or may not keep its spatial axes.
    return canonical == found or _squeezed(canonical) == _squeezed(found)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:1], *(size for size in shape[1:] if size != 1))


def as_stored(batch: Pixels, dtype: str) -> NDArray[Any]:
    """Return images as an artifact's input stores them: raw pixels, or pixel - 128 for int8."""
    return shifted(batch) if dtype == "int8" else batch.astype(dtype)


def as_output(value: NDArray[Any], *, nchw: bool) -> NDArray[np.float32]:
    """Return a layer's output of one image without the batch axis, channels last."""
    if nchw and value.ndim == 4:
        value = value.transpose(0, 2, 3, 1)
    result: NDArray[np.float32] = value[0].astype(np.float32)
    return result
