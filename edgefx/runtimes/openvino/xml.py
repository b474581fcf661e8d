"""What an OpenVINO ``.xml`` of unknown origin must be before any parser sees it: plain XML, without a DTD."""

from __future__ import annotations

import re
from pathlib import Path

from edgefx.errors import ArtifactError
from edgefx.storage.regular import open_regular, read_bytes

_MOST_BYTES = 256 * 10**6  # the graph of EfficientNet-B7 has 3 MB; weights are in the .bin
# Everything that begins with "<!" but comments and CDATA belongs to a document type definition. Entities are
# declared there: nine lines of them expand to gigabytes, and external ones read any file or address.
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


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
