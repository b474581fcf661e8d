"""Where an OpenVINO model is quantized.

The CPU plugin fuses bias, swish, residual sum and FakeQuantize into the convolution before them. So inputs of
convolutions and of residual sums are quantized, which costs nothing, and what follows a depthwise convolution
is not: its output goes through squeeze-and-excitation in floating point and is quantized once, as the product
with the gate. Quantizing it there too, as NNCF does, is no faster.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from edgefx.targets import openvino_ir

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
_POOLS = ("ReduceMean", "AvgPool", "AdaptiveAvgPool")


@dataclass(frozen=True)
class Site:
    """A value that is quantized on the way to some of its consumers.

    Attributes:
        source: Name of the operation that computes it.
        per_channel: A range for each channel; only depthwise convolutions can compute with that.
        consumers: Operations that read it quantized, with the number of their input.
    """

    source: str
    per_channel: bool
    consumers: tuple[tuple[str, int], ...]


def layer_of(operation: Any) -> str:
    """Return the canonical layer that an operation belongs to."""
    return str(operation.get_friendly_name()).split("/")[0]


def weighted(model: Any) -> list[Any]:
    """Return convolutions and matrix products with stored weights, in order."""
    return [
        operation
        for operation in model.get_ordered_ops()
        if operation.get_type_name() in _WEIGHTED
        and openvino_ir.is_constant(operation.input_value(1).get_node())
        and not openvino_ir.is_constant(operation.input_value(0).get_node())
    ]


def is_depthwise(operation: Any) -> bool:
    """Whether every input channel has filters of its own."""
    if operation.get_type_name() != "GroupConvolution":
        return False
    return int(operation.input_value(1).get_shape()[2]) == 1  # [groups, out, in, kh, kw]


def find(model: Any, *, keep_float: Collection[str]) -> tuple[Site, ...]:
    """Choose what is quantized.

    What computes on pooled values (squeeze-and-excitation, the classifier) stays in floating point: it takes
    no time, and the classifier's input is the one tensor whose errors no later layer evens out.

    Args:
        model: Float.
        keep_float: Canonical layers that read their inputs in floating point.
    """
    consumers: dict[tuple[str, bool], list[tuple[str, int]]] = {}
    computing = {operation.get_friendly_name(): operation for operation in weighted(model)}
    for operation in model.get_ordered_ops():
        if layer_of(operation) in keep_float:
            continue
        if operation.get_friendly_name() in computing:
            inputs: tuple[int, ...] = () if _reads_pooled(operation) else (0,)
        else:
            inputs = (0, 1) if _is_residual_sum(operation) else ()
        for index in inputs:
            source = operation.input_value(index).get_node().get_friendly_name()
            key = source, is_depthwise(operation)
            consumers.setdefault(key, []).append((operation.get_friendly_name(), index))
    return tuple(
        Site(source=source, per_channel=per_channel, consumers=tuple(readers))
        for (source, per_channel), readers in consumers.items()
    )


def _reads_pooled(operation: Any) -> bool:
    """Whether an operation reads means over the whole image, straight or through others of its kind."""
    while True:
        data = [value.get_node() for value in operation.input_values()]
        data = [source for source in data if not openvino_ir.is_constant(source)]
        if len(data) != 1 or data[0].get_type_name() == "Parameter":
            return False
        operation = data[0]
        if operation.get_type_name() in _POOLS:
            return all(size == 1 for size in operation.get_output_shape(0)[2:])


def _is_residual_sum(operation: Any) -> bool:
    values = operation.input_values()
    return (
        operation.get_type_name() == "Add"
        and len(values[0].get_shape()) == 4
        and list(values[0].get_shape()) == list(values[1].get_shape())
        and not any(openvino_ir.is_constant(value.get_node()) for value in values)
    )
