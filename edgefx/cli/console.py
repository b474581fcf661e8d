"""A Rich console that measures the stream it writes to, not the process's standard streams."""

from __future__ import annotations

import io
import os
from typing import IO

from rich.console import Console, ConsoleDimensions

from edgefx.report.console import PlainConsole

_PIPED_HEIGHT = 25


class StreamConsole(PlainConsole):
    """A console bound to one stream.

    Rich measures stdin, stdout and stderr, whichever is a terminal. While native output is redirected none
    of them is ours, and a table that goes into a pipe should not depend on the terminal that started it.
    """

    piped_width = 120

    def on_broken_pipe(self) -> None:
        """Let the command go on: its work and exit code do not depend on a reader who left (Rich exits 1)."""
        self.quiet = True
        discard(self.file)

    @property  # type: ignore[misc]  # Rich's setter is of no use for a stream that measures itself
    def size(self) -> ConsoleDimensions:
        """The terminal's size, or COLUMNS, or `piped_width` when the stream is not a terminal."""
        columns = os.environ.get("COLUMNS", "")
        if self._width is not None:
            return ConsoleDimensions(self._width, self._height or _PIPED_HEIGHT)
        if columns.isdigit() and int(columns) > 0:
            return ConsoleDimensions(int(columns), _PIPED_HEIGHT)
        try:
            width, height = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError, AttributeError):  # not a terminal, or no descriptor at all
            return ConsoleDimensions(self.piped_width, _PIPED_HEIGHT)
        return ConsoleDimensions(width or 80, height or _PIPED_HEIGHT)


def discard(stream: IO[str]) -> None:
    """Send what `stream` still holds nowhere, or the interpreter fails to flush it when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def make_console(stream: IO[str], *, colored: bool, piped_width: int = 120) -> Console:
    """Return a console for `stream`; without colours it writes no escape sequence into text at all."""
    if isinstance(stream, io.TextIOWrapper):
        # A file name or a symbol that the locale cannot express must not end the program.
        stream.reconfigure(errors="backslashreplace")
    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    if not colored:
        system = None
    elif terminal:
        system = "auto"
    else:
        system = "standard"
    console = StreamConsole(
        file=stream,
        color_system=system,
        no_color=not colored,
        force_terminal=terminal,
        force_interactive=terminal,
    )
    console.piped_width = piped_width
    return console
