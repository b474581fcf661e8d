"""Keep the noise of libraries out of the result: what they print goes to a log file.

TensorFlow, absl, MLIR, ONNX Runtime and OpenVINO write to the C file descriptors 1 and 2, where Python's
`contextlib.redirect_stdout` cannot reach; their Python halves print, warn and log. All of it is sent to one
file, while edgefx's own consoles go on writing to duplicates of the real descriptors.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from edgefx.harmless import visible
from edgefx.system.quiet import quiet

if TYPE_CHECKING:
    from rich.console import Console

_KEPT_LOGS = 20  # logs of failed commands in the state folder; older ones are removed ...
_IN_USE_S = 86400.0  # ... unless written to since then: they may be those of commands that run
_NATIVE_ECHO = 3  # from this verbosity on, native output is not kept off stderr


class Streams(Protocol):
    """What the redirection needs to know of one invocation of `edgefx`, which is an `App`.

    Attributes:
        verbosity: From `_NATIVE_ECHO` on, native output goes to stderr.
        log_path: The log file; set here.
        keep_log: Whether to keep the log of work that raised nothing.
    """

    verbosity: int
    log_path: Path | None
    keep_log: bool

    @property
    def stdout(self) -> Console:
        """Where the result goes."""

    @property
    def stderr(self) -> Console:
        """Where everything else goes."""


@contextmanager
def redirected(app: Streams, *, keep_as: Path | None) -> Iterator[None]:
    """Redirect native and Python output of libraries; see `App.native_log`."""
    if isinstance(sys.stderr, _LogStream):  # nested: the outer block already does it
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with ExitStack() as stack:
        saved = {number: os.dup(number) for number in (1, 2)}
        for duplicate in saved.values():
            stack.callback(os.close, duplicate)
        if app.verbosity >= _NATIVE_ECHO:
            log = _LogStream(os.dup(2))
            app.log_path = None
        else:
            app.log_path, descriptor = _new_log()
            log = _LogStream(descriptor)
        for console in (app.stdout, app.stderr):
            stack.enter_context(_bound_to(console, saved))
        stack.enter_context(quiet())
        stack.enter_context(_crashes_shown_on(saved[2]))
        stack.enter_context(_descriptors_on(log, saved))
        stack.enter_context(_python_streams_on(log))
        stack.enter_context(_logging_on(log, app))
        try:
            yield
        except BaseException:
            _drop(app, only_if_empty=True)  # an error must not name a log that says nothing
            raise
    _finish(app, keep_as)


class _LogStream(io.TextIOBase):
    """A text stream on the log.

    Closing does nothing: logging handlers that libraries created inside the block keep the stream, use it
    until the interpreter ends, and some (absl's) close it then.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Append `text`; unbuffered, so that the order of native and Python lines is kept."""
        data = visible(text, keep="\n\t").encode()
        while data:
            data = data[os.write(self._descriptor, data) :]
        return len(text)

    def close(self) -> None:
        """Do nothing: others may still write."""

    def isatty(self) -> bool:
        """Tell libraries not to animate."""
        return False

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def fileno(self) -> int:
        """Return the log's descriptor."""
        return self._descriptor

    @property
    def buffer(self) -> IO[bytes]:
        """A binary view for those who write bytes."""
        return open(self._descriptor, "wb", buffering=0, closefd=False)


# ----------------------------------------------------------------------------------- what is redirected


@contextmanager
def _bound_to(console: object, saved: dict[int, int]) -> Iterator[None]:
    """Let one of our consoles write to the saved duplicate of its descriptor."""
    from rich.console import Console

    assert isinstance(console, Console)
    original = console.file
    try:
        number = original.fileno()
    except (OSError, ValueError, AttributeError):  # a replaced stream (tests): not affected by descriptors
        yield
        return
    if number not in saved:
        yield
        return
    encoding = getattr(original, "encoding", None) or "utf-8"
    stream = os.fdopen(
        saved[number], "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False
    )
    console.file = stream
    try:
        yield
    finally:
        console.file = original
        stream.flush()


@contextmanager
def _crashes_shown_on(descriptor: int) -> Iterator[None]:
    """A crash of native code would otherwise end edgefx without a word on the user's stderr."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(descriptor)
    try:
        yield
    finally:
        faulthandler.disable()


@contextmanager
def _descriptors_on(log: _LogStream, saved: dict[int, int]) -> Iterator[None]:
    for number in saved:
        os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        _flush_c_streams()
        for number, duplicate in saved.items():
            os.dup2(duplicate, number)


def _flush_c_streams() -> None:
    """Write out what C code has printed but not flushed, before stdout is the user's again."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


@contextmanager
def _python_streams_on(log: _LogStream) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = log  # what libraries use of a TextIO
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def _logging_on(log: _LogStream, app: Streams) -> Iterator[None]:
    """Send Python's loggers and warnings to the log, and to stderr with -v."""
    root = logging.getLogger()
    handlers: list[logging.Handler] = [logging.StreamHandler(log)]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if 0 < app.verbosity < _NATIVE_ECHO:
        echo = logging.StreamHandler(app.stderr.file)
        echo.setLevel(logging.WARNING if app.verbosity == 1 else logging.INFO)
        echo.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        handlers.append(echo)
    level = root.level
    for handler in handlers:
        root.addHandler(handler)
    if level > logging.INFO:
        root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)


# ----------------------------------------------------------------------------------------- the log file


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "edgefx" / "logs"


def _new_log() -> tuple[Path, int]:
    """Create a log file of our own; in the temporary folder when there is no usable home."""
    prefix = time.strftime("%Y%m%d-%H%M%S-")
    try:
        folder = _state_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _prune(folder)
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".log", dir=folder)
    except (OSError, RuntimeError):  # RuntimeError: no home folder is known
        descriptor, name = tempfile.mkstemp(prefix=f"edgefx-{prefix}", suffix=".log")
    os.close(descriptor)
    # O_APPEND: the descriptors 1 and 2, child processes and Python write without overwriting each other.
    return Path(name), os.open(name, os.O_WRONLY | os.O_APPEND)


def _prune(folder: Path) -> None:
    before = time.time() - _IN_USE_S
    for old in sorted(folder.glob("*.log"))[: -_KEPT_LOGS + 1]:
        with suppress(FileNotFoundError):  # another command is at it
            if old.stat().st_mtime < before:
                old.unlink()


def _finish(app: Streams, keep_as: Path | None) -> None:
    """Move the log of work that went well to where it belongs, or remove it."""
    _forget_if_gone(app)
    if app.log_path is not None and keep_as is not None:
        mask = os.umask(0)
        os.umask(mask)
        app.log_path.chmod(0o666 & ~mask)  # as readable as the files beside it
        app.log_path = Path(shutil.move(app.log_path, keep_as))
    elif not app.keep_log:
        _drop(app)


def _forget_if_gone(app: Streams) -> None:
    """Do without a log that somebody has cleaned away: the work is done all the same."""
    if app.log_path is not None and not app.log_path.exists():
        app.log_path = None


def _drop(app: Streams, *, only_if_empty: bool = False) -> None:
    _forget_if_gone(app)
    if app.log_path is None or (only_if_empty and app.log_path.stat().st_size):
        return
    app.log_path.unlink(missing_ok=True)
    app.log_path = None


def append(path: Path | None, text: str) -> Path | None:
    """Append `text` to the log at `path`, or to a new one; None when no file can be written."""
    try:
        if path is None:
            path, descriptor = _new_log()
            os.close(descriptor)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(visible(text, keep="\n\t"))
    except OSError:
        return None
    return path
