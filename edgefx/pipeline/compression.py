"""What few or zero weights and fewer channels bring and cost: an artifact beside the one made without.

Both are the same run's: the same calibration, the same evaluation images, the same compiler, and where
channels were removed latencies that were measured in turn.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.cache import keys
from edgefx.compression import ChannelRemoval, Compressed, CompressionEffect, Footprint
from edgefx.pipeline.latency import Subjects
from edgefx.pipeline.stages import Computed, Stage
from edgefx.quantization import UNCOMPRESSED
from edgefx.runtimes.protocol import Compilable
from edgefx.targets import TARGETS
from edgefx.types import Precision
from edgefx.vocabulary import StageKind, TargetKind

if TYPE_CHECKING:
    from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
    from edgefx.pipeline.memo import Memo
    from edgefx.results import Latency


class Compressions:
    """What is compared of a run's artifacts whose weights or channels are fewer.

    Args:
        builder: Makes and measures those without.
        memo: Keeps what is found.
    """

    def __init__(self, builder: ArtifactBuilder, memo: Memo) -> None:
        self._builder = builder
        self._memo = memo
        self._effects: dict[str, CompressionEffect] = {}
        self._plain: dict[str, Candidate] = {}

    def compare(self, candidate: Candidate) -> None:
        """Compare an artifact with the one whose weights are left as they are, which is made for that.

        Args:
            candidate: Compiled, where its target is a chip; not published yet.

        Raises:
            EdgefxError: The other one cannot be made, or one of them cannot be measured.
        """
        target = candidate.target
        if not target.applied:
            return
        plain = self._without(candidate)
        self._effects[target.name] = CompressionEffect(
            asked=str(target.applied),
            before=self._described(plain),
            after=self._described(candidate),
            images=self._images(candidate),
            removal=self._removal(candidate) if target.applied.narrows else None,
        )
        if target.applied.narrows and not target.row.is_compiled:  # else no operation is another
            self._plain[target.name] = plain

    def subjects(self, made: Collection[str]) -> Subjects:
        """Return what is measured in turn with the run's artifacts: those with all channels.

        Args:
            made: Targets whose artifacts are measured.
        """
        return {_whole(name): (one, name) for name, one in self._plain.items() if name in made}

    def effect(self, name: str, latencies: Mapping[str, Latency]) -> CompressionEffect | None:
        """Return what was found of a target; None where nothing was to be compressed.

        Args:
            name: The target.
            latencies: What was measured, by subject.
        """
        effect = self._effects.get(name)
        before, after = latencies.get(_whole(name)), latencies.get(name)
        if effect is None or before is None or after is None or not before.ratio_to_float:
            return effect
        slower = before.ratio_ci95  # the artifact with all channels over this one
        effect = replace(
            effect,
            before=replace(effect.before, p50_ms=before.p50_ms),
            after=replace(effect.after, p50_ms=after.p50_ms),
        )
        if before.noisy or slower is None:
            return effect
        return replace(
            effect, latency_ratio=1 / before.ratio_to_float, latency_ci95=(1 / slower[1], 1 / slower[0])
        )

    def _without(self, candidate: Candidate) -> Candidate:
        target = candidate.target
        scheme = replace(candidate.scheme, compression=UNCOMPRESSED)
        label = f"convert {target.name} without {target.applied}, to compare with"
        plain = self._builder.convert(replace(target, compression=UNCOMPRESSED), scheme, label=label)
        # What TFLM runs is told by the file alone, and it need not run the one that is only compared with.
        return self._builder.compile(plain) if target.row.kind is TargetKind.NPU else plain

    def _described(self, candidate: Candidate) -> Compressed:
        found = Compressed(footprint=self._memo.get(self._footprint(candidate)))
        if self._builder.evaluates:
            accuracy = self._builder.measure(_for_its_runtime(candidate), f"{candidate.target.name}").accuracy
            found = replace(
                found,
                drop_pp=accuracy.drop_pp,
                drop_ci95_pp=accuracy.drop_ci95_pp,
                mean_kl=accuracy.mean_kl,
            )
        estimate = candidate.compiled.compilation.estimate if candidate.compiled is not None else None
        if estimate is not None:
            found = replace(
                found,
                flash_bytes=estimate.flash_bytes,
                npu_cycles=estimate.cycles,
                npu_ms=estimate.inference_ms,
            )
        return found

    def _images(self, candidate: Candidate) -> int:
        if not self._builder.evaluates:
            return 0
        return self._builder.measure(_for_its_runtime(candidate), candidate.target.name).accuracy.images

    def _removal(self, candidate: Candidate) -> ChannelRemoval:
        """Say what was removed, and what that alone costs: by the float artifact of what is left."""
        compression, graphs = candidate.target.applied, self._builder.graphs
        pruned, whole = graphs.pruned(compression), graphs.record(UNCOMPRESSED)
        found = ChannelRemoval(
            blocks=pruned.blocks,
            parameters_before=sum(layer.parameters for layer in whole.layers),
            parameters_after=sum(layer.parameters for layer in pruned.graph.layers),
            macs_before=whole.spec.macs,
            macs_after=pruned.graph.spec.macs,
        )
        if not self._builder.evaluates:
            return found
        row = TARGETS[f"{candidate.target.row.runtime}-{Precision.FLOAT32}"]
        label = f"{row.name} with fewer channels"
        accuracy = self._builder.measure(self._builder.reference(row, compression), label).accuracy
        return replace(
            found,
            drop_pp=accuracy.drop_pp,
            drop_ci95_pp=accuracy.drop_ci95_pp,
            mean_kl=accuracy.mean_kl,
        )

    def _footprint(self, candidate: Candidate) -> Stage[Footprint, None]:
        row, artifact = candidate.target.row, candidate.record.artifact

        def compute() -> Computed[Footprint, None]:
            files, runtime = self._builder.files(candidate), runtimes.load(row)
            if row.compresses_weights and isinstance(runtime, Compilable):
                return Computed(value=runtime.footprint(files[0]), opened=None)
            contents = [file.read_bytes() for file in files]
            zipped = sum(len(zlib.compress(content, 9)) for content in contents)
            size = sum(len(content) for content in contents)
            return Computed(value=Footprint(size_bytes=size, zipped_bytes=zipped), opened=None)

        return Stage(
            kind=StageKind.CONVERT,
            key=keys.footprint(row, artifact),
            result=Footprint,
            compute=compute,
            target=row.name,
            what="footprint",
            clock=None,
        )


def _for_its_runtime(candidate: Candidate) -> Candidate:
    """Return the integer artifact for the runtime, whose kernels are fast enough for all images."""
    target = candidate.target
    row = TARGETS[target.row.source]
    return replace(candidate, target=replace(target, row=row, eval_limit=None), compiled=None)


def _whole(name: str) -> str:
    """Return what the artifact with all channels is called where latencies are measured."""
    return f"{name} with all channels"
