"""Quantization simulated on the canonical graph, layer by layer, for every runtime alike.

The frozen graph is run operation by operation in TensorFlow, several images at once. Where a layer's
quantization is switched on, its weights are replaced by what the artifact stores, and the activations it owns
are rounded to the artifact's grid. A layer alone is measured by starting from the float values in front of
it, so that only the rest of the network is computed again; the float values are dropped as soon as no
operation needs them any more.

What a layer owns: its stored weights and bias, and the grids of its own tensors. A layer with stored weights
but no grid of its own (OpenVINO and ONNX Runtime quantize what a convolution reads) owns that of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ModelError, UsageError
from edgefx.models.graph import freeze
from edgefx.quantization import Quantization, QuantizedWeights, QuantParams
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores

_BATCH = 8  # more are no faster on a CPU
_BATCH_PIXELS = _BATCH * 224 * 224  # larger images run in smaller batches
_BATCH_TOLERANCE = 1e-3  # largest difference of a score between an image alone and in a batch


@dataclass(frozen=True, eq=False)
class _Op:
    """One operation of the graph; tensors are named ``<operation>:<output>``."""

    name: str
    layer: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class _Switched:
    """The quantizers that are on in a run."""

    constants: dict[str, Any] = field(default_factory=dict)  # what weights are replaced by
    added: dict[str, Any] = field(default_factory=dict)  # biases that only the artifact has, by tensor
    rounded: dict[str, QuantParams] = field(default_factory=dict)  # tensors rounded for all readers
    read: dict[tuple[str, str], QuantParams] = field(default_factory=dict)  # by tensor and reader


class Simulation:
    """The canonical graph with an artifact's quantizers, each of which can be on or off.

    Args:
        graph: The canonical graph, with layers.
        quantization: What the artifact quantizes.

    Raises:
        UsageError: The model has no layers that edgefx can follow.
        ModelError: The graph cannot be run operation by operation.
    """

    def __init__(self, graph: FrozenGraph, quantization: Quantization) -> None:
        if not graph.layers:
            raise UsageError(
                f"{graph.spec.source} has no layers that edgefx can follow",
                hint="give the .keras or .h5 file that the SavedModel was exported from",
            )
        import tensorflow as tf

        self._tf = tf
        self.graph = graph
        self.quantization = quantization
        self._ops, self._constants = _read(tf, graph)
        self._index = {name: i for i, op in enumerate(self._ops) for name in op.outputs}
        self._outputs = [f"{name}:0" for name in graph.output_names]
        self._last_use = self._last_uses()
        self._execute = _executor(tf, graph)
        self._batch: int | None = None
        self._weights = {stored.layer: stored for stored in quantization.weights}
        self._grids: dict[str, list[QuantParams]] = {}
        for grid in quantization.grids:
            self._grids.setdefault(self._ops[self._index[f"{grid.tensor}:0"]].layer, []).append(grid)

    # ------------------------------------------------------------------------------------------- contents

    @property
    def layers(self) -> tuple[str, ...]:
        """The canonical layers that own a quantizer, in topological order."""
        owners = self._grids.keys() | self._weights.keys()
        return tuple(layer.name for layer in self.graph.layers if layer.name in owners)

    @property
    def weighted_layers(self) -> tuple[str, ...]:
        """Those of `layers` whose weights are stored in fewer bits."""
        return tuple(layer for layer in self.layers if layer in self._weights)

    @property
    def output_layers(self) -> frozenset[str]:
        """The canonical layers that outputs come from."""
        names = self.graph.output_names
        if len(names) == 1:
            return frozenset({self.graph.layers[-1].name})
        layers = {name: op.layer for op in self._ops for name in op.outputs}
        return frozenset(layers[op.inputs[0]] for op in self._ops if op.name in names)

    @property
    def outputs(self) -> dict[str, str]:
        """The operation that computes each canonical layer's output, by layer."""
        return {op.layer: op.name for op in self._ops if op.layer}

    def grids_of(self, layer: str) -> tuple[QuantParams, ...]:
        """Return the grids that a layer owns; see the module's text."""
        own = self._grids.get(layer, [])
        if own or layer not in self._weights:
            return tuple(own)
        main = self._main(layer)
        return tuple(
            replace(grid, readers=frozenset({layer}))
            for grid in self.quantization.grids
            if f"{grid.tensor}:0" == main.inputs[0] and (grid.readers is None or layer in grid.readers)
        )

    def is_rounded(self, layer: str) -> bool:
        """Whether one of a layer's own tensors is rounded."""
        return layer in self._grids

    def feeder_of(self, layer: str) -> str | None:
        """Return the layer without stored weights whose output a weighted layer alone reads, or None."""
        name = self._main(layer).inputs[0]
        feeder = self._ops[self._index[name]].layer
        outputs = {other for op in self._ops if op.layer == feeder for other in op.outputs}
        readers = {op.layer for op in self._ops if op.layer != feeder and outputs & set(op.inputs)}
        return feeder if feeder and feeder not in self._weights and readers == {layer} else None

    def activation_of(self, layer: str) -> str | None:
        """Return the layer of kind "Activation" that alone reads `layer` and nothing else, or None."""
        names = {name for op in self._ops if op.layer == layer for name in op.outputs}
        readers = {op.layer for op in self._ops if op.layer != layer and names & set(op.inputs)}
        follower = next(iter(readers)) if len(readers) == 1 else ""
        kinds = {info.name: info.kind for info in self.graph.layers}
        if kinds.get(follower) != "Activation":
            return None
        inside = {name for op in self._ops if op.layer == follower for name in op.outputs}
        read = {name for op in self._ops if op.layer == follower for name in op.inputs}
        return follower if read - inside - self._constants.keys() <= names else None

    def stored(self, layer: str) -> QuantizedWeights | None:
        """Return what the artifact stores of a layer's weights, or None where it stores float."""
        return self._weights.get(layer)

    def kernel(self, layer: str) -> NDArray[np.float32]:
        """Return a weighted layer's float kernel."""
        values: NDArray[np.float32] = self._constants[self._kernel_of(layer)].numpy()
        return values

    # -------------------------------------------------------------------------------------------- running

    def scores(self, pixels: Pixels, *, quantized: bool) -> Scores:
        """Run images with all quantizers on, or with all off.

        Args:
            pixels: Raw RGB uint8 [N, H, W, 3].
            quantized: Whether the quantizers are on.

        Returns:
            float32 [N, classes].
        """
        switched = self._switched(self.layers, every=True) if quantized else _Switched()
        return np.concatenate([self._run(chunk, switched) for chunk in self._chunks(pixels)])

    def scores_without(self, pixels: Pixels, layers: Collection[str]) -> Scores:
        """Run images with all quantizers on but those that `layers` own; float32 [N, classes]."""
        kept = [layer for layer in self.layers if layer not in layers]
        switched = self._switched(kept, every=True)
        for grid in (grid for layer in layers for grid in self.grids_of(layer)):
            name = f"{grid.tensor}:0"
            switched.rounded.pop(name, None)
            for key in [key for key in switched.read if key[0] == name]:
                del switched.read[key]
        return np.concatenate([self._run(chunk, switched) for chunk in self._chunks(pixels)])

    def values(
        self, pixels: Pixels, *, quantized: bool = False
    ) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
        """Yield, per image, its number and each canonical layer's output, NHWC without the batch axis."""
        switched = self._switched(self.layers, every=True) if quantized else _Switched()
        wanted = {f"{op}:0": layer for layer, op in self.outputs.items()}
        number = 0
        for chunk in self._chunks(pixels):
            kept: dict[str, NDArray[np.float32]] = {}
            self._run(chunk, switched, tap=partial(_keep, wanted, kept))
            for row in range(len(chunk)):
                yield number, {layer: value[row] for layer, value in kept.items()}
                number += 1

    def alone(
        self,
        pixels: Pixels,
        groups: Mapping[str, Collection[str]],
        *,
        advance: Callable[[int], None] = lambda _images: None,
    ) -> tuple[Scores, dict[str, Scores]]:
        """Run images in float, and once for each group of layers with nothing else quantized.

        Args:
            pixels: Raw RGB uint8 [N, H, W, 3].
            groups: Some of `layers`, under a name of the caller's.
            advance: Called with the number of images done, each group's runs counted apart.

        Returns:
            The float scores, float32 [N, classes], and those with each group quantized.
        """
        switched = {name: self._switched(layers) for name, layers in groups.items()}
        starts: dict[int, list[str]] = {}
        for name, quantizers in switched.items():
            starts.setdefault(self._first(quantizers), []).append(name)
        base: list[Scores] = []
        found: dict[str, list[Scores]] = {name: [] for name in groups}
        for chunk in self._chunks(pixels):
            values = {self._ops[0].outputs[0]: self._image(chunk)}
            for start in range(len(self._ops)):
                for name in starts.get(start, ()):
                    found[name].append(self._finish(dict(values), start, switched[name]))
                    advance(len(chunk))
                self._step(start, values, _Switched())
            base.append(self._scores(values))
        return np.concatenate(base), {name: np.concatenate(parts) for name, parts in found.items()}

    # ------------------------------------------------------------------------------------------- one step

    def _run(
        self, chunk: Pixels, switched: _Switched, tap: Callable[[str, Any], None] | None = None
    ) -> Scores:
        values = {self._ops[0].outputs[0]: self._image(chunk)}
        return self._finish(values, 0, switched, tap)

    def _finish(
        self,
        values: dict[str, Any],
        start: int,
        switched: _Switched,
        tap: Callable[[str, Any], None] | None = None,
    ) -> Scores:
        """Run from operation number `start` to the end, given the values that it and the rest need."""
        for index in range(start, len(self._ops)):
            self._step(index, values, switched, tap)
        return self._scores(values)

    def _scores(self, values: Mapping[str, Any]) -> Scores:
        found: list[Scores] = [values[name].numpy() for name in self._outputs]
        if len(found) == 1:
            return found[0]
        return np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)

    def _step(
        self,
        index: int,
        values: dict[str, Any],
        switched: _Switched,
        tap: Callable[[str, Any], None] | None = None,
    ) -> None:
        op = self._ops[index]
        if op.type == "Placeholder":
            results = [values[op.outputs[0]]]
        else:
            results = self._execute(op, [self._input(name, op, values, switched) for name in op.inputs])
        for name, result in zip(op.outputs, results, strict=True):
            value = result if name not in switched.added else result + switched.added[name]
            values[name] = (
                value if name not in switched.rounded else self._round(value, switched.rounded[name])
            )
            if tap is not None:
                tap(name, values[name])
        for name in self._last_use.get(index, ()):
            values.pop(name, None)

    def _input(self, name: str, op: _Op, values: Mapping[str, Any], switched: _Switched) -> Any:
        if name in self._constants:
            return switched.constants.get(name, self._constants[name])
        grid = switched.read.get((name, op.name)) or switched.read.get((name, op.layer))
        return values[name] if grid is None else self._round(values[name], grid)

    def _round(self, value: Any, grid: QuantParams) -> Any:
        tf = self._tf
        if grid.dynamic:
            return self._round_by_image(value, grid)
        step = np.maximum((grid.high - grid.low) / np.float32(grid.levels - 1), np.finfo(np.float32).tiny)
        clipped = tf.clip_by_value(value, grid.low, grid.high)
        return tf.round((clipped - grid.low) / step) * step + grid.low

    def _round_by_image(self, value: Any, grid: QuantParams) -> Any:
        """Round to a grid that spans each image's own values and zero, which is a level."""
        tf = self._tf
        factor = np.float32(1) if grid.factor is None else grid.factor
        scaled, axes = value * factor, list(range(1, len(value.shape)))
        low = tf.minimum(tf.reduce_min(scaled, axes, keepdims=True), 0.0)
        high = tf.maximum(tf.reduce_max(scaled, axes, keepdims=True), 0.0)
        step = tf.maximum((high - low) / (grid.levels - 1), np.finfo(np.float32).tiny)
        zero = tf.round(-low / step)
        codes = tf.clip_by_value(tf.round(scaled / step) + zero, 0.0, float(grid.levels - 1))
        return (codes - zero) * step / factor

    # -------------------------------------------------------------------------------------------- switches

    def _switched(self, layers: Collection[str], *, every: bool = False) -> _Switched:
        """Return the quantizers that `layers` own, or `every` one."""
        switched = _Switched()
        for layer in layers:
            for grid in self._grids.get(layer, ()) if every else self.grids_of(layer):
                name = f"{grid.tensor}:0"
                if grid.readers is None:
                    switched.rounded[name] = grid
                else:
                    switched.read.update({(name, reader): grid for reader in grid.readers})
            if layer in self._weights:
                self._replace_weights(self._weights[layer], switched)
        return switched

    def _replace_weights(self, stored: QuantizedWeights, switched: _Switched) -> None:
        tf = self._tf
        switched.constants[self._kernel_of(stored.layer)] = tf.constant(stored.kernel)
        if stored.bias is None:
            return
        for op in self._ops:
            if op.layer == stored.layer and op.type in ("BiasAdd", "AddV2", "Add"):
                for name in op.inputs:
                    if name in self._constants:
                        switched.constants[name] = tf.constant(stored.bias)
                        return
        switched.added[self._main(stored.layer).outputs[0]] = tf.constant(stored.bias)

    def _first(self, switched: _Switched) -> int:
        """Return the number of the first operation that the quantizers change."""
        changed = switched.constants.keys()
        readers = [i for i, op in enumerate(self._ops) if changed & set(op.inputs)]
        readers += [
            i
            for i, op in enumerate(self._ops)
            for name in op.inputs
            if (name, op.layer) in switched.read or (name, op.name) in switched.read
        ]
        return min([*readers, *(self._index[name] for name in (*switched.rounded, *switched.added))])

    def _main(self, layer: str) -> _Op:
        """Return the operation of a layer that multiplies with the kernel."""
        for op in self._ops:
            if op.layer == layer and op.type in _WEIGHTED:
                return op
        raise ModelError(
            f"layer '{layer}' has stored weights, but no convolution or matrix product in the graph",
            hint="please report this model",
        )

    def _kernel_of(self, layer: str) -> str:
        return self._main(layer).inputs[1]

    # ---------------------------------------------------------------------------------------- small help

    def _image(self, chunk: Pixels) -> Any:
        return self._tf.constant(chunk.astype(np.float32))

    def _chunks(self, pixels: Pixels) -> Iterator[Pixels]:
        if self._batch is None:
            self._batch = self._largest_batch(pixels)
        return (pixels[start : start + self._batch] for start in range(0, len(pixels), self._batch))

    def _largest_batch(self, pixels: Pixels) -> int:
        """Return how many images may run at once: one where the graph's shapes have the batch built in."""
        spec = self.graph.spec
        batch = max(1, min(_BATCH, _BATCH_PIXELS // (spec.height * spec.width)))
        pair = np.concatenate([pixels[:1], pixels[-1:]])
        if batch == 1 or len(pixels) < 2:
            return 1
        try:
            together = self._run(pair, _Switched())
        except ModelError:
            return 1
        apart = np.concatenate([self._run(pair[:1], _Switched()), self._run(pair[1:], _Switched())])
        same = together.shape == apart.shape and float(np.abs(together - apart).max()) <= _BATCH_TOLERANCE
        return batch if same else 1

    def _last_uses(self) -> dict[int, list[str]]:
        """Map operations to the tensors that nothing needs after them."""
        last = dict(self._index)
        for index, op in enumerate(self._ops):
            last.update(dict.fromkeys((name for name in op.inputs if name in last), index))
        for name in self._outputs:
            last.pop(name)
        uses: dict[int, list[str]] = {}
        for name, index in last.items():
            uses.setdefault(index, []).append(name)
        return uses


def _keep(wanted: Mapping[str, str], kept: dict[str, NDArray[np.float32]], name: str, value: Any) -> None:
    if name in wanted:
        kept[wanted[name]] = value.numpy()


_WEIGHTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2")


def _read(tf: Any, graph: FrozenGraph) -> tuple[list[_Op], dict[str, Any]]:
    """Return the operations in topological order, the image first, and the constants by tensor name."""
    imported = freeze.imported(freeze.read(graph.path))
    layers = {layer.name for layer in graph.layers}
    ops: list[_Op] = []
    constants: dict[str, Any] = {}
    for op in imported.get_operations():
        if op.type == "Const":
            constants[op.outputs[0].name] = tf.constant(tf.make_ndarray(op.get_attr("value")))
            continue
        attributes: list[Any] = []
        for attribute in op.op_def.attr:
            value = op.get_attr(attribute.name)
            attributes += [attribute.name, value.as_datatype_enum if isinstance(value, tf.DType) else value]
        layer = op.name.split("/", 1)[0]
        ops.append(
            _Op(
                name=op.name,
                layer=layer if layer in layers else "",
                type=op.type,
                inputs=tuple(tensor.name for tensor in op.inputs),
                outputs=tuple(tensor.name for tensor in op.outputs),
                attributes=tuple(attributes),
            )
        )
    ops.sort(key=lambda op: op.type != "Placeholder")  # stable; the image comes first
    return ops, constants


def _executor(tf: Any, graph: FrozenGraph) -> Callable[[_Op, list[Any]], list[Any]]:
    """Return a function that runs one operation.

    `tf.raw_ops` would do the same but renames arguments, so that they cannot be told from a graph.
    """
    from tensorflow.python.eager import context, execute

    where = context.context()
    where.ensure_initialized()

    def run(op: _Op, inputs: list[Any]) -> list[Any]:
        try:
            return list(execute.execute(op.type, len(op.outputs), inputs, op.attributes, where))
        except tf.errors.OpError as error:
            raise ModelError(
                f"operation '{op.name}' ({op.type}) of {graph.spec.source} cannot be run by itself:"
                f" {error.message.splitlines()[0]}",
                hint="layers can be examined in models that consist of plain Keras layers",
            ) from error

    return run
