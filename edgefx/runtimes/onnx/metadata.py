"""Metadata of an ``.onnx`` file: entries of ``metadata_props``, appended to the file.

Concatenated protobuf messages are one message whose repeated fields are joined, so that what was in the file
stays where it was, byte for byte. Pixels are stated as the ONNX specification does (``docs/MetadataProps.md``
of its repository).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.runtimes import metadata as documents
from edgefx.storage.atomic import replacing
from edgefx.types import ArtifactMetadata, ForeignMetadata

if TYPE_CHECKING:
    import onnx

KEY = "edgefx.metadata"
_METADATA_PROPS = 14  # the number of the field in ModelProto; each entry has key 1 and value 2


def embed(path: Path, metadata: ArtifactMetadata) -> None:
    """Append an artifact's metadata to its file.

    Raises:
        OSError: The file cannot be written.
    """
    entries = {
        KEY: documents.dumps(metadata),
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    content = b"".join(
        _field(_METADATA_PROPS, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in entries.items()
    )
    with replacing(path) as made:
        shutil.copyfile(path, made)
        with made.open("ab") as stream:
            stream.write(content)


def read(model: onnx.ModelProto, path: Path) -> ArtifactMetadata | None:
    """Return what a model says of itself; None where it says nothing.

    Raises:
        ArtifactError: What it says is damaged.
    """
    found = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    return None if found is None else documents.loads(found, path)


# What the specification calls the values of pixels -> mean and deviation of raw ones.
_RANGES = {
    "NominalRange_0_255": (0.0, 1.0),
    "Normalized_0_1": (0.0, 255.0),
    "Normalized_1_1": (127.5, 127.5),
}


def read_foreign(model: onnx.ModelProto) -> ForeignMetadata:
    """Return what a model of other origin says of itself in the specification's own entries."""
    stated = {entry.key: entry.value for entry in model.metadata_props}
    found = _RANGES.get(stated.get("Image.NominalPixelRange", ""))
    return ForeignMetadata() if found is None else ForeignMetadata(mean=found[:1], deviation=found[1:])


def _field(number: int, content: bytes) -> bytes:
    """Encode a protobuf field of bytes, a string or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
