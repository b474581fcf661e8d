"""Recall, else compute and keep: what happens to every stage of a run (`edgefx.pipeline.stages.Stage`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from edgefx.pipeline.stages import Computed, DamagedError, KeptFiles, Stage
from edgefx.protocols import Progress
from edgefx.results import CachedStage, StageTiming
from edgefx.system import tracing
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.cache.entry import Entry
    from edgefx.cache.store import Store

T = TypeVar("T")
L = TypeVar("L")


class NotKeptError(Exception):
    """A memo that computes nothing was asked for what is not in the cache.

    It is no failure of what was asked for, and must not be taken for one: it is no `EdgefxError`.
    """


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where computations put their files, until the run ends.

    Attributes:
        scratch: Intermediate files.
        staging: Artifacts that are not published; on the same file system as the output folder.
    """

    scratch: Path
    staging: Path


class Memo:
    """The results of one run's stages, with what it notes down about them for the report.

    Args:
        store: Where results are kept from run to run.
        progress: Where warnings and the stages that are computed are reported.
        workspace: Where computations put their files; without one nothing is computed.

    Attributes:
        progress: As given.
        timings: Wall times of the stages that were computed, without those that each of them asked for.
        warnings: For the report.
        cached: What came from the cache.
    """

    def __init__(self, store: Store, progress: Progress, workspace: Workspace | None = None) -> None:
        self.progress = progress
        self.timings: list[StageTiming] = []
        self.warnings: list[str] = []
        self.cached: list[CachedStage] = []
        self._store = store
        self._workspace = workspace
        self._values: dict[str, object] = {}  # by digest, as the following
        self._opened: dict[str, object] = {}
        self._entries: dict[str, Entry] = {}
        self._errors: dict[str, Exception] = {}
        self._inner_s: list[float] = []  # of each running computation: what those inside of it took

    @property
    def workspace(self) -> Workspace:
        """Where computations put their files.

        Raises:
            NotKeptError: Nothing is to be computed.
        """
        if self._workspace is None:
            raise NotKeptError
        return self._workspace

    def warn(self, message: str, *, to_try: str) -> None:
        """Tell the user, now and in the report.

        Args:
            message: What is so.
            to_try: What to do about it, which every warning ends in.
        """
        told = f"{message}; {to_try}"
        self.warnings.append(told)
        self.progress.warn(told)

    # ---------------------------------------- results

    def peek(self, stage: Stage[T, Any]) -> T | None:
        """Return a stage's result if it is there without computing it."""
        digest = stage.key.digest
        if digest not in self._values and digest not in self._entries:
            self._recall(stage)
        return cast("T | None", self._values.get(digest))

    def get(self, stage: Stage[T, Any]) -> T:
        """Return a stage's result: recalled, else computed and kept.

        Raises:
            NotKeptError: It is not in the cache, and nothing is to be computed.
            Exception: As the computation raises, now or when it was first tried in this run.
        """
        found = self.peek(stage)
        return found if found is not None else self._computed(stage).value

    def open(self, stage: Stage[Any, L]) -> L:
        """Return what later computations work with: from memory, from the entry's files, else computed.

        An entry whose files are damaged is forgotten, and the stage is computed as if it had never been kept.

        Raises:
            NotKeptError: Nothing is to be computed, so that nobody can want it.
            Exception: As for `get`.
        """
        digest, _ = stage.key.digest, self.workspace
        if digest not in self._opened:
            value = self.peek(stage)
            entry = self._entries.get(digest)
            if entry is not None and stage.restore is not None:
                try:
                    self._opened[digest] = stage.restore(value, KeptFiles(self._store, entry))
                except DamagedError:
                    self.forget(stage)
        if digest not in self._opened:
            return self._computed(stage).opened
        return cast("L", self._opened[digest])

    def keep(self, stage: Stage[T, L], computed: Computed[T, L]) -> None:
        """Keep a result, for this run and for later ones; trouble with the cache costs a warning at most."""
        from edgefx.storage.serde import to_json

        digest = stage.key.digest
        self._values[digest], self._opened[digest] = computed.value, computed.opened
        if computed.lasting and digest not in self._entries:
            entry = self._store.put(stage.key, to_json(computed.value), computed.files)
            if entry is not None:
                self._entries[digest] = entry

    def forget(self, stage: Stage[Any, Any]) -> None:
        """Take back that a stage's result came from the cache; it is computed when it is next asked for."""
        digest = stage.key.digest
        self.cached = [note for note in self.cached if note.key != digest]
        for known in (self._values, self._opened, self._entries):
            known.pop(digest, None)

    def close(self, stage: Stage[Any, L]) -> L | None:
        """Let go of what `open` returns, if it is there, because its files are moved or removed."""
        return cast("L | None", self._opened.pop(stage.key.digest, None))

    # ---------------------------------------- computing

    @contextmanager
    def timed(self, kind: StageKind, clock: str | None = "", *, label: str = "") -> Iterator[None]:
        """Note how long the block takes, also when it fails, without the stages that it asks for.

        Args:
            kind: The step of the compilation.
            clock: The name to note the time under; None to note nothing.
            label: What to show meanwhile; "" where the block itself shows its progress.

        Raises:
            NotKeptError: Nothing is to be computed.
        """
        _ = self.workspace
        begun = time.perf_counter()
        self._inner_s.append(0.0)
        try:
            with ExitStack() as stack:
                stack.enter_context(
                    tracing.span(str(kind), target=clock or None, what=label or None, cached=False)
                )
                if label:
                    stack.enter_context(self.progress.task(label))
                yield
        finally:
            took = time.perf_counter() - begun
            own = took - self._inner_s.pop()
            if self._inner_s:
                self._inner_s[-1] += took
            if clock is not None:
                self.timings.append(StageTiming(stage=kind, target=clock, seconds=round(own, 3)))

    def _computed(self, stage: Stage[T, L]) -> Computed[T, L]:
        digest = stage.key.digest
        if digest in self._errors:
            raise self._errors[digest]
        with self.timed(stage.kind, stage.clock, label=stage.label):
            try:
                computed = stage.compute()
            except Exception as error:
                self._errors[digest] = error
                raise
        self.keep(stage, computed)
        return computed

    def _recall(self, stage: Stage[Any, Any]) -> None:
        from edgefx.storage.serde import from_json

        entry = self._store.get(stage.key)
        if entry is None:
            return
        try:
            self._values[stage.key.digest] = from_json(stage.result, entry.payload)
        except ValueError:  # the sources of the records are part of the key, so that this is damage too
            self._store.discard(entry, "its content is not understood")
            return
        self._entries[stage.key.digest] = entry
        with tracing.span(stage.kind, target=stage.target or None, what=stage.what, cached=True):
            pass
        self.cached.append(
            CachedStage(
                stage=stage.kind,
                target=stage.target,
                what=stage.what,
                key=stage.key.digest,
                created=entry.created,
            )
        )
