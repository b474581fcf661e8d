"""What a run notes down on its way: how long each stage took, what to warn of, what came from the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edgefx.cache.entry import Entry, Key
from edgefx.cache.store import Store
from edgefx.results import CachedStage, StageTiming
from edgefx.types import Progress, Stage

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recalled(Generic[T]):
    """A result from the cache.

    Attributes:
        value: The result.
        entry: Where it came from, and where its files are.
    """

    value: T
    entry: Entry


class Ledger:
    """One run's notes.

    Args:
        store: Where results are kept from run to run.
        progress: Told of warnings.

    Attributes:
        timings: Wall times of the stages that ran.
        warnings: For the report.
        cached: What came from the cache.
    """

    def __init__(self, store: Store, progress: Progress) -> None:
        self.store = store
        self.timings: list[StageTiming] = []
        self.warnings: list[str] = []
        self.cached: list[CachedStage] = []
        self._progress = progress

    @contextmanager
    def stage(self, stage: Stage, target: str = "") -> Iterator[None]:
        """Time the block, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = round(time.perf_counter() - start, 3)
            self.timings.append(StageTiming(stage=stage, target=target, seconds=seconds))

    def warn(self, message: str) -> None:
        """Tell the user, now and in the report."""
        self.warnings.append(message)
        self._progress.warn(message)

    # ---------------------------------------- the cache

    def recall(
        self, wanted: Key, kind: type[T], stage: Stage, *, target: str = "", what: str = ""
    ) -> Recalled[T] | None:
        """Look a result up, and note where it came from.

        Args:
            wanted: The key.
            kind: The dataclass that was kept.
            stage: For the report.
            target: For the report.
            what: For the report.
        """
        from edgefx.report.json import from_json

        entry = self.store.get(wanted)
        if entry is None:
            return None
        try:
            value = from_json(kind, entry.payload)
        except (
            ValueError
        ):  # written by another version under the same name: the code's hash should prevent it
            self.store.discard(entry, "its content is not understood")
            return None
        note = CachedStage(stage=stage, target=target, what=what, key=wanted.digest, created=entry.created)
        if note not in self.cached:
            self.cached.append(note)
        return Recalled(value=value, entry=entry)

    def keep(self, wanted: Key, value: object, files: Mapping[str, Path | bytes] | None = None) -> None:
        """Keep a result for later runs; trouble costs a warning at most."""
        from edgefx.report.json import to_json

        self.store.put(wanted, to_json(value), files)

    def forget(self, wanted: Key) -> None:
        """Take back that a result came from the cache: its files were damaged, and it was computed again."""
        self.cached = [note for note in self.cached if note.key != wanted.digest]
