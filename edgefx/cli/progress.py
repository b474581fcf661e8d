"""Progress on stderr: bars with ETA on a terminal, plain lines in CI logs, nothing for short work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SHOWN_AFTER_S = 1.0  # shorter work is not worth a line
HEARTBEAT_S = 10.0  # a CI log shows at least this often that work goes on


class _Count(MofNCompleteColumn):
    """Steps done of the total; nothing where the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class _Remaining(TimeRemainingColumn):
    """Time left, named as such; nothing where the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else Text("ETA ") + super().render(task)


class _Bars(Progress):
    """Rich's bars, without those of work that began less than a second ago."""

    def get_renderables(self) -> Iterable[RenderableType]:
        shown = [task for task in self.tasks if (task.elapsed or 0.0) >= SHOWN_AFTER_S]
        if shown:
            yield self.make_tasks_table(shown)


class ConsoleProgress:
    """The `types.Progress` of the command line.

    Args:
        console: Bound to stderr.
        verbosity: Below 0 prints nothing; above 0 also names work that took less than a second.
    """

    def __init__(self, console: Console, *, verbosity: int = 0) -> None:
        self._console = console
        self._quiet = verbosity < 0
        self._shown_after_s = 0.0 if verbosity > 0 else SHOWN_AFTER_S
        self._bars: _Bars | None = None
        self._running = 0
        self._said: set[str] = set()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[_BarTask | _PlainTask | _SilentTask]:
        """Show `label` while the block runs; see `types.Progress.task`."""
        if self._quiet:
            yield _SilentTask()
            return
        start = time.monotonic()
        outcome = "stopped after"
        opened = self._bar(label, total) if self._console.is_terminal else self._plain(label, total)
        try:
            with opened as task:
                yield task
            outcome = "done in"
        finally:
            seconds = time.monotonic() - start
            if seconds >= self._shown_after_s:
                self._line(f"{label}: {outcome} {seconds:.1f} s", style="dim")

    def note(self, message: str) -> None:
        """Print `message`, once."""
        self._once(Text(message))

    def warn(self, message: str) -> None:
        """Print `message` as a warning, once."""
        self._once(Text.assemble(("warning", "bold yellow"), f": {message}"))

    def stop(self) -> None:
        """Take the bars off the screen."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _once(self, text: Text) -> None:
        if self._quiet or text.plain in self._said:
            return
        self._said.add(text.plain)
        self._line(text)

    def _line(self, text: Text | str, *, style: str = "") -> None:
        # Not wrapped: paths and commands in a message must survive copying.
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, label: str, total: int | None) -> Iterator[_BarTask]:
        if self._bars is None:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                _Count(),
                TimeElapsedColumn(),
                _Remaining(compact=True),
            )
            # Native output is redirected by edgefx.cli.nativelog; Rich must not do it a second time.
            self._bars = _Bars(
                *columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._bars.start()
        bars = self._bars
        identifier = bars.add_task(label, total=total)
        self._running += 1
        try:
            yield _BarTask(bars, identifier)
        finally:
            self._running -= 1
            bars.remove_task(identifier)
            if self._running == 0:
                self.stop()

    @contextmanager
    def _plain(self, label: str, total: int | None) -> Iterator[_PlainTask]:
        task = _PlainTask(total)
        finished = threading.Event()

        def watch() -> None:
            if finished.wait(SHOWN_AFTER_S):
                return
            self._line(f"{label} ...")
            while not finished.wait(HEARTBEAT_S):
                self._line(f"{label}: {task.state()}")

        watcher = threading.Thread(target=watch, name="edgefx-progress", daemon=True)
        watcher.start()
        try:
            yield task
        finally:
            finished.set()
            watcher.join()


class _BarTask:
    def __init__(self, bars: _Bars, identifier: TaskID) -> None:
        self._bars = bars
        self._identifier = identifier

    def advance(self, steps: int = 1) -> None:
        """Count `steps` as done."""
        self._bars.advance(self._identifier, steps)


class _PlainTask:
    def __init__(self, total: int | None) -> None:
        self._start = time.monotonic()
        self._total = total
        self._done = 0

    def advance(self, steps: int = 1) -> None:
        """Count `steps` as done."""
        self._done += steps

    def state(self) -> str:
        """Say how far the work is and how long it will take."""
        seconds = time.monotonic() - self._start
        if not self._total:
            return f"running for {seconds:.0f} s"
        text = f"{self._done}/{self._total} ({self._done / self._total:.0%})"
        if 0 < self._done < self._total:
            text += f", about {seconds / self._done * (self._total - self._done):.0f} s left"
        return text


class _SilentTask:
    def advance(self, steps: int = 1) -> None:
        """Do nothing: the user asked for quiet."""
