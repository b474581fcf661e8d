"""The file that ``--plot`` names: a page, written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgefx.errors import OutputError, UsageError
from edgefx.storage.atomic import write_text


def check(path: Path | None) -> None:
    """Refuse a file that a plot cannot be written as, before any work is done for it; None asks for none.

    Raises:
        UsageError: Its suffix is not .html.
    """
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"--plot {path}: the plot is an HTML page", hint=f"for example --plot {path.with_suffix('.html')}"
        )


def write(page: Callable[[], str], path: Path | None) -> None:
    """Write a page, completely or not at all.

    Args:
        page: Draws it.
        path: Where to; None for nowhere.

    Raises:
        UsageError: As `check` says.
        OutputError: The file cannot be written.
    """
    check(path)
    if path is None:
        return
    made = page()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, made)
    except OSError as error:
        raise OutputError(
            f"--plot {path}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error
