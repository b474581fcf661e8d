"""What an OpenVINO ``.xml`` of unknown origin must be before OpenVINO sees it.

Plain XML, without a DTD, and with constants that are as large as their shapes say: OpenVINO takes their sizes
from one place and their shapes from another, and ends the process where the two do not fit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from edgefx.errors import ArtifactError
from edgefx.harmless import line
from edgefx.storage.regular import open_regular, read_bytes

_MOST_BYTES = 256 * 10**6  # the graph of EfficientNet-B7 has 3 MB; weights are in the .bin
# Everything that begins with "<!" but comments and CDATA belongs to a document type definition. Entities are
# declared there: nine lines of them expand to gigabytes, and external ones read any file or address.
_BITS = re.compile(r"\d+")  # of a type: f32, i64, u4
_MOST_EMPTY = 8
_DECLARATION = re.compile(rb"<!(?!--|\[CDATA\[)")


def check(path: Path) -> None:
    """Refuse a pair of files that must not reach an XML parser.

    Raises:
        ArtifactError: A file of the pair is missing or no regular file; or the graph is not UTF-8 (another
            encoding would hide what is looked for), or has a document type definition.
    """
    try:
        content = read_bytes(path, limit_bytes=_MOST_BYTES)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="give the path of an OpenVINO .xml file") from error
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read: {error.strerror}", hint="give the path of an OpenVINO .xml file"
        ) from error
    weights = path.with_suffix(".bin")
    try:
        open_regular(weights).close()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "are missing" if missing else f"cannot be read: {error.strerror}"
        raise ArtifactError(
            f"{path}: its weights {weights.name} {reason}",
            hint="an OpenVINO model is two files with the same stem; keep them together",
        ) from error
    if b"\0" in content or not _is_utf8(content):
        raise ArtifactError(
            f"{path}: not a text in UTF-8",
            hint="the file is damaged or no OpenVINO IR; convert the model again",
        )
    if _DECLARATION.search(content):
        raise ArtifactError(
            f"{path}: holds a document type definition, which no OpenVINO model has",
            hint="entities declared there could fill the memory or read other files; convert the model again",
        )


def check_constants(path: Path) -> None:
    """Refuse constants of another size than their shape and type make.

    Args:
        path: A file that `check` has let pass.

    Raises:
        ArtifactError: Names the constant.
    """
    import xml.etree.ElementTree as ET

    try:
        for _, layer in ET.iterparse(path):  # noqa: S314 - without a DTD: checked
            if layer.tag != "layer":
                continue
            data = layer.find("data") if layer.get("type") == "Const" else None
            if data is not None and not _fits(data.attrib):
                raise ArtifactError(
                    f"{path}: the constant '{line(layer.get('name', ''))}' has another size than its shape",
                    hint="the file is damaged; convert the model again",
                )
            layer.clear()  # a large graph is not kept
    except (ET.ParseError, ValueError) as error:
        raise ArtifactError(
            f"{path}: no OpenVINO IR: {line(str(error))}", hint="the file is damaged; convert the model again"
        ) from error


def _fits(data: Mapping[str, str]) -> bool:
    bits = _BITS.search(data.get("element_type", ""))
    if bits is None:  # a type whose size is not in its name: a text, a boolean
        return True
    shape = [int(size) for size in data.get("shape", "").split(",") if size.strip()]
    size = int(data.get("size", "0"))
    # OpenVINO writes one element where there is none.
    return size == -(-math.prod(shape) * int(bits[0]) // 8) or (shape == [0] and size <= _MOST_EMPTY)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
