"""``report.json`` of a finished run, read back."""

from __future__ import annotations

from pathlib import Path

from edgefx import harmless
from edgefx.errors import UsageError
from edgefx.provenance import matrices, stored
from edgefx.results import RunReport
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import from_json, loads
from edgefx.types import Artifact
from edgefx.vocabulary import IoDtype

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
        document = loads(content)
        if document["schema_version"] != stored.VERSION:
            raise UsageError(
                f"{path}: a report of version {harmless.line(str(document['schema_version']), most=40)},"
                f" this edgefx reads version {stored.VERSION}",
                hint="use the edgefx that wrote it",
            )
        report = from_json(RunReport, document)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="give the output folder of a run"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: no report of edgefx", hint="give the output folder of a run, such as build/"
        ) from error
    for artifact in filter(None, (result.artifact for result in report)):
        if not _is_whole(artifact):
            raise UsageError(
                f"{path}: no report of edgefx: {harmless.line(artifact.target)} is not described",
                hint="give the output folder of a run, such as build/",
            )
    return report, content


def _is_whole(artifact: Artifact) -> bool:
    """Whether an artifact has files, an image to take and something to answer."""
    ends = (*artifact.inputs, *artifact.outputs)
    return bool(
        artifact.files
        and artifact.inputs
        and artifact.outputs
        and len(artifact.inputs[0].shape) == 4
        and all(end.shape and end.dtype in set(IoDtype) for end in ends)
    )
