"""What a ``.tflite`` quantizes, and what its layers put out; see `edgefx.runtimes.readback`.

Every tensor of a fully quantized file is on a grid. Where a file computes in part in float, a tensor is
rounded only for those readers that have a QUANTIZE in front of them. Where channels were given scales of
their own around a swish, these are undone here: the tensor with the name of the convolution holds x / k, and
a MUL by the constants k restores x for the gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.quantization import Quantization, QuantizedWeights, QuantParams
from edgefx.runtimes.protocol import Probes
from edgefx.runtimes.readback import Canonical, as_output, as_stored
from edgefx.runtimes.tflite import flatbuffer
from edgefx.system.packages import require
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT

    from edgefx.types import Pixels


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_CHANNELWISE = ("MUL", "MEAN", "AVERAGE_POOL_2D", "RESHAPE")  # keep factors of channels apart


def quantization(path: Path, graph: FrozenGraph) -> Quantization:
    """Read back which activations and weights the file quantizes.

    Raises:
        ArtifactError: The file is missing, damaged or no TFLite file.
    """
    require("ai_edge_litert", purpose="reading .tflite files")
    return Reader(flatbuffer.read(path), Canonical(graph)).quantization()


@contextmanager
def open_probes(path: Path, graph: FrozenGraph, threads: int) -> Iterator[Probes]:
    """Open the file with the outputs of its layers as its outputs; it runs on all cores.

    Raises:
        ArtifactError: The file is missing, damaged or no TFLite file.
    """
    del threads
    require("ai_edge_litert", purpose="running .tflite files")
    yield _Taps(flatbuffer.read(path), Canonical(graph))


class _Taps:
    """An interpreter whose outputs are those of the canonical layers."""

    def __init__(self, model: ModelT, canonical: Canonical) -> None:
        reader = Reader(model, canonical)
        outputs: dict[str, int] = {}
        for op in reader.operators:
            for index in op.outputs:
                layer = canonical.layer_behind(reader.counterparts[int(index)])
                # A conversion behind a layer is not its output, but what some readers make of it.
                if layer is not None and layer not in outputs:
                    outputs[layer] = int(index)
        self._factors = {layer: reader.factors.get(index) for layer, index in outputs.items()}
        self._interpreter = flatbuffer.open_probes(model, list(outputs.values()))
        image = self._interpreter.get_input_details()[0]
        self._dtype = np.dtype(image["dtype"]).name
        self._feed = self._interpreter.tensor(image["index"])
        indices = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._taps = {
            layer: (self._interpreter.tensor(index), flatbuffer.quantization_of(reader.tensors[original]))
            for (layer, original), index in zip(outputs.items(), indices, strict=True)
        }

    def infer(self, image: Pixels) -> dict[str, NDArray[np.float32]]:
        """Run one image; see `Probes`."""
        self._feed()[:] = as_stored(image[None], self._dtype)
        self._interpreter.invoke()
        values = {}
        for layer, (view, grid) in self._taps.items():
            value = as_output(view(), nchw=False)
            if grid is not None:
                value = (value - np.float32(grid[1])) * np.float32(grid[0])
            factor = self._factors[layer]
            values[layer] = value if factor is None else value / factor
        return values


class Reader:
    """Walks a file once and finds the counterpart of each of its tensors."""

    def __init__(self, model: ModelT, canonical: Canonical) -> None:
        self.model = model
        self.canonical = canonical
        self.tensors = model.subgraphs[0].tensors
        self.operators = model.subgraphs[0].operators
        self.unmatched: list[str] = []
        self._names = {id(op): flatbuffer.op_name(model, op) for op in self.operators}
        # What constants are restored from, by the tensor that is read: files that quantize weights only.
        self._restored = {
            int(op.outputs[0]): int(op.inputs[0])
            for op in self.operators
            if self._name(op) == "DEQUANTIZE" and flatbuffer.is_constant(model, self.tensors[op.inputs[0]])
        }
        self._ends = self._find_ends()
        # The operation of the canonical graph behind each activation, by tensor index.
        self.counterparts: dict[int, str | None] = {int(model.subgraphs[0].inputs[0]): canonical.image}
        # What the file multiplied the channels of an activation by, float32 [channels], by tensor index.
        self.factors: dict[int, NDArray[np.float32]] = {}
        self.scalings: set[int] = set()  # tensors that a MUL by constants restores
        for op in self.operators:
            for index in op.outputs:
                self.counterparts[int(index)] = self._counterpart(op, int(index))
            self._follow_factors(op)

    def _follow_factors(self, op: OperatorT) -> None:
        index = int(op.outputs[0])
        known = [self.factors[int(source)] for source in op.inputs if int(source) in self.factors]
        if self._name(op) in _WEIGHTED:
            restoring = [
                self._restored_by(reader, index) for reader in self.operators if index in reader.inputs
            ]
            constants = [values for values in restoring if values is not None]
            if constants:
                self.factors[index] = np.reciprocal(constants[0])
        elif known and self._restored_by(op, int(op.inputs[0])) is not None:
            self.scalings.add(index)
        elif known and self._name(op) in (*_CONVERSIONS, *_CHANNELWISE):
            self.factors[index] = np.prod(np.broadcast_arrays(*known), axis=0, dtype=np.float32)

    def _restored_by(self, op: OperatorT, index: int) -> NDArray[np.float32] | None:
        """Return the constants [channels] that a MUL multiplies tensor `index` by, unless the model does."""
        if self._name(op) != "MUL" or int(op.inputs[0]) != index:
            return None
        constant, result = self.tensors[op.inputs[1]], self.tensors[op.outputs[0]]
        if not flatbuffer.is_constant(self.model, constant):
            return None
        found = self.canonical.operation(_names(result), flatbuffer.shape_of(result))
        if found is not None and found != self.counterparts.get(index):
            return None
        values = _dequantized(self.model, constant)
        return values.reshape(-1, values.shape[-1])[0] if values.ndim else None

    def _counterpart(self, op: OperatorT, index: int) -> str | None:
        tensor = self.tensors[index]
        found = self.canonical.operation(_names(tensor), flatbuffer.shape_of(tensor))
        source = self.counterparts.get(int(op.inputs[0]))
        if self._name(op) in _CONVERSIONS:
            return source or found
        if source is not None and self._restored_by(op, int(op.inputs[0])) is not None:
            return source
        if index not in self._ends:
            return found
        return self.canonical.end(self._ends[index])

    def _find_ends(self) -> dict[int, str]:
        """The graph's outputs, and the tensors that a last conversion makes them from, with their names."""
        ends = {int(index): self.tensors[index].name.decode() for index in self.model.subgraphs[0].outputs}
        return ends | {
            int(op.inputs[0]): ends[int(op.outputs[0])]
            for op in self.operators
            if self._name(op) in _CONVERSIONS and int(op.outputs[0]) in ends
        }

    def _name(self, op: OperatorT) -> str:
        return self._names[id(op)]

    def quantization(self) -> Quantization:
        """What the file quantizes, in terms of the canonical graph."""
        grids, weights = [], []
        for op in self.operators:
            if self._name(op) in _WEIGHTED and (stored := self._stored(op)) is not None:
                weights.append(stored)
            grids += [grid for index in op.outputs if (grid := self._grid(op, int(index))) is not None]
        return Quantization(grids=tuple(grids), weights=tuple(weights), unmatched=tuple(self.unmatched))

    def _grid(self, op: OperatorT, index: int) -> QuantParams | None:
        tensor = self.tensors[index]
        grid, conversion = flatbuffer.quantization_of(tensor), self._name(op) in _CONVERSIONS
        limits = _INTEGERS.get(flatbuffer.dtype_name(tensor))
        if grid is None or limits is None or (conversion and self._same_grid(op, index)):
            return None
        counterpart = self.counterparts[index]
        if counterpart is None:
            self.unmatched.append(tensor.name.decode())
            return None
        scale, zero_point = grid
        factor = self.factors.get(index, np.ones(1, np.float32))
        readers = self._readers(index) if conversion else None
        if index in self.scalings:  # the other readers of the canonical tensor read it before the MUL
            readers = self._operations_reading(index)
        return QuantParams(
            tensor=counterpart,
            low=((limits[0] - zero_point) * scale / factor).astype(np.float32),
            high=((limits[1] - zero_point) * scale / factor).astype(np.float32),
            levels=limits[1] - limits[0] + 1,
            readers=readers,
        )

    def _operations_reading(self, index: int) -> frozenset[str]:
        names = (self.counterparts[int(op.outputs[0])] for op in self.operators if index in op.inputs)
        return frozenset(name for name in names if name is not None)

    def _same_grid(self, op: OperatorT, index: int) -> bool:
        """Whether a conversion between integer types changes no value, as at the ends of the graph."""
        source, result = self.tensors[int(op.inputs[0])], self.tensors[index]
        before, after = flatbuffer.quantization_of(source), flatbuffer.quantization_of(result)
        kinds = [flatbuffer.dtype_name(tensor) for tensor in (source, result)]
        if before is None or after is None or not all(kind in ("int8", "uint8") for kind in kinds):
            return False
        ends = [zero - _INTEGERS[kind][0] for (_, zero), kind in zip((before, after), kinds, strict=True)]
        return before[0] == after[0] and ends[0] == ends[1]

    def _readers(self, index: int) -> frozenset[str] | None:
        """The canonical layers that read a tensor; None when the graph's output is made of it."""
        layers: set[str] = set()
        if index in self._ends:
            return None
        for op in self.operators:
            if index not in op.inputs:
                continue
            result = int(op.outputs[0])
            if self._name(op) in _CONVERSIONS:
                behind = self._readers(result)
                if behind is None:
                    return None
                layers |= behind
                continue
            names = _names(self._weights(op)) if self._name(op) in _WEIGHTED else []
            layer = self.canonical.weighted(names) or self.canonical.layer_of(self.counterparts[result] or "")
            if layer is not None:
                layers.add(layer)
        return frozenset(layers)

    def _weights(self, op: OperatorT) -> TensorT:
        index = int(op.inputs[1])
        return self.tensors[self._restored.get(index, index)]

    def _stored(self, op: OperatorT) -> QuantizedWeights | None:
        tensor = self._weights(op)
        if flatbuffer.dtype_name(tensor) != "int8" or not flatbuffer.is_constant(self.model, tensor):
            return None
        biased = len(op.inputs) > 2 and op.inputs[2] >= 0
        layer = self.canonical.weighted([*_names(tensor), *_names(self.tensors[op.outputs[0]])])
        if layer is None:
            self.unmatched.append(tensor.name.decode())
            return None
        kernel = _dequantized(self.model, tensor)
        shape = self.canonical.kernel_shape(layer)
        if self._name(op) == "CONV_2D":
            kernel = kernel.transpose(1, 2, 3, 0)
        elif self._name(op) == "FULLY_CONNECTED":
            kernel = kernel.T
        if kernel.size != np.prod(shape):
            self.unmatched.append(tensor.name.decode())
            return None
        kernel = np.ascontiguousarray(kernel).reshape(shape)
        bias = _dequantized(self.model, self.tensors[op.inputs[2]]) if biased else None
        read, made = self.factors.get(int(op.inputs[0])), self.factors.get(int(op.outputs[0]))
        depthwise = self._name(op) == "DEPTHWISE_CONV_2D"
        if read is not None:
            kernel *= read[:, None]
        if made is not None:
            kernel /= made.reshape(shape[2:]) if depthwise else made
            bias = None if bias is None else bias / made
        return QuantizedWeights(layer=layer, kernel=kernel, bias=bias)


def _names(tensor: TensorT) -> list[str]:
    """Return what a tensor is called; fused operations are joined by semicolons."""
    name: str = tensor.name.decode()
    return name.split(";")


def _dequantized(model: ModelT, tensor: TensorT) -> NDArray[np.float32]:
    """Return a constant's real values in its shape."""
    data = np.ascontiguousarray(model.buffers[tensor.buffer].data)
    values = data.view(flatbuffer.dtype_name(tensor)).astype(np.float64).reshape(flatbuffer.shape_of(tensor))
    grid = tensor.quantization
    if grid is not None and grid.scale is not None and len(grid.scale):
        shape = [1] * values.ndim
        if len(grid.scale) > 1:
            shape[grid.quantizedDimension] = len(grid.scale)
        zero = (
            0
            if grid.zeroPoint is None
            else np.reshape(grid.zeroPoint, shape if len(grid.zeroPoint) > 1 else 1)
        )
        values = (values - zero) * np.reshape(np.asarray(grid.scale, np.float64), shape)
    result: NDArray[np.float32] = values.astype(np.float32)
    return result
