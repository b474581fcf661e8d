"""What ONNX Runtime really executed of a file, from its own profile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefx.execution import CONVERSION, Executed, ExecutedOperation, layer_named, with_neighbours

_CONVERSIONS = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput",
)  # fmt: skip
_INSERTED = re.compile(r"_token_\d+$")  # what ONNX Runtime makes names different with
_SUFFIXES = re.compile(r"(_nchwc|_token_\d+)+$")
_INTEGER = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
_TYPES = {"float": "float32", "float16": "float16", "double": "float64", "uint8": "int8", "int8": "int8"}


def executed(path: Path, raw: Mapping[str, Any]) -> Executed:
    """Read what `collect` found of a file.

    Args:
        path: Not used: ONNX Runtime tells all.
        raw: See `collect.collect`.
    """
    del path
    return Executed(
        operations=with_neighbours(_operation(node) for node in raw["nodes"]),
        inference_ms=raw["total_us"] / 1e3,
        runs=raw["runs"],
        method="ONNX Runtime's profiler, in whole microseconds; mean of the middle half of each operation's "
        "times",
    )


def _operation(node: Mapping[str, Any]) -> ExecutedOperation:
    name, kind = _SUFFIXES.sub("", node["name"]), node["op"]
    is_inserted = kind == "Transpose" and _INSERTED.search(node["name"]) is not None
    return ExecutedOperation(
        name=name,
        kind=kind,
        precision=CONVERSION if is_inserted else _precision(kind, node["inputs"]),
        ms=node["us"] / 1e3,
        layer=layer_named(name),
    )


def _precision(kind: str, inputs: Sequence[str]) -> str:
    if kind in _CONVERSIONS:
        return CONVERSION
    if kind.startswith(_INTEGER):
        return "int8"
    first = inputs[0] if inputs else "unknown"
    return _TYPES.get(first, first)
