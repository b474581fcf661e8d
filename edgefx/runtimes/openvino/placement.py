"""Where an OpenVINO model is quantized.

The CPU plugin fuses bias, swish, residual sum and FakeQuantize into the convolution before them, so that
quantizing the inputs of convolutions and of residual sums costs nothing. Between the expansion of a block and
its projection nothing is quantized: depthwise convolution and squeeze-and-excitation compute in floating
point (bf16 where the CPU has it), and the product with the gate is quantized once. That loses half as much as
integers there (mean KL to the float model, V2-B0: 0.0068 -> 0.0040; B0: 0.0105 -> 0.0064) and is 3 to 6 %
faster. (With NNCF's placement, which quantizes the values behind the depthwise convolution as well, leaving
that convolution in float had made the model 10 to 25 % slower.)

Where a profile says what was measured, the convolutions that gain nothing compute in float; see
`without_gain`. On CPUs with AMX, which OpenVINO lets compute in bf16, large maps stay in float altogether;
see `_LARGE`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from edgefx.hardware import Form, Role, RuntimeProfile
from edgefx.runtimes.openvino import artifact
from edgefx.vocabulary import Hardware

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
# Positions of a map from which INT8 is slower than float. AMX multiplies INT8 by 64 input channels at a time,
# bf16 by 32, and the first blocks have 16 to 48: their dense 3 x 3 convolutions take 1.7 to 2.3 times as long
# in INT8, and conversions between them cost as much again. INT8 everywhere / this, over INT8 by NNCF's
# defaults: V2-B0 1.03 / 0.94 with 1 thread, 1.05 / 1.03 with 2; B0 1.01 / 0.98, 1.00 / 1.00. With oneDNN held
# to VNNI: V2-B0 1.07 / 1.39. B5 at 456 x 456, 1 thread: 1.06 / 1.06.
_LARGE: Mapping[Hardware, int] = {Hardware.X86_AMX: 28 * 28}  # tuned: ablations openvino.placement.LARGE


@dataclass(frozen=True)
class Site:
    """A value that is quantized on the way to some of its consumers.

    Attributes:
        source: Name of the operation that computes it.
        consumers: Operations that read it quantized, with the number of their input.
    """

    source: str
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
        and artifact.is_constant(operation.input_value(1).get_node())
        and not artifact.is_constant(operation.input_value(0).get_node())
    ]


def is_depthwise(operation: Any) -> bool:
    """Whether every input channel has filters of its own."""
    if operation.get_type_name() != "GroupConvolution":
        return False
    return int(operation.input_value(1).get_shape()[2]) == 1  # [groups, out, in, kh, kw]


def large(
    model: Any, *, keep_float: Collection[str] = (), hardware: Hardware = Hardware.OTHER
) -> frozenset[str]:
    """Return the names of the operations that compute so large a map that the hardware is faster in float.

    Where no smaller dense convolution would be left for INT8, nothing counts as large.

    Args:
        model: Float.
        keep_float: Canonical layers that are in float anyway.
        hardware: The class of CPU that the artifact is for.
    """
    limit = _LARGE.get(hardware, math.inf)
    found = {
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() != "Result" and math.prod(operation.get_output_shape(0)[2:]) >= limit
    }
    reading = {reader for site in find(model, keep_float=keep_float) for reader, _ in site.consumers}
    dense = {operation.get_friendly_name() for operation in weighted(model)} & reading
    return frozenset(found) if dense - found else frozenset()


def without_gain(model: Any, measured: RuntimeProfile) -> frozenset[str]:
    """Return the names of the operations that compute in float because INT8 would not be faster.

    These are the dense convolutions of forms that do not pay, and the residual sums that no other convolution
    reads: quantizing their inputs is free only where the convolutions around them compute in INT8.

    Args:
        model: Float.
        measured: What was measured of OpenVINO.
    """
    dense = {
        operation.get_friendly_name(): operation
        for operation in weighted(model)
        if operation.get_type_name() == "Convolution"
    }
    slow = {name for name, operation in dense.items() if not measured.pays(form_of(operation))}
    sums = {
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if _is_residual_sum(operation)
        and not any(reader in dense and reader not in slow for reader in _readers(operation))
    }
    return frozenset(slow | sums)


def form_of(operation: Any) -> Form:
    """Return a dense convolution in the terms of hardware profiles."""
    shape, weights = operation.get_input_shape(0), operation.input_value(1).get_shape()
    source = operation.input_value(0).get_node()
    role = Role.PLAIN
    if source.get_type_name() == "Multiply" and any(
        list(value.get_shape()[2:]) == [1, 1] for value in source.input_values()
    ):
        role = Role.GATED
    elif "Swish" in _behind(operation):
        role = Role.SWISH
    return Form(
        role=role,
        kernel=max(weights[2:]),
        stride=max(operation.get_attributes()["strides"]),
        inputs=weights[1],
        outputs=weights[0],
        height=shape[2],
        width=(*shape[3:], 1)[0],
    )


def _behind(operation: Any) -> list[str]:
    """Return the types of the operations that read what a convolution makes, past its bias."""
    found = []
    for reader in operation.output(0).get_target_inputs():
        node = reader.get_node()
        constant = node.get_type_name() == "Add" and any(
            artifact.is_constant(value.get_node()) for value in node.input_values()
        )
        found += _behind(node) if constant else [str(node.get_type_name())]
    return found


def _readers(operation: Any) -> list[str]:
    return [str(reader.get_node().get_friendly_name()) for reader in operation.output(0).get_target_inputs()]


def find(model: Any, *, keep_float: Collection[str] = (), in_float: Collection[str] = ()) -> tuple[Site, ...]:
    """Choose what is quantized.

    What reads the image or one position alone (squeeze-and-excitation, the classifier, dense layers of a
    flattened map, convolutions of a map of 1 x 1) stays in floating point: it takes no longer, since it reads
    each of its weights, which are INT8 all the same, just once. The image has 256 levels of its own, which
    fall between those of a range around zero; and no later layer, and no other position, evens out the errors
    of a vector.

    Args:
        model: Float.
        keep_float: Canonical layers that read their inputs in floating point.
        in_float: Operations that do.
    """
    consumers: dict[str, list[tuple[str, int]]] = {}
    computing = {operation.get_friendly_name(): operation for operation in weighted(model)}
    for operation in model.get_ordered_ops():
        if layer_of(operation) in keep_float or operation.get_friendly_name() in in_float:
            continue
        if operation.get_friendly_name() in computing:
            exempt = is_depthwise(operation) or reads_image(operation) or _reads_vector(operation)
            inputs: tuple[int, ...] = () if exempt else (0,)
        else:
            inputs = (0, 1) if _is_residual_sum(operation) and not _reads_vector(operation) else ()
        for index in inputs:
            source = operation.input_value(index).get_node().get_friendly_name()
            consumers.setdefault(source, []).append((operation.get_friendly_name(), index))
    return tuple(Site(source=source, consumers=tuple(readers)) for source, readers in consumers.items())


def reads_image(operation: Any) -> bool:
    """Whether an operation reads the image, at most scaled."""
    while True:
        data = [value.get_node() for value in operation.input_values()]
        data = [source for source in data if not artifact.is_constant(source)]
        if len(data) != 1 or data[0].get_type_name() in _WEIGHTED:
            return False
        operation = data[0]
        if operation.get_type_name() == "Parameter":
            return True


def _reads_vector(operation: Any) -> bool:
    """Whether an operation reads one position alone, wherever its channels are."""
    shape = operation.get_input_shape(0)
    return bool(math.prod(shape) == max(shape))


def _is_residual_sum(operation: Any) -> bool:
    values = operation.input_values()
    return (
        operation.get_type_name() == "Add"
        and len(values[0].get_shape()) == 4
        and list(values[0].get_shape()) == list(values[1].get_shape())
        and not any(artifact.is_constant(value.get_node()) for value in values)
    )
