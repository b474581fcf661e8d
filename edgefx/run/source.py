"""A run's model: known by content, loaded and made deployable only when a stage needs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.cache.files import hash_file
from edgefx.errors import ModelError
from edgefx.types import FrozenGraph, LayerInfo, ModelSpec, Progress, Spread, Stage

if TYPE_CHECKING:
    from edgefx.cache.entry import Json
    from edgefx.cache.files import FileHashes
    from edgefx.models.load import LoadedModel
    from edgefx.recipe.schema import ModelSection
    from edgefx.run.ledger import Ledger, Recalled

_GRAPH, _SPREADS = "graph.pb", "spreads.f64"


@dataclass(frozen=True, kw_only=True)
class GraphRecord:
    """What is known of a canonical graph without its file.

    Attributes:
        spec: The model, multiply-accumulates counted.
        layers: The canonical layers.
        notes: What the user should know of the model.
        channels: For each layer in `FrozenGraph.spreads`, the number of its channels.
        sha256: The graph by content: its file, the layers and the spreads.
    """

    spec: ModelSpec
    layers: tuple[LayerInfo, ...]
    notes: tuple[str, ...]
    channels: tuple[tuple[str, int], ...]
    sha256: str


class Source:
    """The model of a run.

    Args:
        section: Which model.
        seed: Of random weights.
        ledger: Notes and cache.
        hashes: Hashes of files.
        workdir: A folder that lives as long as the run.
        progress: Told of long work.

    Attributes:
        identity: The model by content; see `edgefx.cache.keys.model`.

    Raises:
        EdgefxError: There is no such model.
    """

    def __init__(
        self,
        section: ModelSection,
        *,
        seed: int,
        ledger: Ledger,
        hashes: FileHashes,
        workdir: Path,
        progress: Progress,
    ) -> None:
        self._section = section
        self._seed = seed
        self._ledger = ledger
        self._workdir = workdir
        self._progress = progress
        self._loaded: LoadedModel | None = None
        self._graph: FrozenGraph | None = None
        self._record: GraphRecord | None = None
        self.identity = self._identified(hashes)
        self._key = keys.graph(self.identity)
        self._recalled: Recalled[GraphRecord] | None = ledger.recall(
            self._key, GraphRecord, Stage.CANONICALIZE, what="canonical graph"
        )
        if self._recalled is not None:
            self._record = self._named(self._recalled.value)

    @property
    def is_known(self) -> bool:
        """Whether the canonical graph needs no making."""
        return self._record is not None

    @property
    def spec(self) -> ModelSpec:
        """The model; its multiply-accumulates are counted once there is a graph."""
        return self._record.spec if self._record else self.loaded.spec

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the model."""
        return self._record.notes if self._record else self.loaded.notes

    @property
    def record(self) -> GraphRecord:
        """What is known of the canonical graph, which is made when nothing is known yet.

        Raises:
            EdgefxError: It cannot be made.
        """
        if self._record is None:
            self._canonicalize()
        assert self._record is not None
        return self._record

    @property
    def graph(self) -> FrozenGraph:
        """The canonical graph with its file, from the cache or made.

        Raises:
            EdgefxError: It cannot be made.
        """
        if self._graph is None and self._recalled is not None:
            if self._ledger.store.copy(self._recalled.entry, self._workdir):
                self._graph = self._restored(self.record)
            else:
                self._ledger.forget(self._key)
        if self._graph is None:
            self._canonicalize()
        assert self._graph is not None
        return self._graph

    @property
    def loaded(self) -> LoadedModel:
        """The Keras model.

        Raises:
            EdgefxError: It cannot be loaded.
        """
        if self._loaded is None:
            with self._ledger.stage(Stage.LOAD), self._progress.task("load model"):
                loaded = self._load()
            path = Path(self._section.source)
            is_file = "family" not in self.identity and path.is_file()
            if is_file and loaded.spec.sha256 != self.identity["content"]:
                raise ModelError(f"{path}: was changed while the run read it", hint="run again")
            self._loaded = loaded
        return self._loaded

    def _identified(self, hashes: FileHashes) -> dict[str, Json]:
        try:
            return keys.model(self._section, seed=self._seed, hashes=hashes)
        except OSError as error:
            self._load()  # says better what is wrong
            raise ModelError(f"{self._section.source}: cannot be read: {error.strerror}") from error

    def _load(self) -> LoadedModel:
        from edgefx.models.load import load

        section = self._section
        return load(
            section.source,
            weights=section.weights,
            classes=section.classes,
            input_size=section.input_size,
            seed=self._seed,
        )

    def _named(self, record: GraphRecord) -> GraphRecord:
        """Name the model as this run does; its file may have been moved since the record was made."""
        if "family" in self.identity:
            return record
        path = Path(self._section.source)
        return replace(record, spec=replace(record.spec, name=path.resolve().stem, source=str(path)))

    def _canonicalize(self) -> None:
        from edgefx.models.canonical import canonicalize
        from edgefx.report.json import to_json

        loaded = self.loaded
        with self._ledger.stage(Stage.CANONICALIZE), self._progress.task("make the graph deployable"):
            graph = canonicalize(loaded, self._workdir)
        spreads = b"".join(
            part.astype("<f8").tobytes()
            for one in graph.spreads.values()
            for part in (one.mean, one.deviation)
        )
        channels = tuple((name, len(one.mean)) for name, one in graph.spreads.items())
        sha256 = keys.digest(
            {
                "graph": hash_file(graph.path),
                "output": graph.spec.output,
                "layers": to_json(graph.layers),
                "channels": to_json(channels),
                "spreads": hashlib.sha256(spreads).hexdigest(),
            }
        )
        record = GraphRecord(
            spec=graph.spec, layers=graph.layers, notes=loaded.notes, channels=channels, sha256=sha256
        )
        self._graph, self._record, self._recalled = graph, record, None
        self._ledger.keep(self._key, record, {_GRAPH: graph.path, _SPREADS: spreads})

    def _restored(self, record: GraphRecord) -> FrozenGraph:
        import numpy as np

        values = np.fromfile(self._workdir / _SPREADS, "<f8")
        spreads, start = {}, 0
        for name, count in record.channels:
            mean, deviation = values[start : start + 2 * count].reshape(2, count)
            spreads[name] = Spread(mean=mean, deviation=deviation)
            start += 2 * count
        return FrozenGraph(
            path=self._workdir / _GRAPH,
            spec=record.spec,
            layers=record.layers,
            workdir=self._workdir,
            spreads=spreads,
        )
