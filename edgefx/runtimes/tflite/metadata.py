"""Metadata of a ``.tflite``: TFLite Model Metadata for the Task Library, MediaPipe and Android Studio.

Metadata are named buffers of the file. ``TFLITE_METADATA`` is a flatbuffer of its own
(``tensorflow_lite_support/metadata/metadata_schema.fbs`` in tensorflow/tflite-support); the class names are
``labels.txt`` in a zip archive behind the model, as the official writer leaves them. ``edgefx`` is our
document.

The model is not written anew. Offsets in a flatbuffer are relative and point forward, so that a new root
table in front of the old file can refer to all that the old root table refers to: the old file lies in the
new one as it was, byte for byte. Only the list of buffers is made again, with the new ones at its end.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgefx.errors import ArtifactError, ConversionError
from edgefx.runtimes import metadata as documents
from edgefx.runtimes.tflite import tables
from edgefx.runtimes.tflite.tables import Bytes, Number, Old, Table, Value
from edgefx.storage.atomic import replacing
from edgefx.storage.regular import open_regular
from edgefx.types import ArtifactMetadata, OutputKind, OutputMetadata, TensorInfo
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_KEY = "edgefx"
STANDARD = "TFLITE_METADATA"
LABELS = "labels.txt"
# Fields of the tables Model, Metadata and Buffer in TensorFlow's schema.fbs.
_VERSION, _BUFFERS, _METADATA, _MODEL_FIELDS = 0, 4, 6, 10
_NAME, _BUFFER = 0, 1
_DATA, _OFFSET = 0, 1
_ALIGNMENT = 64  # of the old file in the new one; what a flatbuffer asks for is 16 at most


def embed(path: Path, metadata: ArtifactMetadata) -> None:
    """Write an artifact's metadata into its file.

    Raises:
        ConversionError: The file is laid out as edgefx does not write it.
        OSError: The file cannot be written.
    """
    buffers = {STANDARD: standard(metadata), _KEY: documents.dumps(metadata).encode()}
    with open_regular(path) as old, replacing(path) as made:
        with mmap.mmap(old.fileno(), 0, access=mmap.ACCESS_READ) as content:
            front = _front(content, buffers, path)
        with made.open("x+b") as stream:
            stream.write(front)
            shutil.copyfileobj(old, stream, 1 << 20)
            if metadata.class_names:
                _append_labels(stream, metadata.class_names)


def read(path: Path) -> ArtifactMetadata | None:
    """Return what an artifact says of itself; None where it says nothing.

    Raises:
        ArtifactError: The file, or what it says, is damaged.
    """
    try:
        with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = entry(content, _KEY)
    except (struct.error, ValueError) as error:  # mmap refuses an empty file
        raise ArtifactError(
            f"{path}: damaged or truncated TFLite file", hint="convert or copy it again"
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror})", hint="give the path of a .tflite file"
        ) from error
    return None if found is None else documents.loads(found, path)


def remove(model: ModelT) -> None:
    """Take the metadata out of a parsed model; the archive behind a file is not part of it."""
    for entry in model.metadata or ():
        if entry.name in (STANDARD.encode(), _KEY.encode()):
            model.buffers[entry.buffer].data = None
            entry.name = None
    model.metadata = [entry for entry in model.metadata or () if entry.name is not None]


# ---------------------------------------- TFLite's own form


def standard(metadata: ArtifactMetadata) -> bytes:
    """Return the metadata as TFLite's own tools read them: a flatbuffer with the root table ModelMetadata."""
    tables_of_outputs: list[Value] = [
        _output(one, metadata) for one in metadata.outputs or (_only_output(metadata),)
    ]
    return tables.flatbuffer(
        b"M001",
        {
            0: metadata.model,
            1: f"{metadata.model}, {_kind(metadata)}; made by edgefx {metadata.edgefx} for"
            f" {metadata.target} from a model with SHA-256 {metadata.model_sha256}",
            3: [{0: metadata.model, 2: [_image(metadata)], 3: tables_of_outputs}],  # SubGraphMetadata
            7: "1.0.0",  # the first version of the schema has all of these fields
        },
    )


def _only_output(metadata: ArtifactMetadata) -> OutputMetadata:
    return OutputMetadata(tensor=metadata.output, output_kind=metadata.output_kind, task=metadata.task)


def _kind(metadata: ArtifactMetadata) -> str:
    if not metadata.outputs:
        return "an image classifier"
    return f"of images, with {len(metadata.outputs)} outputs"


def _output(output: OutputMetadata, metadata: ArtifactMetadata) -> Table:
    """Return the TensorMetadata of an output."""
    name = output.tensor.name
    meaning = f"{output.output_kind}, one per class"
    if metadata.outputs:
        meaning = f"{output.output_kind} ({output.task})"
    if (function := ScoreFunction.of(name)) is not None:
        meaning += f"; the {function} of them, which is not in the model, is the scores"
    scores: Table = {0: name, 1: meaning}
    scores[3] = {0: Number("B", 1), 1: {}}  # Content: FeatureProperties
    if output.output_kind == OutputKind.PROBABILITIES:
        scores[5] = {0: (1.0,), 1: (0.0,)}  # Stats: max, min
    if metadata.class_names and name == metadata.output.name:  # AssociatedFile, type TENSOR_AXIS_LABELS
        scores[6] = [{0: LABELS, 1: "class names, in the order of the scores", 2: Number("B", 2)}]
    return scores


def _image(metadata: ArtifactMetadata) -> Table:
    """Return the TensorMetadata of the input. Pixels are taken as they are: mean 0, deviation 1."""
    low, high = metadata.pixel_range
    height, width = _size(metadata.input)
    size: Table = {0: Number("I", width), 1: Number("I", height)}
    return {
        0: metadata.input.name,
        1: f"{metadata.color} image, values {low:g} to {high:g}",
        3: {0: Number("B", 2), 1: {0: Number("B", 1), 1: size}},  # Content: ImageProperties, RGB
        4: [{0: Number("B", 1), 1: {0: (0.0,), 1: (1.0,)}}],  # ProcessUnit: NormalizationOptions
        5: {0: (high,), 1: (low,)},
    }


def _size(image: TensorInfo) -> tuple[int, int]:
    return image.shape[1], image.shape[2]


def _append_labels(stream: IO[bytes], class_names: tuple[str, ...]) -> None:
    """Append the archive with the class names; the same names give the same bytes on every system."""
    entry = zipfile.ZipInfo(LABELS)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(entry, "\n".join(class_names) + "\n")


# ---------------------------------------- in the model


def _front(content: mmap.mmap, buffers: dict[str, bytes], path: Path) -> bytes:
    """Return what stands in front of the old file: its new root table, and the new buffers.

    Raises:
        ConversionError: The file is laid out as edgefx does not write it.
    """
    fields = tables.fields(content, tables.follow(content, 0))
    old = _elements(content, fields.get(_BUFFERS))
    offsets = [tables.fields(content, place).get(_OFFSET) for place in old]
    if max(fields) >= _MODEL_FIELDS or any(tables.number(content, "Q", place) > 1 for place in offsets):
        raise ConversionError(
            f"{path}: buffers lie outside of the table, or it has fields that edgefx does not know",
            hint="please report it, with the version of the converter",
        )
    root: Table = {
        number: Number("I", tables.number(content, "I", place))
        if number == _VERSION
        else Old(tables.follow(content, place))
        for number, place in fields.items()
    }
    listed: list[Value] = [Old(place) for place in old]
    entries: list[Value] = [Old(place) for place in _elements(content, fields.get(_METADATA))]
    for name, data in buffers.items():
        entries.append({_NAME: name, _BUFFER: Number("I", len(listed))})
        listed.append({_DATA: Bytes(data)})
    root |= {_BUFFERS: listed, _METADATA: entries}
    return tables.flatbuffer(b"TFL3", root, alignment=_ALIGNMENT)


def entry(content: mmap.mmap, name: str) -> bytes | None:
    """Return the metadata of a name; None where there is none.

    Raises:
        struct.error: An offset points out of the file.
    """
    fields = tables.fields(content, tables.follow(content, 0))
    buffers = _elements(content, fields.get(_BUFFERS))
    for place in _elements(content, fields.get(_METADATA)):
        entry = tables.fields(content, place)
        if _NAME not in entry or tables.vector(content, entry[_NAME]) != name.encode():
            continue
        number = tables.number(content, "I", entry.get(_BUFFER))
        data = tables.fields(content, buffers[number]).get(_DATA) if number < len(buffers) else None
        return b"" if data is None else tables.vector(content, data)
    return None


def _elements(content: mmap.mmap, place: int | None) -> list[int]:
    """Return where the tables of a vector of tables are; none where the field is absent."""
    return [] if place is None else tables.elements(content, place)
