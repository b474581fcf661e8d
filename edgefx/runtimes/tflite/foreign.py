"""What a ``.tflite`` of other origin says of itself: TFLite Model Metadata.

The schema is ``tensorflow_lite_support/metadata/metadata_schema.fbs`` in tensorflow/tflite-support. The names
of the classes are a text file in a zip archive behind the model, as the official writer leaves them.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from pathlib import Path

from edgefx.errors import ArtifactError
from edgefx.runtimes import metadata as documents
from edgefx.runtimes.tflite import metadata, tables
from edgefx.storage.regular import open_regular
from edgefx.types import ForeignMetadata

# Fields of the schema's tables ModelMetadata, SubGraphMetadata, TensorMetadata, ProcessUnit,
# NormalizationOptions and AssociatedFile.
_SUBGRAPHS = 3
_INPUTS, _OUTPUTS = 2, 3
_PROCESS_UNITS, _FILES = 4, 6
_OPTIONS_TYPE, _OPTIONS = 0, 1
_NORMALIZATION = 1
_MEAN, _DEVIATION = 0, 1
_FILE_NAME, _FILE_TYPE = 0, 2
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_MOST_BYTES = 8 * 10**6  # of the names of classes
_MOST_CHANNELS = 4


def read(path: Path) -> ForeignMetadata:
    """Return names of classes and normalization; nothing of a file without metadata.

    Raises:
        ArtifactError: The metadata are damaged.
    """
    try:
        with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = metadata.entry(content, metadata.STANDARD)
        return ForeignMetadata() if found is None else _parsed(found, path)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: its metadata are damaged", hint="write them again") from error
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror})", hint="give the path of a .tflite file"
        ) from error


def _parsed(content: bytes, path: Path) -> ForeignMetadata:
    fields = tables.fields(content, tables.follow(content, 0))
    if _SUBGRAPHS not in fields:
        return ForeignMetadata()
    graph = tables.fields(content, tables.elements(content, fields[_SUBGRAPHS])[0])
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    for unit in _all(content, graph, _INPUTS, _PROCESS_UNITS):
        if tables.number(content, "B", unit.get(_OPTIONS_TYPE)) != _NORMALIZATION or _OPTIONS not in unit:
            continue
        options = tables.fields(content, tables.follow(content, unit[_OPTIONS]))
        mean, deviation = (_floats(content, options.get(field)) for field in (_MEAN, _DEVIATION))
    names: tuple[str, ...] = ()
    for file in _all(content, graph, _OUTPUTS, _FILES):
        is_labels = tables.number(content, "B", file.get(_FILE_TYPE)) in (_AXIS_LABELS, _VALUE_LABELS)
        if is_labels and _FILE_NAME in file and not names:
            names = _names(path, tables.vector(content, file[_FILE_NAME]).decode())
    is_usable = bool(mean) and all(map(math.isfinite, mean)) and all(one > 0 for one in deviation or (0,))
    if not is_usable:
        mean = deviation = ()
    return ForeignMetadata(class_names=names, mean=mean, deviation=deviation)


def _all(content: bytes, graph: dict[int, int], side: int, field: int) -> list[dict[int, int]]:
    """Return the tables in a field of all inputs or outputs."""
    if side not in graph:
        return []
    ends = [tables.fields(content, place) for place in tables.elements(content, graph[side])]
    places = [place for end in ends if field in end for place in tables.elements(content, end[field])]
    return [tables.fields(content, place) for place in places]


def _floats(content: bytes, place: int | None) -> tuple[float, ...]:
    if place is None:
        return ()
    begin = tables.follow(content, place)
    count = min(tables.number(content, "I", begin), _MOST_CHANNELS)
    return tuple(struct.unpack_from(f"<{count}f", content, begin + 4))


def _names(path: Path, file: str) -> tuple[str, ...]:
    """Read the names of classes from the archive behind the model; none where there is no such file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(file) as stream:
            text = stream.read(_MOST_BYTES + 1)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return ()
    if len(text) > _MOST_BYTES:
        raise ArtifactError(
            f"{path}: its names of classes take more than {_MOST_BYTES / 1e6:.0f} MB", hint="write them again"
        )
    lines = text.decode("utf-8", errors="replace").rstrip("\r\n").split("\n")
    return documents.clean(tuple(line.rstrip("\r") for line in lines))
