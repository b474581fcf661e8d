"""What an OpenVINO IR quantizes, and what its layers put out; see `edgefx.runtimes.readback`.

FakeQuantize operations stand in front of what is computed in integers, one for all channels or one for each.
Where a factor per channel was put in front of a product and taken out of the weights behind it, both are
undone here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.quantization import Quantization, QuantizedWeights, QuantParams
from edgefx.runtimes.openvino import artifact
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.protocol import Probes
from edgefx.runtimes.readback import Canonical, as_output, as_stored
from edgefx.system.packages import require
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    from edgefx.types import Pixels

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
_VIEWS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Convert")
_SMALLEST = np.finfo(np.float32).tiny


def quantization(path: Path, graph: FrozenGraph) -> Quantization:
    """Read back which activations and weights the file quantizes.

    Raises:
        ArtifactError: A file of the pair is missing, damaged, or no OpenVINO IR.
    """
    require("openvino", purpose="OpenVINO .xml files")
    return _Reader(artifact.read(path), Canonical(graph)).quantization()


@contextmanager
def open_probes(path: Path, graph: FrozenGraph, threads: int) -> Iterator[Probes]:
    """Open the file with the outputs of its layers as further outputs.

    Raises:
        ArtifactError: A file of the pair is missing, damaged, or no OpenVINO IR.
    """
    require("openvino", purpose="OpenVINO .xml files")
    yield _Taps(artifact.read(path), Canonical(graph), threads)


class _Reader:
    """Walks a model once and finds the counterpart of each of its operations."""

    def __init__(self, model: Any, canonical: Canonical) -> None:
        self.canonical = canonical
        self.operations: list[Any] = model.get_ordered_ops()
        self.unmatched: list[str] = []
        # The operation of the canonical graph behind each operation that depends on the image, by name.
        self.counterparts: dict[str, str | None] = {
            model.get_parameters()[0].get_friendly_name(): canonical.image
        }
        # What the outputs are made from. Integer ones are made of the layer's output by further operations.
        ends = {
            _name(last): canonical.end(port.get_any_name())
            for result, port in zip(model.get_results(), model.outputs, strict=True)
            if (last := result.input_value(0)).get_element_type().is_real()
        }
        # What the artifact multiplied the channels of an activation by, float32 [channels], by operation.
        self.factors: dict[str, NDArray[np.float32]] = {}
        for operation in self.operations:
            name = operation.get_friendly_name()
            if operation.get_type_name() != "Result" and self._depends_on_image(operation):
                self.counterparts[name] = ends[name] if name in ends else self._counterpart(operation)
                factor = self._factor(operation)
                if factor is not None:
                    self.factors[name] = factor

    def _depends_on_image(self, operation: Any) -> bool:
        return any(_name(value) in self.counterparts for value in operation.input_values())

    def _counterpart(self, operation: Any) -> str | None:
        kind, source = operation.get_type_name(), self.counterparts.get(_name(operation.input_value(0)))
        if kind == "FakeQuantize" or self.is_scaling(operation):
            return source
        found = self.canonical.operation([operation.get_friendly_name()], _shape(operation), nchw=True)
        if found is None and kind in _VIEWS:
            return source
        return found or self._as_read(operation)

    def is_scaling(self, operation: Any) -> bool:
        """Whether a Multiply by a constant vector is not the model's own, but evens out channels."""
        if (
            operation.get_type_name() != "Multiply"
            or operation.input_value(1).get_node().get_type_name() != "Constant"
        ):
            return False
        found = self.canonical.operation([operation.get_friendly_name()], _shape(operation), nchw=True)
        return found is None

    def _factor(self, operation: Any) -> NDArray[np.float32] | None:
        known = [self.factors[_name(v)] for v in operation.input_values() if _name(v) in self.factors]
        if self.is_scaling(operation):
            known.append(operation.input_value(1).get_node().data.astype(np.float32).reshape(-1))
        elif operation.get_type_name() not in (*_VIEWS, "FakeQuantize", "Multiply"):
            return None
        return math.prod(known[1:], start=known[0]) if known else None

    def _as_read(self, operation: Any) -> str | None:
        """Find the counterpart of an operation without a name by the convolution that reads it."""
        for target in operation.output(0).get_target_inputs():
            reader = target.get_node()
            found = None
            if reader.get_type_name() == "FakeQuantize":
                found = self._as_read(reader)
            elif target.get_index() == 0 and (layer := self._weighted(reader)) is not None:
                found = self.canonical.read_by(layer, _shape(operation), nchw=True)
            if found:
                return found
        return None

    def _weighted(self, operation: Any) -> str | None:
        if operation.get_type_name() not in _WEIGHTED:
            return None
        return self.canonical.weighted([operation.get_friendly_name()])

    def quantization(self) -> Quantization:
        grids, weights = [], []
        for operation in self.operations:
            name = operation.get_friendly_name()
            if operation.get_type_name() == "FakeQuantize" and name in self.counterparts:
                if self.counterparts[name] is None:
                    self.unmatched.append(name)
                else:
                    grids.append(self._grid(operation))
            elif operation.get_type_name() in _WEIGHTED and _is_int8(operation.input_value(1).get_node()):
                stored = self._stored(operation)
                if stored is None:
                    self.unmatched.append(name)
                else:
                    weights.append(stored)
        return Quantization(grids=tuple(grids), weights=tuple(weights), unmatched=tuple(self.unmatched))

    def _grid(self, operation: Any) -> QuantParams:
        low, high = (_value(operation.input_value(side).get_node()) for side in (3, 4))
        assert low is not None
        assert high is not None
        source = operation.input_value(0)
        alone = len(source.get_target_inputs()) == 1
        factor = self.factors.get(operation.get_friendly_name(), np.ones(1, np.float32))
        return QuantParams(
            tensor=self.counterparts[operation.get_friendly_name()] or "",
            low=low.reshape(-1) / factor,
            high=high.reshape(-1) / factor,
            levels=int(operation.get_attributes()["levels"]),
            readers=None if alone else self._layers_reading(operation),
        )

    def _layers_reading(self, operation: Any) -> frozenset[str] | None:
        layers: set[str] = set()
        for target in operation.output(0).get_target_inputs():
            reader = target.get_node()
            if reader.get_type_name() == "Result":
                return None
            counterpart = self.counterparts.get(reader.get_friendly_name())
            layer = self._weighted(reader) or self.canonical.layer_of(counterpart or "")
            if reader.get_type_name() in (*_VIEWS, "FakeQuantize"):
                behind = self._layers_reading(reader)
                if behind is None:
                    return None
                layers |= behind
            elif layer is not None:
                layers.add(layer)
        return frozenset(layers)

    def _stored(self, operation: Any) -> QuantizedWeights | None:
        layer, values = self._weighted(operation), _value(operation.input_value(1).get_node())
        if layer is None or values is None:
            return None
        if operation.get_type_name() == "MatMul" and not operation.get_attributes()["transpose_b"]:
            values = values.T
        kernel = self.canonical.kernel(layer, values, self.factors.get(_name(operation.input_value(0))))
        return (
            None
            if kernel is None
            else QuantizedWeights(layer=layer, kernel=kernel, bias=self._bias(operation, layer))
        )

    def _bias(self, operation: Any, layer: str) -> NDArray[np.float32] | None:
        """The constant that is added behind a convolution, by an operation of the same layer."""
        targets = list(operation.output(0).get_target_inputs())
        while len(targets) == 1:
            reader = targets[0].get_node()
            if reader.get_type_name() == "Add":
                if self.canonical.layer_of(reader.get_friendly_name()) != layer:
                    return None
                bias = _value(reader.input_value(1 - targets[0].get_index()).get_node())
                return None if bias is None else bias.reshape(-1)
            if reader.get_type_name() not in _VIEWS:
                return None
            targets = list(reader.output(0).get_target_inputs())
        return None


class _Taps:
    """A compiled model that also delivers what the canonical layers put out."""

    def __init__(self, model: Any, canonical: Canonical, threads: int) -> None:

        reader = _Reader(model, canonical)
        outputs: dict[str, Any] = {}  # by canonical layer
        for operation in reader.operations:
            name = operation.get_friendly_name()
            layer = canonical.layer_behind(reader.counterparts.get(name))
            if layer is None or operation.get_type_name() in _VIEWS or reader.is_scaling(operation):
                continue
            # Where all readers read the rounded values, those are the layer's output.
            if (
                operation.get_type_name() != "FakeQuantize"
                or len(operation.input_value(0).get_target_inputs()) == 1
            ):
                outputs[layer] = operation.output(0)
        self._dtype = artifact.input_info(model).dtype
        self._factors = {
            layer: reader.factors[port.get_node().get_friendly_name()]
            for layer, port in outputs.items()
            if port.get_node().get_friendly_name() in reader.factors
        }
        results = [result.input_value(0).get_node().get_friendly_name() for result in model.get_results()]
        added = [port for port in outputs.values() if port.get_node().get_friendly_name() not in results]
        model.add_outputs(added)
        results += [port.get_node().get_friendly_name() for port in added]
        self._places = {
            layer: results.index(port.get_node().get_friendly_name()) for layer, port in outputs.items()
        }
        compiled = core().compile_model(
            model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        )
        self._request = compiled.create_infer_request()

    def infer(self, image: Pixels) -> dict[str, NDArray[np.float32]]:
        """Run one image; see `Probes`."""
        self._request.infer([as_stored(image[None], self._dtype)])
        values = {
            layer: as_output(self._request.get_output_tensor(place).data, nchw=True)
            for layer, place in self._places.items()
        }
        return {
            layer: value / self._factors[layer] if layer in self._factors else value
            for layer, value in values.items()
        }


def _name(value: Any) -> str:
    name: str = value.get_node().get_friendly_name()
    return name


def _shape(operation: Any) -> tuple[int, ...]:
    shape = operation.get_output_partial_shape(0)
    return tuple(int(size) for size in shape.to_shape()) if shape.is_static else ()


def _is_int8(operation: Any) -> bool:
    """Whether weights are stored as INT8, or rounded to at most 256 levels when the model is compiled."""
    kind = operation.get_type_name()
    if kind == "Constant":
        return operation.get_element_type().get_type_name() in ("i8", "u8")
    if kind == "FakeQuantize":
        return _value(operation.input_value(0).get_node()) is not None
    return kind in _RESTORING and _is_int8(operation.input_value(0).get_node())


_RESTORING = ("Convert", "Multiply", "Subtract", "Reshape")


def _value(operation: Any) -> NDArray[np.float32] | None:  # noqa: PLR0911 - one line per kind of operation
    """Compute an operation that depends on constants only; None when it does not."""
    kind = operation.get_type_name()
    if kind == "Constant":
        constant: NDArray[np.float32] = operation.data.astype(np.float32)
        return constant
    if kind not in (*_RESTORING, "FakeQuantize"):
        return None
    values = [_value(value.get_node()) for value in operation.input_values()]
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        return None
    if kind == "Convert":
        return known[0]
    if kind == "Reshape":
        return known[0].reshape(tuple(operation.get_output_shape(0)))
    if kind == "FakeQuantize":
        return _rounded(*known, levels=int(operation.get_attributes()["levels"]))
    result: NDArray[np.float32] = known[0] * known[1] if kind == "Multiply" else known[0] - known[1]
    return result


def _rounded(
    x: NDArray[np.float32],
    in_low: NDArray[np.float32],
    in_high: NDArray[np.float32],
    out_low: NDArray[np.float32],
    out_high: NDArray[np.float32],
    *,
    levels: int,
) -> NDArray[np.float32]:
    share = (np.clip(x, in_low, in_high) - in_low) / np.maximum(in_high - in_low, _SMALLEST)
    result: NDArray[np.float32] = (
        np.round(share * (levels - 1)) / (levels - 1) * (out_high - out_low) + out_low
    )
    return result
