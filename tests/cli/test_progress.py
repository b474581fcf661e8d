"""Progress: bars on a terminal, plain lines elsewhere, nothing for short work or with -q."""

from __future__ import annotations

import io
import time

import pytest

from edgefx.cli import progress
from edgefx.cli.console import make_console
from edgefx.cli.progress import ConsoleProgress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 0.02)
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")


def _plain(verbosity: int = 0) -> tuple[ConsoleProgress, io.StringIO]:
    stream = io.StringIO()
    return ConsoleProgress(make_console(stream, colored=False), verbosity=verbosity), stream


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 5.0)
    shown, stream = _plain()
    with shown.task("quick", 2) as task:
        task.advance()
    assert stream.getvalue() == ""


def test_long_work_has_a_first_and_a_last_line_and_heartbeats() -> None:
    shown, stream = _plain()
    with shown.task("convert", 4) as task:
        task.advance(2)
        time.sleep(0.1)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "convert ..."
    assert lines[1].startswith("convert: 2/4 (50%), about ")
    assert lines[-1].startswith("convert: done in 0.")


def test_work_of_unknown_length_says_how_long_it_runs() -> None:
    shown, stream = _plain()
    with shown.task("load"):
        time.sleep(0.1)
    assert "load: running for 0 s" in stream.getvalue()


def test_failed_work_is_not_called_done() -> None:
    shown, stream = _plain()

    def fail() -> None:
        with shown.task("convert"):
            time.sleep(0.03)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert "convert: stopped after" in stream.getvalue()
    assert "done" not in stream.getvalue()


def test_notes_and_warnings_are_said_once_and_verbatim() -> None:
    shown, stream = _plain()
    long = "a/very/long/path " * 20 + "end"
    for _ in range(2):
        shown.note("[bold]note[/bold] 12")
        shown.warn(long)
    assert stream.getvalue() == f"[bold]note[/bold] 12\nwarning: {long}\n"


def test_quiet_is_silent() -> None:
    shown, stream = _plain(verbosity=-1)
    shown.note("note")
    shown.warn("warning")
    with shown.task("long", 1) as task:
        time.sleep(0.05)
        task.advance()
    assert stream.getvalue() == ""


def test_bars_on_a_terminal_disappear_and_leave_a_line() -> None:
    stream = _Terminal()
    shown = ConsoleProgress(make_console(stream, colored=False))
    with shown.task("outer", 2) as outer, shown.task("inner") as inner:
        inner.advance()
        outer.advance()
        time.sleep(0.25)
        shown.warn("in between")
    text = stream.getvalue()
    assert "1/2" in text
    assert "ETA" in text
    assert "warning: in between" in text
    assert text.endswith("\n")
    assert text.rstrip().splitlines()[-1].startswith("outer: done in")
    assert "\x1b[?25h" in text  # the cursor is shown again
