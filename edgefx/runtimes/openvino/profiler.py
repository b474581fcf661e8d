"""What OpenVINO really executed of a model: its counters, and the execution graph that names precisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefx.execution import CONVERSION, Executed, ExecutedOperation, layer_named, with_neighbours

_CONVERSIONS = ("Reorder", "Convert", "FakeQuantize")
_PRECISIONS = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i8": "int8", "u8": "int8",
}  # fmt: skip


def executed(path: Path, raw: Mapping[str, Any]) -> Executed:
    """Read what `collect` found of a model.

    Args:
        path: Not used: OpenVINO tells all.
        raw: See `collect.collect`.
    """
    del path
    graph = raw["graph"]
    return Executed(
        operations=with_neighbours(_operation(node, graph) for node in raw["nodes"]),
        inference_ms=raw["total_us"] / 1e3,
        runs=raw["runs"],
        method="OpenVINO's counters, in whole microseconds; mean over all runs, so that whatever else the "
        "machine does counts too",
    )


def _operation(node: Mapping[str, Any], graph: Mapping[str, list[str]]) -> ExecutedOperation:
    name: str = node["name"]
    precision, kind = graph.get(name, ["unknown", str(node["kind"])])
    return ExecutedOperation(
        name=name,
        kind=kind,
        precision=CONVERSION if kind in _CONVERSIONS else _PRECISIONS.get(precision, precision),
        ms=node["us"] / 1e3,
        layer=layer_named(name),
        kernel=node["kernel"],
    )
