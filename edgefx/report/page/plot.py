"""The file that ``--plot`` names: a page, written completely or not at all."""

from __future__ import annotations

from pathlib import Path

from edgefx.errors import OutputError, UsageError
from edgefx.storage.atomic import write_text


def check(path: Path) -> None:
    """Refuse a file that a plot cannot be written as, before any work is done for it.

    Raises:
        UsageError: Its suffix is not .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"--plot {path}: the plot is an HTML page", hint=f"for example --plot {path.with_suffix('.html')}"
        )


def write(page: str, path: Path) -> None:
    """Write a page, completely or not at all.

    Raises:
        UsageError: As `check` says.
        OutputError: The file cannot be written.
    """
    check(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    except OSError as error:
        raise OutputError(
            f"--plot {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error
