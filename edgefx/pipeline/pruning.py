"""Fewer channels as a stage: the graph that a target is made of, where its compression asks for another one.

What holds of the model holds of the whole graph: that it is the model is proven before anything is removed,
and drops are measured against the model as it was given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.pipeline.model import described, kept_files, restored
from edgefx.pipeline.records import GraphRecord, PrunedRecord
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.pipeline.inputs import Inputs
    from edgefx.pipeline.memo import Memo
    from edgefx.quantization import WeightCompression
    from edgefx.types import FrozenGraph


class Graphs:
    """The graphs of a run: the model's own, and those with fewer channels.

    Args:
        inputs: The model, and the calibration images that tell which channels matter.
        memo: Recalls, computes and keeps.
        seed: The seed of everything that is sampled.
    """

    def __init__(self, inputs: Inputs, memo: Memo, *, seed: int) -> None:
        self._inputs = inputs
        self._memo = memo
        self._seed = seed

    def record(self, compression: WeightCompression) -> GraphRecord:
        """Return what is known of the graph that a compression starts from, which is made if need be.

        Raises:
            EdgefxError: It cannot be made.
        """
        return self.pruned(compression).graph if compression.narrows else self._inputs.source.record

    def graph(self, compression: WeightCompression) -> FrozenGraph:
        """Return that graph with its file.

        Raises:
            EdgefxError: It cannot be made.
        """
        if not compression.narrows:
            return self._inputs.source.graph
        return self._memo.open(self._stage(compression))

    def pruned(self, compression: WeightCompression) -> PrunedRecord:
        """Return what was removed.

        Raises:
            EdgefxError: Nothing can be.
        """
        return self._memo.get(self._stage(compression))

    def _stage(self, compression: WeightCompression) -> Stage[PrunedRecord, FrozenGraph]:
        asked = compression.of_graph
        assert self._inputs.calibration is not None
        folder = f"pruned-{asked.channels:g}-{asked.multiple}"
        return Stage(
            kind=StageKind.CANONICALIZE,
            key=keys.pruning(
                asked,
                graph_sha256=self._inputs.source.record.sha256,
                images=self._inputs.calibration.identity,
                seed=self._seed,
            ),
            result=PrunedRecord,
            compute=lambda: self._computed(asked, folder),
            restore=lambda record, files: self._restored(record, files, folder),
            what=f"graph with {asked}",
            clock="channels",
            label=f"remove channels: {asked}",
        )

    def _computed(self, asked: WeightCompression, folder: str) -> Computed[PrunedRecord, FrozenGraph]:
        from edgefx.pruning.prune import prune

        assert self._inputs.calibration is not None
        found = prune(
            self._inputs.source.graph,
            self._inputs.calibration.get().pixels,
            share=asked.channels,
            multiple=asked.multiple,
            seed=self._seed,
            workdir=self._memo.workspace.scratch / folder,
            progress=self._memo.progress,
        )
        return Computed(
            value=PrunedRecord(graph=described(found.graph, notes=()), blocks=found.blocks),
            opened=found.graph,
            files=kept_files(found.graph),
        )

    def _restored(self, record: PrunedRecord, files: KeptFiles, folder: str) -> FrozenGraph:
        spec = replace(self._inputs.source.record.spec, macs=record.graph.spec.macs)
        found = replace(record.graph, spec=spec)  # its file may have been moved since the record was made
        return restored(found, files, self._memo.workspace.scratch / folder)
