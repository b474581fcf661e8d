"""What an artifact says of itself, as one JSON document: the same in every file format.

The formats' own fields for class names and pixels are written beside it (`tflite.metadata`, `onnx.metadata`,
`openvino.metadata`), for tools that know nothing of edgefx. The document is what is read back. Writing takes
the standard library only, so that an artifact from the cache is finished without its runtime.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgefx import harmless
from edgefx.errors import ArtifactError
from edgefx.storage import serde
from edgefx.storage.serde import from_json, to_json
from edgefx.types import ArtifactMetadata

MOST_BYTES = 64 * 10**6  # of a document that is read; 100,000 names of 200 signs take less


def dumps(metadata: ArtifactMetadata) -> str:
    """Return the document, in ASCII and on one line: no format restricts such a text."""
    return json.dumps(to_json(metadata), separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes, path: Path) -> ArtifactMetadata:
    """Read a document that may come from anywhere.

    Args:
        text: The document.
        path: The artifact, for messages.

    Raises:
        ArtifactError: It is no such document, or too large to be one.
    """
    if len(text) > MOST_BYTES:
        raise ArtifactError(
            f"{path}: its metadata of edgefx is larger than {MOST_BYTES / 1e6:.0f} MB",
            hint="convert it again",
        )
    try:
        found = from_json(ArtifactMetadata, serde.loads(text))
    except ValueError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(
            f"{path}: its metadata of edgefx is damaged: {harmless.line(reason)}", hint="convert it again"
        ) from error
    tensors = (found.input, found.output, *(one.tensor for one in found.outputs))
    if not all(tensor.shape for tensor in tensors):
        raise ArtifactError(
            f"{path}: its metadata of edgefx is damaged: a tensor without axes", hint="convert it again"
        )
    return replace(found, class_names=clean(found.class_names))


def clean(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return class names as artifacts hold them: one line each, of bounded length, nothing that acts."""
    return tuple(harmless.line(name) for name in class_names)
