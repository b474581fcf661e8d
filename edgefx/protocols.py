"""What one room asks of another: a runtime, an opened artifact, and how long work is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores, TensorInfo


class Session(Protocol):
    """An artifact opened in its runtime. Nothing runtime-specific leaks past it."""

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""

    @property
    def precision_ran(self) -> str:
        """The numeric format that the runtime executes in, e.g. "int8", "float32", "bf16"."""

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3] through the artifact; returns float32 [N, classes], dequantized."""


class TimedSession(Session, Protocol):
    """A `Session` whose inference can be timed without what its images and scores take."""

    def prepared(self, batch: Pixels) -> Callable[[], None]:
        """Put images into the input, at most the file's batch; returns what runs them, to be timed alone."""


class Task(Protocol):
    """A running piece of work whose length is known."""

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more of the total as done."""


class Progress(Protocol):
    """How the core tells of long work; the CLI renders it, the core never prints."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Show `label` with a bar over `total` steps, or a spinner when the total is unknown."""

    def note(self, message: str) -> None:
        """Tell the user something once, on stderr."""

    def warn(self, message: str) -> None:
        """Warn the user once, on stderr; the same text belongs in the report."""


class _Silent:
    """A `Progress` and `Task` that shows nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """Show nothing."""
        del label, total
        yield self

    def advance(self, steps: int = 1) -> None:
        """Count nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""


SILENT: Final[Progress] = _Silent()
