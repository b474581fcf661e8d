"""What an ONNX file quantizes, and what its layers put out; see `edgefx.targets.grids`.

Q/DQ pairs around some convolutions; the other readers of a tensor may read it in float.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.packages import require
from edgefx.targets import onnx_describe
from edgefx.targets.grids import Canonical, Tapped, as_output, as_stored
from edgefx.targets.onnx_graph import Graph, attribute, infer_shapes
from edgefx.targets.onnx_session import open_session
from edgefx.types import ActivationGrid, FrozenGraph, Quantization, StoredWeights

if TYPE_CHECKING:
    import onnx

    from edgefx.types import Pixels

_WEIGHTED = ("Conv", "Gemm", "MatMul", "MatMulInteger")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast")
_VIEWS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_RESTORING = ("DequantizeLinear", "Cast", "Mul")  # what stands between stored weights and a convolution
_INTEGERS = {"uint8": (0, 255), "int8": (-128, 127)}


def quantization(path: Path, graph: FrozenGraph) -> Quantization:
    """Read back which activations and weights the file quantizes.

    Raises:
        ArtifactError: The file is missing, damaged or no ONNX file.
    """
    require("onnx", purpose="reading .onnx files")
    return _Reader(onnx_describe.load(path), Canonical(graph)).quantization()


@contextmanager
def tapped(path: Path, graph: FrozenGraph, threads: int) -> Iterator[Tapped]:
    """Open the file with the outputs of its layers as further outputs.

    Raises:
        ArtifactError: The file is missing, damaged or no ONNX file.
    """
    require("onnx", "onnxruntime", purpose="running .onnx files")
    yield _Taps(onnx_describe.load(path), Canonical(graph), threads)


class _Reader:
    """Walks a file once and finds the counterpart of each of its tensors."""

    def __init__(self, model: onnx.ModelProto, canonical: Canonical) -> None:
        self.canonical = canonical
        self.graph = Graph(model)
        self.shapes = infer_shapes(model)  # of the file itself, which names the domains it needs
        self.readers = self.graph.consumers()
        self.producers = self.graph.producers()
        self.unmatched: list[str] = []
        # The operation of the canonical graph behind each activation, by tensor.
        self.counterparts: dict[str, str | None] = {self.graph.inputs[0].name: canonical.image}
        ends = self.graph.output_names
        ends |= {
            node.input[0]
            for node in self.graph.nodes
            if node.op_type == "QuantizeLinear" and ends & set(node.output)
        }
        for node in self.graph.nodes:
            if not any(name in self.counterparts for name in node.input):
                continue  # weights
            for name in node.output:
                self.counterparts[name] = canonical.output if name in ends else self._counterpart(node, name)

    def _counterpart(self, node: onnx.NodeProto, name: str) -> str | None:
        source = self.counterparts.get(node.input[0]) if node.input else None
        if node.op_type in _CONVERSIONS:
            return source
        found = self.canonical.operation([name], self.shapes.get(name, ()), nchw=True)
        if found is None and node.op_type in _VIEWS:
            return source
        return found or self._as_read(name)

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
        return self.canonical.weighted([node.output[0], node.name, node.input[1]])

    def quantization(self) -> Quantization:
        grids, weights = [], []
        for node in self.graph.nodes:
            if (stored := self._stored(node)) is not None:
                weights.append(stored)
            if (grid := self.grid(node)) is not None:
                counterpart = self.counterparts[node.input[0]]
                if counterpart is None:
                    self.unmatched.append(node.input[0])
                    continue
                low, high = grid
                alone = len(self.readers[node.input[0]]) == 1 and node.input[0] not in self.graph.output_names
                grids.append(
                    ActivationGrid(
                        tensor=counterpart,
                        low=low,
                        high=high,
                        levels=256,
                        readers=None if alone else self._layers_reading(node.output[0]),
                    )
                )
        return Quantization(grids=tuple(grids), weights=tuple(weights), unmatched=tuple(self.unmatched))

    def grid(self, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the ends of the grid that a QuantizeLinear rounds to; None for any other node."""
        if node.op_type != "QuantizeLinear" or node.input[0] not in self.counterparts:
            return None
        scale = np.atleast_1d(self.graph.constants[node.input[1]]).astype(np.float64)
        zero = (
            np.atleast_1d(self.graph.constants[node.input[2]])
            if len(node.input) > 2
            else np.zeros(1, np.uint8)
        )
        low, high = _INTEGERS[zero.dtype.name]
        ends = [((end - zero.astype(np.float64)) * scale).astype(np.float32) for end in (low, high)]
        return ends[0], ends[1]

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

    def _stored(self, node: onnx.NodeProto) -> StoredWeights | None:
        if node.op_type not in _WEIGHTED or len(node.input) < 2 or not self._is_int8(node.input[1]):
            return None
        values, layer = self._value(node.input[1]), self._weighted(node)
        if node.op_type == "MatMulInteger":  # computes on the codes; a factor behind it has the scales
            values = self._scaled_behind(node, values)
        if values is None or layer is None:
            self.unmatched.append(node.input[1])
            return None
        transposed = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
        oihw = values if node.op_type == "Conv" or transposed else values.T
        kernel = self.canonical.kernel(layer, oihw)
        if kernel is None:
            self.unmatched.append(node.input[1])
            return None
        bias = (
            self._value(node.input[2]) if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 else None
        )
        return StoredWeights(layer=layer, kernel=kernel, bias=bias)

    def _is_int8(self, name: str) -> bool:
        if name in self.graph.constants:
            return self.graph.constants[name].dtype.name in _INTEGERS
        node = self.producers.get(name)
        return node is not None and node.op_type in _RESTORING and self._is_int8(node.input[0])

    def _scaled_behind(
        self, node: onnx.NodeProto, codes: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | None:
        name = f"{node.input[1].removesuffix('/int8')}/scale"
        return (
            None if codes is None or name not in self.graph.constants else codes * self.graph.constants[name]
        )

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
        self._grids: dict[str, tuple[float, float]] = {}  # scale and zero point of tensors tapped as integers
        for name, operation in reader.counterparts.items():
            layer, node = canonical.layer_behind(operation), reader.producers.get(name)
            if layer is None or node is None or node.op_type in (*_CONVERSIONS, *_VIEWS):
                continue
            self._tensors[layer] = name
            readers = reader.readers.get(name, [])
            quantizers = [other for other in readers if other.op_type == "QuantizeLinear"]
            if len(quantizers) == len(readers) == 1:
                scale, zero = (reader.graph.constants[end] for end in quantizers[0].input[1:3])
                self._tensors[layer] = quantizers[0].output[0]
                self._grids[quantizers[0].output[0]] = float(scale), float(zero)
        probe = ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        self._wanted = list(self._tensors.values())
        probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self._wanted)
        self._session = open_session(probe.SerializeToString(), threads)

    def infer(self, image: Pixels) -> dict[str, NDArray[np.float32]]:
        """Run one image; see `Tapped`."""
        found = self._session.run(self._wanted, {self._input: as_stored(image, self._dtype)})
        values = dict(zip(self._wanted, found, strict=True))
        for name, (scale, zero) in self._grids.items():
            values[name] = (values[name].astype(np.float32) - np.float32(zero)) * np.float32(scale)
        return {layer: as_output(values[name], nchw=True) for layer, name in self._tensors.items()}


def _input(model: onnx.ModelProto) -> tuple[str, str]:
    """Return name and element type of the input."""
    from onnx import helper

    image = model.graph.input[0]
    return image.name, helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type).name
