"""A run's model: known by content, loaded and made deployable only when a stage needs it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache import identity, keys
from edgefx.errors import ModelError
from edgefx.models.hints import Hints
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.records import GraphRecord
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.storage.hashes import hash_file
from edgefx.types import FrozenGraph, ModelSpec, Spread
from edgefx.units import parse_tasks
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.cache.entry import Json
    from edgefx.models.load import LoadedModel
    from edgefx.recipe.schema import ModelSection
    from edgefx.storage.hashes import FileHashes

_GRAPH, _SPREADS = "graph.pb", "spreads.f64"


class Source:
    """The model of a run.

    Args:
        section: Which model.
        seed: The seed of random weights.
        memo: Recalls, computes and keeps the canonical graph.
        hashes: Hashes of files.
        allow_unsafe: Load a model file that would be refused as unsafe.

    Attributes:
        identity: The model by content; see `edgefx.cache.identity.model`.
        stage: The canonical graph.

    Raises:
        EdgefxError: There is no such model.
    """

    def __init__(
        self,
        section: ModelSection,
        *,
        seed: int,
        memo: Memo,
        hashes: FileHashes,
        allow_unsafe: bool = False,
    ) -> None:
        self._section = section
        self._allow_unsafe = allow_unsafe
        self._seed = seed
        self._memo = memo
        self.identity = self._identified(hashes)
        self.stage = Stage(
            kind=StageKind.CANONICALIZE,
            key=keys.graph(self.identity),
            result=GraphRecord,
            compute=self._canonicalized,
            restore=self._restored,
            what="canonical graph",
            label="make the graph deployable",
        )

    @property
    def known(self) -> GraphRecord | None:
        """What is known of the canonical graph without making it."""
        found = self._memo.peek(self.stage)
        return self._named(found) if found is not None else None

    @property
    def record(self) -> GraphRecord:
        """What is known of the canonical graph, which is made when nothing is known yet.

        Raises:
            EdgefxError: It cannot be made.
        """
        return self._named(self._memo.get(self.stage))

    @property
    def spec(self) -> ModelSpec:
        """The model; its multiply-accumulates are counted once there is a graph."""
        known = self.known
        return known.spec if known is not None else self.loaded.spec

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the model."""
        known = self.known
        return known.notes if known is not None else self.loaded.notes

    @property
    def graph(self) -> FrozenGraph:
        """The canonical graph with its file.

        Raises:
            EdgefxError: It cannot be made.
        """
        return self._memo.open(self.stage)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The Keras model.

        Raises:
            EdgefxError: It cannot be loaded.
        """
        with self._memo.timed(StageKind.LOAD, label="load model"):
            return self._load(self._content())

    def _content(self) -> str | None:
        """The hash that the run knows the model's file, or that of its weights, by."""
        is_file = self.identity.get("weights", "file") == "file"
        return str(self.identity["content"]) if is_file else None

    def _identified(self, hashes: FileHashes) -> dict[str, Json]:
        try:
            found = identity.model(self._section, seed=self._seed, hashes=hashes)
        except OSError as error:
            self._load(None)  # says better what is wrong
            raise ModelError(f"{self._section.source}: cannot be read: {error.strerror}") from error
        # What was made of a model that is refused otherwise is not taken for that of another run.
        return {**found, "unsafe": True} if self._allow_unsafe else found

    def _load(self, sha256: str | None) -> LoadedModel:
        from edgefx.models.load import load

        section = self._section
        return load(
            section.source,
            weights=section.weights,
            classes=section.classes,
            input_size=section.input_size,
            seed=self._seed,
            sha256=sha256,
            allow_unsafe=self._allow_unsafe,
            hints=hints_of(section),
        )

    def _named(self, record: GraphRecord) -> GraphRecord:
        """Name the model as this run does; its file may have been moved since the record was made."""
        if "family" in self.identity:
            return record
        from edgefx.models.formats import name_of
        from edgefx.models.hub import shown

        source = self._section.source
        return replace(record, spec=replace(record.spec, name=name_of(source), source=shown(source)))

    def _canonicalized(self) -> Computed[GraphRecord, FrozenGraph]:
        from edgefx.models.graph.canonical import canonicalize

        loaded = self.loaded
        graph = canonicalize(loaded, self._memo.workspace.scratch)
        record = described(graph, notes=loaded.notes)
        return Computed(value=record, opened=graph, files=kept_files(graph))

    def _restored(self, record: GraphRecord, files: KeptFiles) -> FrozenGraph:
        return restored(self._named(record), files, self._memo.workspace.scratch)


def described(graph: FrozenGraph, *, notes: tuple[str, ...]) -> GraphRecord:
    """Return what is kept of a graph beside its files.

    Args:
        graph: The graph.
        notes: What the user should know of the model.
    """
    from edgefx.storage.serde import to_json

    channels = tuple((name, len(one.mean)) for name, one in graph.spreads.items())
    sha256 = keys.digest(
        {
            "graph": hash_file(graph.path),
            "output": graph.spec.output,
            **({"outputs": to_json(graph.spec.outputs)} if graph.spec.outputs else {}),
            "layers": to_json(graph.layers),
            "channels": to_json(channels),
            "spreads": hashlib.sha256(_spreads(graph)).hexdigest(),
        }
    )
    return GraphRecord(spec=graph.spec, layers=graph.layers, notes=notes, channels=channels, sha256=sha256)


def kept_files(graph: FrozenGraph) -> dict[str, Path | bytes]:
    """Return the files that `restored` makes a graph of again."""
    return {_GRAPH: graph.path, _SPREADS: _spreads(graph)}


def restored(record: GraphRecord, files: KeptFiles, folder: Path) -> FrozenGraph:
    """Return a graph of its record and its files, which are copied into a folder.

    Raises:
        DamagedError: A file is damaged.
    """
    import numpy as np

    files.copy(folder, {_GRAPH: None, _SPREADS: None})
    values = np.fromfile(folder / _SPREADS, "<f8")
    spreads, start = {}, 0
    for name, count in record.channels:
        mean, deviation = values[start : start + 2 * count].reshape(2, count)
        spreads[name] = Spread(mean=mean, deviation=deviation)
        start += 2 * count
    return FrozenGraph(
        path=folder / _GRAPH, spec=record.spec, layers=record.layers, workdir=folder, spreads=spreads
    )


def _spreads(graph: FrozenGraph) -> bytes:
    return b"".join(
        part.astype("<f8").tobytes() for one in graph.spreads.values() for part in (one.mean, one.deviation)
    )


def hints_of(section: ModelSection) -> Hints:
    """Return what a recipe says of a model that its file does not tell."""
    return Hints(
        task=None if section.task is None else parse_tasks(section.task),
        head=section.head,
        pixels=section.pixels,
        custom_objects=section.custom_objects,
        threshold=section.threshold,
    )
