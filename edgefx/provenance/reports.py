"""``report.json`` of a finished run, read back."""

from __future__ import annotations

import json
from pathlib import Path

from edgefx import harmless
from edgefx.errors import UsageError
from edgefx.provenance import matrices, stored
from edgefx.results import RunReport
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import from_json

NAME = stored.NAMES[0]


def read(folder: Path) -> tuple[RunReport, bytes]:
    """Read a run's report; returns it, and the file's bytes.

    Raises:
        UsageError: There is none, or it is none of this version.
    """
    path = folder / NAME
    if not path.is_file() and (folder / matrices.NAME).is_file():
        raise UsageError(f"{folder} holds the runs of a matrix", hint="give the folder of one of them")
    try:
        content = read_bytes(path, limit_bytes=stored.MOST_BYTES)
        document = json.loads(content)
        if document["schema_version"] != stored.VERSION:
            raise UsageError(
                f"{path}: a report of version {harmless.line(str(document['schema_version']))},"
                f" this edgefx reads version {stored.VERSION}",
                hint="use the edgefx that wrote it",
            )
        return from_json(RunReport, document), content
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="give the output folder of a run"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: no report of edgefx", hint="give the output folder of a run, such as build/"
        ) from error
