"""``report.json`` of a finished run, read back."""

from __future__ import annotations

from pathlib import Path

from edgefx import harmless
from edgefx.errors import UsageError
from edgefx.provenance import matrices, records, stored
from edgefx.results import RunReport
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import from_json
from edgefx.types import Artifact
from edgefx.vocabulary import IoDtype

NAME = stored.NAMES[0]
_HINT = "give the output folder of a run, such as build/"


def read(folder: Path) -> tuple[RunReport, bytes]:
    """Read a run's report; returns it, and the file's bytes.

    Raises:
        UsageError: There is none, or it is none of this version.
    """
    path = folder / NAME
    if not path.is_file() and (folder / matrices.NAME).is_file():
        raise UsageError(f"{folder} holds the runs of a matrix", hint="give the folder of one of them")
    with records.refused(path, what="report", hint=_HINT):
        content = read_bytes(path, limit_bytes=records.MOST_BYTES)
        document = records.parse(content, path, what="report", version=records.REPORT_VERSION)
        report = from_json(RunReport, document)
    for artifact in filter(None, (result.artifact for result in report)):
        if not _is_whole(artifact):
            raise UsageError(
                f"{path}: no report of edgefx: {harmless.line(artifact.target)} is not described",
                hint=_HINT,
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
