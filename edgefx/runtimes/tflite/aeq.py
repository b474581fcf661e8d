"""Static quantization of a float ``.tflite`` with given activation ranges, by ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.quantize.ranges import Range
from edgefx.runtimes.tflite import flatbuffer
from edgefx.types import Precision

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # the channel axis of the weights
_SMALLEST_STEP = 1e-30  # of a tensor that is always zero
_BIAS_LIMIT = float(1 << 30)  # int32, with room for what the kernel accumulates on top


def quantize(
    model: ModelT,
    ranges: Mapping[str, Range],
    precision: Precision,
    *,
    keep_float: frozenset[int] = frozenset(),
) -> bytes:
    """Quantize a float graph to INT8 weights per channel and integer activations.

    Args:
        model: The float graph.
        ranges: A range for every float activation, by tensor name.
        precision: `Precision.INT8` or `Precision.INT16X8`.
        keep_float: Output tensors of the operations that stay in float.

    Returns:
        The quantized file; its ends are integers (INT8) or 16-bit integers.

    Raises:
        ConversionError: ai-edge-quantizer refused the graph.
    """
    statistics = {**_activation_statistics(model, ranges), **_weight_statistics(model, ranges, precision)}
    return _quantized(model, _recipe(model, precision, keep_float), statistics)


def integer_operations(precision: Precision) -> frozenset[str]:
    """Return the operations that `quantize` puts on integers, as TFLite calls them."""
    from ai_edge_quantizer import default_policy, qtyping
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_NAME_TO_CODE

    policy = json.loads(default_policy.DEFAULT_JSON_POLICY)["ops_per_config"]
    own = policy["static_wi8_ai8" if precision is Precision.INT8 else "static_wi8_ai16"]
    codes = (TFL_OP_NAME_TO_CODE.get(qtyping.TFLOperationName(name)) for name in own)
    return frozenset(flatbuffer.builtin_name(code) for code in codes if code is not None)


def quantize_weights(model: ModelT) -> bytes:
    """Quantize the weights of a float graph to INT8 per channel, symmetrically, and restore them in it.

    Convolutions and matrix products read them behind a DEQUANTIZE, which the runtime computes once.

    Raises:
        ConversionError: ai-edge-quantizer refused the graph.
    """
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.add_weight_only_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=8)
    return _quantized(model, manager.get_quantization_recipe(), None)


def _quantized(model: ModelT, recipe: Any, statistics: dict[str, dict[str, Any]] | None) -> bytes:
    from ai_edge_quantizer import quantizer

    try:
        # Its progress bars go to stderr whatever one asks for, and it warns of a debugging mode of its own.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # an overflowing cast would be a wrong weight
            result = quantizer.Quantizer(flatbuffer.write(model), recipe).quantize(
                statistics, enable_progress_bar=False, enable_progress_report=False
            )
    except Exception as error:
        raise ConversionError(
            f"ai-edge-quantizer refused the graph: {error}",
            hint="--debug shows the whole traceback; the float targets may still work",
        ) from error
    return bytes(result.quantized_model)


def _recipe(model: ModelT, precision: Precision, keep_float: frozenset[int]) -> Any:
    """Return what ai-edge-quantizer shall do: everything in integers but the operations kept in float."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    bits = 8 if precision is Precision.INT8 else 16
    manager.add_static_config(".*", everything, activation_num_bits=bits, weight_num_bits=8)
    for index in sorted(keep_float):
        # An operation is found by the names of its outputs, each followed by a semicolon.
        name = re.escape(model.subgraphs[0].tensors[index].name.decode())
        manager.add_quantization_config(f"^{name};?$", everything, algorithm_key="no_quantize")
    return manager.get_quantization_recipe()


def _activation_statistics(model: ModelT, ranges: Mapping[str, Range]) -> dict[str, dict[str, Any]]:
    ranks = {tensor.name.decode(): len(flatbuffer.shape_of(tensor)) for tensor in model.subgraphs[0].tensors}
    return {
        name: {
            "min": np.full((1,) * ranks[name], span.low, np.float32),
            "max": np.full((1,) * ranks[name], span.high, np.float32),
        }
        for name, span in ranges.items()
    }


def _weight_statistics(
    model: ModelT, ranges: Mapping[str, Range], precision: Precision
) -> dict[str, dict[str, Any]]:
    """Return the per-channel extremes of the weights, widened where the bias would not fit into int32.

    A channel whose weights are (almost) zero after BatchNorm folding is all bias; its scale would be so
    small that bias / scale overflows, and the channel would come out as garbage.
    """
    graph = model.subgraphs[0]
    statistics = {}
    for op in graph.operators:
        axis = _WEIGHTED.get(flatbuffer.op_name(model, op))
        if axis is None or len(op.inputs) < 2:
            continue
        source, tensor = (graph.tensors[index] for index in op.inputs[:2])
        weights = flatbuffer.constant(model, tensor)
        span = ranges.get(source.name.decode())
        if weights is None or span is None:
            continue
        others = tuple(i for i in range(weights.ndim) if i != axis)
        magnitude = np.abs(weights).max(axis=others, keepdims=True)
        bias = flatbuffer.constant(model, graph.tensors[op.inputs[2]]) if _has_bias(op.inputs) else None
        if bias is not None:
            needed = np.abs(bias).reshape(magnitude.shape) * 127 / (_BIAS_LIMIT * _step(span, precision))
            magnitude = np.maximum(magnitude, needed)
        statistics[tensor.name.decode()] = {
            "min": -magnitude.astype(np.float32),
            "max": magnitude.astype(np.float32),
        }
    return statistics


def _step(span: Range, precision: Precision) -> float:
    """Return the step of the grid that spans a range: 8 bit asymmetric or 16 bit symmetric."""
    if precision is Precision.INT16X8:
        step = max(abs(span.low), abs(span.high)) / 32767
    else:
        step = (max(span.high, 0.0) - min(span.low, 0.0)) / 255
    return max(step, _SMALLEST_STEP)


def _has_bias(inputs: NDArray[np.int32] | list[int]) -> bool:
    return len(inputs) > 2 and inputs[2] >= 0
