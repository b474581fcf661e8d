"""What every command gets through Click's context: where to print, how much, and the log of native code.

Nothing here imports Rich until something is printed with it, so that `edgefx --help` stays fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edgefx.cli.progress import ConsoleProgress
    from edgefx.protocols import Task

_PIPED_WIDTH = 120
F = TypeVar("F", bound=Callable[..., object])


class App:
    """The state of one invocation of `edgefx`.

    Attributes:
        argv: The arguments given, for the report.
        verbosity: 0 by default; below 0 only errors are printed.
        debug: Whether tracebacks go to stderr.
        color: "auto", "always" or "never".
        log_path: The file that native code wrote to, once there is one.
        interrupted: Whether Ctrl-C or SIGTERM came.
        terminated: Whether it was SIGTERM.
        keep_log: Set it when something failed without an exception: the log is then kept.
        use_cache: Whether results of earlier runs may be used, and this one's kept.
        allow_unsafe: Whether a model file is loaded that would be refused as unsafe.
    """

    def __init__(self, argv: Sequence[str] = ()) -> None:
        self.argv = tuple(argv)
        self.verbosity = 0
        self.debug = False
        self.color = "auto"
        self.log_path: Path | None = None
        self.interrupted = False
        self.terminated = False
        self.keep_log = False
        self.use_cache = True
        self.allow_unsafe = False
        self._wrote = False
        self._out: Console | None = None
        self._err: Console | None = None
        self._progress: ConsoleProgress | None = None

    @staticmethod
    def of(ctx: click.Context) -> App:
        """Return the invocation's `App`."""
        return ctx.find_root().ensure_object(App)

    # ----------------------------------------------------------------------------------------------- streams

    @property
    def command_line(self) -> str:
        """The command as it was given, quoted for a shell."""
        import shlex

        return shlex.join(("edgefx", *self.argv))

    @property
    def stdout(self) -> Console:
        """Where the result goes: stdout."""
        if self._out is None:
            self._out = self._console(sys.stdout)
        return self._out

    @property
    def stderr(self) -> Console:
        """Where everything else goes: stderr."""
        if self._err is None:
            self._err = self._console(sys.stderr)
        return self._err

    def print(self, *renderables: RenderableType) -> None:
        """Print the result on stdout."""
        self.stdout.print(*renderables, highlight=False)

    def write(self, text: str) -> None:
        """Write `text`, such as a JSON document, on stdout as it is."""
        self._wrote = True
        if self._out is not None and self._out.quiet:  # its reader has left
            return
        stream = sys.stdout if self._out is None else self._out.file  # without Rich, where nothing needs it
        try:
            stream.write(text if text.endswith("\n") else text + "\n")
            stream.flush()
        except BrokenPipeError:
            self.stdout.on_broken_pipe()

    @property
    def owes_json(self) -> bool:
        """Whether --json was given, and no document has been written yet."""
        options = self.argv[: self.argv.index("--")] if "--" in self.argv else self.argv
        return "--json" in options and not self._wrote

    def write_json(self, result: object) -> None:
        """Write a result on stdout as one JSON document."""
        from edgefx.storage.serde import dumps

        self.write(dumps(result))

    def flush(self) -> None:
        """Make sure that the result has been written, so that a full disk is noticed."""
        sys.stdout.flush()
        if self._out is not None:
            self._out.file.flush()

    def colored(self, stream: IO[str]) -> bool:
        """Whether `stream` gets colours: by --color, else NO_COLOR, else FORCE_COLOR, else if a terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    def _console(self, stream: IO[str]) -> Console:
        from edgefx.cli.console import make_console

        return make_console(stream, colored=self.colored(stream), piped_width=_PIPED_WIDTH)

    # ---------------------------------------------------------------------------------------- progress, logs

    @property
    def progress(self) -> ConsoleProgress:
        """What draws progress; the `App` itself is the `types.Progress` that the core is given."""
        if self._progress is None:
            from edgefx.cli.progress import ConsoleProgress

            self._progress = ConsoleProgress(self.stderr, verbosity=self.verbosity)
        return self._progress

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Show `label` while the block runs; see `types.Progress`.

        Raises:
            KeyboardInterrupt: The user interrupted earlier work, and a library swallowed it.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        return self.progress.task(label, total)

    def note(self, message: str) -> None:
        """Tell the user something once, on stderr."""
        self.progress.note(message)

    def warn(self, message: str) -> None:
        """Warn the user once, on stderr."""
        self.progress.warn(message)

    def stop_progress(self) -> None:
        """Take the progress bars off the screen."""
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def native_log(self, keep_as: Path | None = None) -> Iterator[None]:
        """Send what libraries write to stdout, stderr and their loggers to a log file.

        Enter it before anything heavy is imported. Results and messages printed through this object inside
        the block still reach the user.

        Args:
            keep_as: Where the log belongs once the work is done; its folder must exist by then. Without it
                the log is kept only when the block raises.
        """
        from edgefx.cli.nativelog import redirected

        with redirected(self, keep_as=keep_as):
            yield

    def append_to_log(self, text: str) -> str:
        """Add `text` to the log file, making one where there is none; return its path ("" if impossible)."""
        from edgefx.cli.nativelog import append

        self.log_path = append(self.log_path, text)
        return str(self.log_path or "")


def pass_app(function: F) -> F:
    """Decorator: hand the `App` to a command's callback as its first argument."""
    from functools import wraps

    @wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(App.of(click.get_current_context()), *args, **kwargs)

    return wrapper  # type: ignore[return-value]
