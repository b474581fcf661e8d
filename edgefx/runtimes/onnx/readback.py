"""What an ONNX file quantizes, and what its layers put out; see `edgefx.runtimes.readback`.

Q/DQ pairs around some convolutions; the other readers of a tensor may read it in float. Where a factor per
channel was put in front of a product and taken out of the weights behind it, both are undone here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.quantization import Quantization, QuantizedWeights, QuantParams
from edgefx.runtimes.onnx import artifact
from edgefx.runtimes.onnx.graph import OnnxGraph, attribute, infer_shapes
from edgefx.runtimes.onnx.session import open_session
from edgefx.runtimes.protocol import Probes
from edgefx.runtimes.readback import Canonical, as_output, as_stored
from edgefx.system.packages import require
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    import onnx

    from edgefx.types import Pixels

_WEIGHTED = {"Conv": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearConv": 3}  # input of weights
_QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")
_DEQUANTIZE = "DequantizeLinear"
_CONVERSIONS = (*_QUANTIZERS, _DEQUANTIZE, "Cast")
_VIEWS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_RESTORING = ("DequantizeLinear", "Cast", "Mul")  # what stands between stored weights and a convolution
_INTEGERS = {"uint8": (0, 255), "int8": (-128, 127)}


def quantization(path: Path, graph: FrozenGraph) -> Quantization:
    """Read back which activations and weights the file quantizes.

    Raises:
        ArtifactError: The file is missing, damaged or no ONNX file.
    """
    require("onnx", purpose="reading .onnx files")
    return _Reader(artifact.load(path), Canonical(graph)).quantization()


@contextmanager
def open_probes(path: Path, graph: FrozenGraph, threads: int) -> Iterator[Probes]:
    """Open the file with the outputs of its layers as further outputs.

    Raises:
        ArtifactError: The file is missing, damaged or no ONNX file.
    """
    require("onnx", "onnxruntime", purpose="running .onnx files")
    yield _Taps(artifact.load(path), Canonical(graph), threads)


class _Reader:
    """Walks a file once and finds the counterpart of each of its tensors."""

    def __init__(self, model: onnx.ModelProto, canonical: Canonical) -> None:
        self.canonical = canonical
        self.graph = OnnxGraph(model)
        self.shapes = infer_shapes(model)  # of the file itself, which names the domains it needs
        self.readers = self.graph.consumers()
        self.producers = self.graph.producers()
        self.unmatched: list[str] = []
        # The operation of the canonical graph behind each activation, by tensor.
        self.counterparts: dict[str, str | None] = {self.graph.inputs[0].name: canonical.image}
        ends = {name: canonical.end(name) for name in self.graph.output_names}
        ends |= {
            node.input[0]: ends[node.output[0]]
            for node in self.graph.nodes
            if node.op_type == "QuantizeLinear" and node.output[0] in ends
        }
        # What the artifact multiplied the channels of an activation by, float32 [channels], by tensor.
        self.factors: dict[str, NDArray[np.float32]] = {}
        for node in self.graph.nodes:
            if not any(name in self.counterparts for name in node.input):
                continue  # weights
            for name in node.output:
                self.counterparts[name] = ends[name] if name in ends else self._counterpart(node, name)
            factor = self._factor(node)
            if factor is not None:
                self.factors.update(dict.fromkeys(node.output, factor))

    def _counterpart(self, node: onnx.NodeProto, name: str) -> str | None:
        source = self.counterparts.get(node.input[0]) if node.input else None
        if node.op_type in _CONVERSIONS or self.is_scaling(node):
            return source
        layer = self._weighted(node)
        if layer is not None and self._added_behind(node) is not None:
            return self.canonical.product_of(layer)
        found = self.canonical.operation([name], self.shapes.get(name, ()), nchw=True)
        if found is None and node.op_type in _VIEWS:
            return source
        return found or self._as_read(name)

    def is_scaling(self, node: onnx.NodeProto) -> bool:
        """Whether a Mul by a constant vector is not the model's own, but evens out channels."""
        if node.op_type != "Mul" or self.canonical.is_operation(node.output[0]):
            return False
        if node.input[1] not in self.graph.constants:
            return False
        found = self.canonical.operation([node.output[0]], self.shapes.get(node.output[0], ()), nchw=True)
        return found is None or found == self.counterparts.get(node.input[0])

    def _factor(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        known = [self.factors[name] for name in node.input if name in self.factors]
        if self.is_scaling(node):
            known.append(self.graph.constants[node.input[1]].astype(np.float32).reshape(-1))
        elif node.op_type not in (*_CONVERSIONS, *_VIEWS, "Mul"):
            return None
        return math.prod(known[1:], start=known[0]) if known else None

    def _as_read(self, name: str) -> str | None:
        """Find the counterpart of a tensor without a name by the convolution that reads it."""
        for node in self.readers.get(name, ()):
            if node.op_type in _CONVERSIONS:
                found = self._as_read(node.output[0])
            else:
                layer = self._weighted(node) if node.input[0] == name else None
                found = layer and self.canonical.read_by(layer, self.shapes.get(name, ()), nchw=True)
            if found:
                return found
        return None

    def _weighted(self, node: onnx.NodeProto) -> str | None:
        if node.op_type not in _WEIGHTED:
            return None
        return self.canonical.weighted([node.output[0], node.name, node.input[_WEIGHTED[node.op_type]]])

    def quantization(self) -> Quantization:
        grids, weights = [], []
        for node in self.graph.nodes:
            if (stored := self._stored(node)) is not None:
                weights.append(stored)
            if node.op_type in _QUANTIZERS and node.input[0] in self.counterparts:
                alone = len(self.readers[node.input[0]]) == 1 and node.input[0] not in self.graph.output_names
                readers = None if alone else self._layers_reading(node.output[0])
                grids.append(self._grid(node, node.input[0], self.ends(node), readers))
            elif node.op_type == "QLinearConv":
                grids.append(self._grid(node, node.output[0], node.input[6:8], None))
        return Quantization(
            grids=tuple(grid for grid in grids if grid is not None),
            weights=tuple(weights),
            unmatched=tuple(self.unmatched),
        )

    def _grid(
        self, node: onnx.NodeProto, tensor: str, ends: Sequence[str], readers: frozenset[str] | None
    ) -> QuantParams | None:
        """Return the grid that `tensor` is rounded to, given the names of its scale and zero point."""
        counterpart, factor = self.counterparts[tensor], self.factors.get(tensor)
        if counterpart is None:
            self.unmatched.append(tensor)
            return None
        if node.op_type == "DynamicQuantizeLinear":
            nothing = np.zeros(0, np.float32)
            return QuantParams(
                tensor=counterpart,
                low=nothing,
                high=nothing,
                levels=256,
                readers=readers,
                dynamic=True,
                factor=factor,
            )
        scale = np.atleast_1d(self.graph.constants[ends[0]]).astype(np.float64)
        zero = np.atleast_1d(self.graph.constants[ends[1]] if len(ends) > 1 else np.uint8(0))
        low, high = (
            (end - zero.astype(np.float64)) * scale / (1.0 if factor is None else factor)
            for end in _INTEGERS[zero.dtype.name]
        )
        return QuantParams(
            tensor=counterpart,
            low=low.astype(np.float32),
            high=high.astype(np.float32),
            levels=256,
            readers=readers,
        )

    def ends(self, node: onnx.NodeProto) -> Sequence[str]:
        """Return the names of a QuantizeLinear's scale and zero point, as real values are read back.

        A convolution may make the codes of its channels' grids itself, so that they are only stored here;
        what reads them knows the grids.
        """
        behind = [other for other in self.readers.get(node.output[0], ()) if other.op_type == _DEQUANTIZE]
        return list((behind[0] if len(behind) == 1 else node).input[1:3])

    def _own_codes(self, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return scales and zero points [C] where a convolution makes the codes of its channels itself."""
        quantizers = [
            other for other in self.readers.get(node.output[0], ()) if other.op_type == "QuantizeLinear"
        ]
        if len(quantizers) != 1 or self.graph.constants[self.ends(quantizers[0])[0]].size == 1:
            return None
        scale, zero = (self.graph.constants[name].astype(np.float32) for name in self.ends(quantizers[0]))
        return scale, zero

    def _layers_reading(self, name: str) -> frozenset[str] | None:
        if name in self.graph.output_names:
            return None
        layers: set[str] = set()
        for node in self.readers.get(name, ()):
            if node.op_type in _CONVERSIONS:
                behind = self._layers_reading(node.output[0])
                if behind is None:
                    return None
                layers |= behind
                continue
            layer = self._weighted(node) or self.canonical.layer_of(self.counterparts[node.output[0]] or "")
            if layer is not None:
                layers.add(layer)
        return frozenset(layers)

    # -------------------------------------------------------------------------------------------- weights

    def _stored(self, node: onnx.NodeProto) -> QuantizedWeights | None:
        place = _WEIGHTED.get(node.op_type)
        if place is None or len(node.input) <= place or not self._is_int8(node.input[place]):
            return None
        values, layer = self._weights(node, place), self._weighted(node)
        own = self._own_codes(node) if node.op_type == "Conv" else None
        if own is not None and values is not None:
            values = values * own[0].reshape(-1, 1, 1, 1)
        kernel = None
        if values is not None and layer is not None:
            transposed = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
            by_output = node.op_type in ("Conv", "QLinearConv") or transposed
            factor = self.factors.get(node.input[0])
            kernel = self.canonical.kernel(layer, values if by_output else values.T, factor)
        if kernel is None or layer is None:
            self.unmatched.append(node.input[place])
            return None
        bias = self._added_behind(node)
        if bias is None and node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            bias = self._value(node.input[2])
            if own is not None and bias is not None:
                bias = (bias - own[1]) * own[0]
        return QuantizedWeights(layer=layer, kernel=kernel, bias=bias)

    def _weights(self, node: onnx.NodeProto, place: int) -> NDArray[np.float32] | None:
        """Return a node's real weights; where it computes on codes, the scales are elsewhere."""
        name = node.input[place]
        values = self._value(name)
        scale = zero = None
        if node.op_type == "QLinearConv":
            scale, zero = (self._value(node.input[place + 1]), self._value(node.input[place + 2]))
            scale = None if scale is None else scale.reshape(-1, 1, 1, 1)
            zero = None if zero is None else zero.reshape(-1, 1, 1, 1)
        elif node.op_type == "MatMulInteger":
            scale = self._value(f"{name.rpartition('/')[0]}/scale")
            zero = self._value(node.input[3]) if len(node.input) > 3 else None
        else:
            return values
        if values is None or scale is None:
            return None
        return (values if zero is None else values - zero) * scale

    def _added_behind(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Return the bias that an Add behind a convolution without one adds, past a DequantizeLinear."""
        if node.op_type not in ("Conv", "QLinearConv") or len(node.input) > {"Conv": 2}.get(node.op_type, 8):
            return None
        readers = self.readers.get(node.output[0], [])
        while len(readers) == 1 and readers[0].op_type in _CONVERSIONS:
            readers = self.readers.get(readers[0].output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        added = next((name for name in readers[0].input if name in self.graph.constants), None)
        return None if added is None else self.graph.constants[added].astype(np.float32).reshape(-1)

    def _is_int8(self, name: str) -> bool:
        if name in self.graph.constants:
            return self.graph.constants[name].dtype.name in _INTEGERS
        node = self.producers.get(name)
        return node is not None and node.op_type in _RESTORING and self._is_int8(node.input[0])

    def _value(self, name: str) -> NDArray[np.float32] | None:
        """Compute a tensor that depends on constants only; None when it does not."""
        if name in self.graph.constants:
            return self.graph.constants[name].astype(np.float32)
        node = self.producers.get(name)
        if node is None or node.op_type not in _RESTORING:
            return None
        values = [self._value(source) for source in node.input]
        if any(value is None for value in values):
            return None
        if node.op_type == "Cast":
            return values[0]
        first, second = values[0], values[1]
        assert first is not None
        assert second is not None
        if node.op_type == "Mul":
            product: NDArray[np.float32] = first * second
            return product
        axis = int(str(attribute(node, "axis", 1)))
        shape = [1] * first.ndim
        if second.size > 1:
            shape[axis] = second.size
        zero = values[2].reshape(shape) if len(values) > 2 and values[2] is not None else np.float32(0)
        result: NDArray[np.float32] = (first - zero) * second.reshape(shape)
        return result


class _Taps:
    """A session whose outputs are those of the canonical layers."""

    def __init__(self, model: onnx.ModelProto, canonical: Canonical, threads: int) -> None:
        from onnx import ModelProto, helper

        reader = _Reader(model, canonical)
        self._input, self._dtype = _input(model)
        self._tensors: dict[str, str] = {}  # by canonical layer
        # Scale and zero point of tensors tapped as integers, for broadcasting.
        self._grids: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._factors = reader.factors
        for name, operation in reader.counterparts.items():
            layer, node = canonical.layer_behind(operation), reader.producers.get(name)
            if layer is None or node is None or not _computes(node, reader):
                continue
            self._tensors[layer] = name
            readers = reader.readers.get(name, [])
            quantizers = [other for other in readers if other.op_type == "QuantizeLinear"]
            if len(quantizers) == len(readers) == 1 and name not in reader.factors:
                ends = (reader.graph.constants[end] for end in reader.ends(quantizers[0]))
                scale, zero = (
                    end.astype(np.float32).reshape(-1, 1, 1) if end.size > 1 else end.astype(np.float32)
                    for end in ends
                )
                self._tensors[layer] = quantizers[0].output[0]
                self._grids[quantizers[0].output[0]] = scale, zero
        probe = ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        self._wanted = list(self._tensors.values())
        probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self._wanted)
        self._session = open_session(probe.SerializeToString(), threads)

    def infer(self, image: Pixels) -> dict[str, NDArray[np.float32]]:
        """Run one image; see `Probes`."""
        found = self._session.run(self._wanted, {self._input: as_stored(image[None], self._dtype)})
        values = dict(zip(self._wanted, found, strict=True))
        for name, (scale, zero) in self._grids.items():
            values[name] = (values[name].astype(np.float32) - zero) * scale
        outputs = {}
        for layer, name in self._tensors.items():
            output = as_output(values[name], nchw=True)
            outputs[layer] = output / self._factors[name] if name in self._factors else output
        return outputs


def _computes(node: onnx.NodeProto, reader: _Reader) -> bool:
    """Whether a node makes real values: none that only moves or converts them."""
    if node.op_type == "DequantizeLinear":
        source = reader.producers.get(node.input[0])
        return source is not None and source.op_type == "QLinearConv"
    return node.op_type not in (*_CONVERSIONS, *_VIEWS, "QLinearConv") and not reader.is_scaling(node)


def _input(model: onnx.ModelProto) -> tuple[str, str]:
    """Return name and element type of the input."""
    from onnx import helper

    image = model.graph.input[0]
    return image.name, helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type).name
