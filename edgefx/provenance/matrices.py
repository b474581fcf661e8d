"""The runs of a matrix, found by the report on all of them. Standard library only."""

from __future__ import annotations

from pathlib import Path, PurePath

from edgefx.errors import DataError
from edgefx.provenance import lock as locks
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import loads

NAME = "matrix.json"
_MOST_BYTES = 256 * 10**6  # it holds the reports of all runs


def runs(path: Path) -> dict[str, Path]:
    """Return the folders of a matrix's runs that have a lock file, by name; empty for what is no matrix.

    Args:
        path: The folder that holds ``matrix.json``, or the file.

    Raises:
        DataError: The file is not what a matrix writes.
    """
    file = path if path.name == NAME else path / NAME
    if not file.is_file() or (path / locks.NAME).is_file():
        return {}
    try:
        document = loads(read_bytes(file, limit_bytes=_MOST_BYTES))
        # A run's folder is called as the run is, and lies beside the file, wherever all of it was moved to.
        names = [PurePath(run["name"]).name for run in document["runs"]]
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: no report on a matrix of edgefx") from error
    return {name: file.parent / name for name in names if (file.parent / name / locks.NAME).is_file()}
