"""What a classifier's last layer with weights reads: the features of an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgefx.runtimes.openvino import artifact
from edgefx.runtimes.session import is_vector

_WEIGHTED = ("MatMul", "Convolution")


def write(path: Path, out: Path) -> bool:
    """Write a copy of a file that ends in them; see `Runtime.write_features`."""
    import openvino as ov

    model = artifact.read(path)
    head = next((one for one in _backwards(model) if one.get_type_name() in _WEIGHTED), None)
    if head is None:
        return False
    features = head.input_value(0)
    shape = features.get_partial_shape()
    if shape.is_dynamic or not is_vector(list(features.get_shape())):
        return False
    features.get_tensor().set_names({"features"})
    ov.save_model(ov.Model([features], model.get_parameters(), "features"), out, compress_to_fp16=False)
    return True


def _backwards(model: Any) -> Iterator[Any]:
    """Yield the operations before the output, the nearest first."""
    waiting, seen = list(model.get_results())[:1], set[str]()
    while waiting:
        operation = waiting.pop(0)
        if operation.get_friendly_name() in seen:
            continue
        seen.add(operation.get_friendly_name())
        yield operation
        waiting += [value.get_node() for value in operation.input_values()]
