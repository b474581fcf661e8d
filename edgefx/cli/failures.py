"""From an exception to a message on stderr and an exit code (DESIGN: contract 6)."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from edgefx.errors import Block, DiskFullError, EdgefxError, ExitCode, UsageError
from edgefx.harmless import visible
from edgefx.storage.disk import disk_full, is_disk_full

if TYPE_CHECKING:
    from edgefx.cli.context import App

_SHOWN_DETAILS = 20
# What a user's names, disks and limits cause; any other OSError may be a mistake of ours.
_SURROUNDINGS: dict[int, tuple[type[EdgefxError], str]] = {
    errno.ENAMETOOLONG: (UsageError, "choose a shorter name"),
    errno.EACCES: (UsageError, "check who owns it and the folders it lies in, or choose another path"),
    errno.EPERM: (UsageError, "check who owns it and the folders it lies in, or choose another path"),
    errno.ELOOP: (UsageError, "symbolic links lead in a circle: check the path"),
    errno.EFBIG: (EdgefxError, "a limit on the size of files is in force (ulimit -f): raise it"),
    errno.EMFILE: (EdgefxError, "a limit on open files is in force (ulimit -n): raise it"),
    errno.ENFILE: (EdgefxError, "this machine has no room for more open files: end other programs"),
    errno.EIO: (EdgefxError, "the disk could not be read or written: see the system's log"),
    errno.EROFS: (EdgefxError, "the file system is read-only: choose another folder"),
}


def guard(app: App, action: Callable[[], None]) -> int:
    """Run `action`; return 0, or the exit code of the exception that it raised and that was reported."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - reported like every other
        return report(app, error)
    return 0


def report(app: App, error: BaseException) -> int:
    """Tell the user what went wrong; return the exit code."""
    app.stop_progress()
    if isinstance(error, BrokenPipeError) and _reader_left():
        _discard_stdout()
        return int(ExitCode.OK)
    if app.debug and not isinstance(error, (click.ClickException, click.Abort)):
        _write(visible("".join(traceback.format_exception(error)), keep="\n"))
    if isinstance(error, (KeyboardInterrupt, click.Abort, EOFError)):
        return _say(app, ExitCode.TERMINATED if app.terminated else ExitCode.INTERRUPTED, "")
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _write(error.format_message() + "\n")
        return int(ExitCode.USAGE)
    if isinstance(error, click.ClickException):
        return _click(app, error)
    known = _as_edgefx_error(error)
    if known is not None:
        if isinstance(known, DiskFullError):
            _discard_stdout()
        return _edgefx(app, known)
    return _bug(app, error)


def _click(app: App, error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = f"see: {context.command_path} --help" if context is not None else ""
    message = error.format_message().strip()
    return _say(app, ExitCode.USAGE, message.removesuffix("."), hint=hint)


def _edgefx(app: App, error: EdgefxError) -> int:
    log = app.log_path if error.exit_code is ExitCode.STAGE_FAILED else None
    return _say(
        app, error.exit_code, error.message, details=error.details, hint=error.hint, log=str(log or "")
    )


def _bug(app: App, error: BaseException) -> int:
    where = app.append_to_log("".join(traceback.format_exception(error)))
    message = str(error).strip().split("\n", 1)[0]
    return _say(
        app,
        ExitCode.BUG,
        f"this is a bug in edgefx: {type(error).__name__}{': ' if message else ''}{message}",
        hint="please report it with the log" if where else "run again with --debug for the traceback",
        log=where,
    )


def _as_edgefx_error(error: BaseException) -> EdgefxError | None:
    """Recognize what the user can cure, wherever it was raised."""
    for cause in _chain(error):
        # Native code (TensorFlow, ONNX Runtime) raises its own types with the text of strerror.
        if is_disk_full(cause) or (
            not isinstance(cause, EdgefxError) and "No space left on device" in str(cause)
        ):
            if isinstance(error, DiskFullError):
                return error
            return cause if isinstance(cause, DiskFullError) else disk_full(getattr(cause, "filename", None))
    if isinstance(error, EdgefxError):
        return error
    if isinstance(error, MemoryError):
        return EdgefxError("out of memory", hint="use fewer images or fewer targets")
    return _of_surroundings(error) if isinstance(error, OSError) else _of_packages(error)


def _of_surroundings(error: OSError) -> EdgefxError | None:
    """Explain an error of the file system that edgefx cannot have caused."""
    if error.errno not in _SURROUNDINGS:
        return None
    kind, hint = _SURROUNDINGS[error.errno]
    where = f"{error.filename}: " if error.filename is not None else ""
    return kind(f"{where}{error.strerror}", hint=hint)


def _of_packages(error: BaseException) -> EdgefxError | None:
    """Explain a package that cannot be found."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package != "edgefx":
            from edgefx.system.packages import missing

            return missing(package, purpose="this command")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _say(
    app: App, code: ExitCode, message: str, *, details: Sequence[str] = (), hint: str = "", log: str = ""
) -> int:
    """Write one message, and with --json a document in the place of the result; return the exit code.

    Lines are never wrapped, so that paths and commands can be copied.
    """
    colored = app.colored(sys.stderr)

    def style(text: str, **how: bool | str) -> str:
        return click.style(text, **how) if colored else text  # type: ignore[arg-type]

    kind = {ExitCode.INTERRUPTED: "interrupted", ExitCode.TERMINATED: "terminated"}.get(code, "error")
    shown = list(details[:_SHOWN_DETAILS])
    if len(details) > _SHOWN_DETAILS:
        shown.append(f"... and {len(details) - _SHOWN_DETAILS} more")
    # A message quotes names that others chose; a line break in one would forge a line of ours.
    lines = [style(kind, fg="red", bold=True) + (f": {visible(message)}" if message else "")]
    lines += [f"  {line if isinstance(line, Block) else visible(line)}" for line in shown]
    if hint:
        lines.append(style("hint", fg="cyan") + f": {visible(hint)}")
    if log:
        lines.append(style("log", fg="cyan") + f": {visible(log)}")
    _write("\n".join(lines) + "\n")
    if app.owes_json:
        error = {"code": int(code), "message": message or kind, "hint": hint, "details": details, "log": log}
        with suppress(OSError):  # a full disk or a reader that has left; the exit code still tells
            app.write_json({"error": error})
            app.flush()
    return int(code)


def _write(text: str) -> None:
    try:
        click.echo(text, file=sys.stderr, nl=False, color=True)
    except OSError:
        # Nobody can read stderr any more (closed pipe, full disk); the exit code still tells.
        return


def _reader_left() -> bool:
    """Whether stdout is a pipe whose reader has gone (`edgefx targets | head -1`)."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _discard_stdout() -> None:
    """Send what is left in stdout's buffer nowhere, or the interpreter fails to flush it when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
