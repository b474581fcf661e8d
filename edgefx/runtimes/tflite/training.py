"""TFLite's INT8 and training: what the artifact rounds, read from it, and what was trained, written into it.

The post-training artifact is the template: its operations, its channel scales around swishes and its zero
points stay, so that writing a trained model is replacing numbers (milliseconds; converting a model with
simulated quantization by TensorFlow's converter takes seven times as long as post-training quantization and
leaves operations in float where it does not recognise a pattern).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.qat.parameters import LARGEST_WEIGHT, FakeQuantization, QuantGrid, Weights
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import QatTemplate
from edgefx.runtimes.readback import Canonical
from edgefx.runtimes.tflite import ends, flatbuffer
from edgefx.runtimes.tflite.readback import Reader
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_AFFINE = ("ADD", "MUL")  # with a constant: what the model does to the pixels
_FIXED = ("LOGISTIC", "SOFTMAX", "TANH")  # output grids that the kernels prescribe
# Operations whose kernels hand codes on, so that input and output must be on one grid.
_SAME_GRID = (
    "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "CONCATENATION", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "PACK",
    "PAD", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPACE_TO_BATCH_ND", "SPLIT", "SQUEEZE",
    "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
)  # fmt: skip
_INSIDE = 0.49  # of a step: a start that rounds to the code it belongs to
_INT32 = np.iinfo(np.int32)


def read(template: QatTemplate, graph: FrozenGraph) -> FakeQuantization:
    """Return what a template rounds, by canonical layer."""
    model, exact = flatbuffer.read(template.quantized), flatbuffer.read(template.float_model)
    return _Walk(model, graph).read(exact)


def written(
    template: QatTemplate, trained: FakeQuantization, graph: FrozenGraph, scheme: QuantScheme
) -> bytes:
    """Return what was trained as the content of a ``.tflite``.

    Args:
        template: What training started from.
        trained: What `read` returned, with other weights, biases and scales.
        graph: The canonical graph.
        scheme: Says the type of the ends.
    """
    model = applied(template, trained, graph)
    ends.finish(
        model,
        input_name=graph.input_name,
        output_names=graph.output_names,
        input_dtype=scheme.io_dtype,
        output_dtypes=scheme.output_dtypes(graph.output_names),
        float_sigmoids=scheme.float_sigmoids(graph.output_names),
    )
    return flatbuffer.write(model)


def applied(template: QatTemplate, trained: FakeQuantization, graph: FrozenGraph) -> ModelT:
    """Return a template's integer graph with what was trained in it."""
    model = flatbuffer.read(template.quantized)
    _Walk(model, graph).write(trained)
    return model


class _Walk:
    """A template, its tensors sorted by what training may do with them."""

    def __init__(self, model: ModelT, graph: FrozenGraph) -> None:
        self.model = model
        self.tensors = model.subgraphs[0].tensors
        self.canonical = Canonical(graph)
        self.reader = Reader(model, self.canonical)
        self.operators: list[OperatorT] = self.reader.operators
        self.names = [flatbuffer.op_name(model, op) for op in self.operators]
        self.group, self.fixed = self._groups()

    def _groups(self) -> tuple[dict[int, int], set[int]]:
        """Give tensors that must share a grid the index of one of them; which of these are prescribed."""
        group = {int(index): int(index) for op in self.operators for index in op.outputs}
        group |= {int(index): int(index) for index in self.model.subgraphs[0].inputs}
        fixed = {int(index) for index in self.model.subgraphs[0].inputs}
        for name, op in zip(self.names, self.operators, strict=True):
            result = int(op.outputs[0])
            if name in _FIXED or name == "QUANTIZE":  # a conversion has a purpose: leave it
                fixed |= {int(index) for index in (*op.inputs, *op.outputs) if name == "QUANTIZE"} | {result}
            if name in _SAME_GRID:
                for index in (int(i) for i in (*op.inputs, *op.outputs) if int(i) in group):
                    old, new = group[index], group[result]
                    group = {key: new if value == old else value for key, value in group.items()}
        return group, {group[index] for index in fixed if index in group}

    def read(self, exact: ModelT) -> FakeQuantization:
        """Return the template in terms of canonical layers; `exact` is its float graph."""
        floats = {tensor.name.decode(): tensor for tensor in exact.subgraphs[0].tensors}
        grids: dict[str, QuantGrid] = {}
        outputs: dict[str, str] = {}
        gates: dict[str, str] = {}
        wholes: dict[str, str] = {}
        factors: dict[str, NDArray[np.float32]] = {}
        weights: dict[str, Weights] = {}
        constants: dict[str, NDArray[np.float32]] = {}
        for name, op in zip(self.names, self.operators, strict=True):
            index = int(op.outputs[0])
            grid = self._grid(index)
            if grid is None:
                continue
            grids[self._key(index)] = grid
            found = self.reader.counterparts[index]
            layer = self.canonical.layer_behind(found)
            if index in self.reader.scalings:
                swish = self._layer_reading(index)
                wholes[swish] = self._key(index)
                factors[swish] = self._scaling(op)
            elif layer is not None and name != "QUANTIZE":
                outputs[layer] = self._key(index)
            elif found is not None and name == "LOGISTIC":
                gates[self.canonical.layer_of(found) or ""] = self._key(index)
            if name in _WEIGHTED and (read := self._weights(op, exact, floats)) is not None:
                weights[read[0]] = read[1]
            if name in _AFFINE and found is not None and index not in self.reader.scalings:
                for value in self._constants(op):
                    constants[found] = value
        return FakeQuantization(
            grids=grids,
            outputs=outputs,
            gates=gates,
            wholes=wholes,
            channel_factors=factors,
            weights=weights,
            constants=constants,
        )

    def write(self, trained: FakeQuantization) -> None:
        """Replace scales, weights and biases in the template."""
        for index in self.group:
            grid = trained.grids.get(self._key(index))
            if grid is not None and not grid.fixed and self._grid(index) is not None:
                self.tensors[index].quantization.scale = [grid.scale]
        for name, op in zip(self.names, self.operators, strict=True):
            if name not in _WEIGHTED:
                continue
            layer = self._layer(op)
            if layer is not None and layer in trained.weights:
                self._store(op, trained.weights[layer])

    # ------------------------------------------------------------------------------------------ activations

    def _key(self, index: int) -> str:
        """Name of a tensor's grid."""
        name: str = self.tensors[self.group[index]].name.decode()
        return name

    def _grid(self, index: int) -> QuantGrid | None:
        found = flatbuffer.quantization_of(self.tensors[index])
        if found is None or flatbuffer.dtype_name(self.tensors[index]) != "int8":
            return None
        scale, zero_point = found
        return QuantGrid(scale=scale, zero_point=zero_point, fixed=self.group[index] in self.fixed)

    def _layer_reading(self, index: int) -> str:
        """The activation whose sigmoid reads a tensor."""
        for op in self.operators:
            if index in op.inputs:
                layer = self.canonical.layer_of(self.reader.counterparts[int(op.outputs[0])] or "")
                if layer is not None:
                    return layer
        raise ConversionError(f"nothing reads tensor '{self.tensors[index].name.decode()}'")

    def _scaling(self, op: OperatorT) -> NDArray[np.float32]:
        """The constants that restore a swish's input, as stored; [channels]."""
        values = _real(self.model, self.tensors[op.inputs[1]])
        return np.ascontiguousarray(values.reshape(-1, values.shape[-1])[0])

    def _constants(self, op: OperatorT) -> list[NDArray[np.float32]]:
        tensors = [self.tensors[index] for index in op.inputs]
        found = [t for t in tensors if flatbuffer.is_constant(self.model, t)]
        return [_real(self.model, t) for t in found if flatbuffer.dtype_name(t) == "int8"]

    # --------------------------------------------------------------------------------------------- weights

    def _layer(self, op: OperatorT) -> str | None:
        names = [
            name for index in (op.inputs[1], op.outputs[0]) for name in self._names(int(index))
        ]  # fmt: skip
        return self.canonical.weighted(names)

    def _names(self, index: int) -> list[str]:
        name: str = self.tensors[index].name.decode()
        return name.split(";")

    def _weights(self, op: OperatorT, exact: ModelT, floats: Mapping[str, Any]) -> tuple[str, Weights] | None:
        tensor = self.tensors[op.inputs[1]]
        layer = self._layer(op)
        if layer is None or flatbuffer.dtype_name(tensor) != "int8" or tensor.name.decode() not in floats:
            return None
        shape = self.canonical.kernel_shape(layer)
        stored = _real(self.model, tensor)
        wanted = flatbuffer.constant(exact, floats[tensor.name.decode()])
        if wanted is None or stored.size != np.prod(shape):
            return None
        steps = np.broadcast_to(_steps(tensor, stored.ndim), stored.shape)
        offset = np.clip(wanted - stored, -_INSIDE * steps, _INSIDE * steps)
        name = flatbuffer.op_name(self.model, op)
        kernel, spread = (_to_canonical(value, name, shape) for value in (stored + offset, steps))
        outputs = shape[-1] if name != "DEPTHWISE_CONV_2D" else shape[2] * shape[3]
        bias = np.zeros(outputs, np.float32)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            bias = _real(self.model, self.tensors[op.inputs[2]])
        factors, made = np.ones(shape, np.float32), np.ones(1, np.float32)
        if (read := self.reader.factors.get(int(op.inputs[0]))) is not None:
            factors = factors / read.reshape(-1, 1)
        if int(op.outputs[0]) in self.reader.factors:
            made = self.reader.factors[int(op.outputs[0])]
            factors = factors * (made.reshape(shape[2:]) if name == "DEPTHWISE_CONV_2D" else made)
        return layer, Weights(
            kernel=kernel.astype(np.float32),
            bias=bias,
            steps=spread.astype(np.float32),
            factors=factors.astype(np.float32),
            bias_factors=made,
        )

    def _store(self, op: OperatorT, trained: Weights) -> None:
        """Write codes and int32 biases; the steps of the weights are the template's."""
        name = flatbuffer.op_name(self.model, op)
        tensor = self.tensors[op.inputs[1]]
        codes = np.clip(np.round(trained.kernel / trained.steps), -LARGEST_WEIGHT, LARGEST_WEIGHT)
        stored = _from_canonical(codes, name, flatbuffer.shape_of(tensor))
        self.model.buffers[tensor.buffer].data = stored.astype(np.int8).reshape(-1).view(np.uint8)
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return
        bias = self.tensors[op.inputs[2]]
        source = flatbuffer.quantization_of(self.tensors[op.inputs[0]])
        assert source is not None, "the template is fully integer"
        steps = np.asarray(tensor.quantization.scale, np.float64) * source[0]
        bias.quantization.scale = steps.astype(np.float32).tolist()
        values = np.round(trained.bias / np.broadcast_to(steps, trained.bias.shape))
        self.model.buffers[bias.buffer].data = (
            np.clip(values, _INT32.min, _INT32.max).astype(np.int32).view(np.uint8)
        )


def _real(model: ModelT, tensor: Any) -> NDArray[np.float32]:
    """A quantized constant's real values, in its shape."""
    data = np.ascontiguousarray(model.buffers[tensor.buffer].data)
    codes = data.view(flatbuffer.dtype_name(tensor)).astype(np.float64)
    codes = codes.reshape(flatbuffer.shape_of(tensor))
    zero = tensor.quantization.zeroPoint
    if zero is not None and len(zero) == 1:
        codes = codes - int(zero[0])
    result: NDArray[np.float32] = (codes * _steps(tensor, codes.ndim)).astype(np.float32)
    return result


def _steps(tensor: Any, rank: int) -> NDArray[np.float64]:
    """A tensor's scales, shaped to broadcast over it."""
    scales = np.asarray(tensor.quantization.scale, np.float64)
    shape = [1] * rank
    if len(scales) > 1:
        shape[tensor.quantization.quantizedDimension] = len(scales)
    return scales.reshape(shape)


def _to_canonical(values: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """From TFLite's layout of a kernel to the canonical graph's."""
    if name == "CONV_2D":
        values = values.transpose(1, 2, 3, 0)
    elif name == "FULLY_CONNECTED":
        values = values.T
    return np.ascontiguousarray(values).reshape(shape)


def _from_canonical(values: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """From the canonical layout of a kernel to TFLite's `shape`."""
    if name == "CONV_2D":
        out, kh, kw, per_group = shape
        return np.ascontiguousarray(values.reshape(kh, kw, per_group, out).transpose(3, 0, 1, 2))
    if name == "FULLY_CONNECTED":
        return np.ascontiguousarray(values.reshape(shape[::-1]).T)
    return np.ascontiguousarray(values).reshape(shape)
