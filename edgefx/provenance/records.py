"""JSON files that say their version: read as if anyone had written them, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefx.errors import UsageError
from edgefx.harmless import line
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import loads

REPORT_VERSION = 1  # of report.json and matrix.json
CARD_SUFFIX = ".card.json"  # of result cards; here, since nothing else is needed to tell that there is one
MOST_BYTES = 256 * 10**6  # a hundred times what a run with 50,000 images writes


def load(
    file: Path, *, what: str, version: int, most_bytes: int = MOST_BYTES, key: str = "schema_version"
) -> Any:
    """Read a file of a version that this edgefx knows.

    Args:
        file: The file.
        what: What it should be, such as "lock file".
        version: Of what this edgefx writes.
        most_bytes: A longer file is refused.
        key: What the file calls its version.

    Raises:
        UsageError: It is of another version.
        OSError: It cannot be read; for `refused`, as what `parse` raises is.
    """
    return parse(read_bytes(file, limit_bytes=most_bytes), file, what=what, version=version, key=key)


def parse(content: bytes, file: Path, *, what: str, version: int, key: str = "schema_version") -> Any:
    """Take apart what a file holds; see `load`.

    Raises:
        UsageError: It is of another version.
        ValueError: It is no JSON.
        KeyError: It has no version.
        TypeError: It is no object.
    """
    document = loads(content)
    found = document[key]
    if found != version:
        raise UsageError(
            f"{file}: a {what} of version {line(str(found), most=40)}, this edgefx reads version {version}",
            hint="use the edgefx that wrote it, or make it again",
        )
    return document


@contextmanager
def refused(file: Path, *, what: str, hint: str) -> Iterator[None]:
    """Turn what reading a file, and taking apart what it holds, raises into an error that names it.

    Raises:
        UsageError: The file cannot be read, or is not what it should be.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"{file}: no {what} of edgefx: {line(reason.partition(chr(10))[0])}", hint=hint
        ) from error
