"""Where an ONNX model says that its weights are: files beside it, and nowhere else.

The model's author chooses the path, and whoever opens the model reads it: outside the model's folder it could
be any file of the user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from edgefx.errors import ArtifactError
from edgefx.storage.regular import open_regular

if TYPE_CHECKING:
    import onnx


def files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the files that hold weights of the model `path`, sorted.

    Raises:
        ArtifactError: One is missing, no regular file, or not inside the model's folder, symbolic links
            followed.
    """
    found = []
    for location in sorted({place for tensor in _tensors(model) for place in _locations(tensor)}):
        file = path.parent / location
        if not _is_inside(location, file, path.parent):
            raise ArtifactError(
                f"{path}: its weights are said to be in {location!r}, outside the model's folder",
                hint="such a path could name any file of yours; keep the data files beside the .onnx file",
            )
        try:
            open_regular(file).close()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "which is missing" if missing else f"which cannot be read: {error.strerror}"
            raise ArtifactError(
                f"{path}: its weights are in {location!r}, {reason}",
                hint="keep the .onnx file and its data files in one folder",
            ) from error
        found.append(file)
    return found


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values are in another file."""
    from onnx import TensorProto

    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _is_inside(location: str, file: Path, folder: Path) -> bool:
    foreign = PureWindowsPath(location)  # knows both separators, and drives
    if not location or "\0" in location or foreign.anchor or ".." in foreign.parts:
        return False
    real = os.path.realpath(folder)
    return os.path.realpath(file).startswith(real.rstrip(os.sep) + os.sep)


def _locations(tensor: onnx.TensorProto) -> list[str]:
    if not is_external(tensor):
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model, those of attributes, subgraphs and functions too."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [attribute.g, *attribute.graphs]
