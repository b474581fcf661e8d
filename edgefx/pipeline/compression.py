"""What few or zero weights bring and cost: an artifact beside the one that is made without.

Both are the same run's: the same calibration, the same evaluation images, the same compiler.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.cache import keys
from edgefx.compression import Compressed, CompressionEffect, Footprint
from edgefx.pipeline.stages import Computed, Stage
from edgefx.quantization import UNCOMPRESSED
from edgefx.runtimes.protocol import Compilable
from edgefx.targets import TARGETS
from edgefx.vocabulary import StageKind, TargetKind

if TYPE_CHECKING:
    from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
    from edgefx.pipeline.memo import Memo


def effect(candidate: Candidate, builder: ArtifactBuilder, memo: Memo) -> CompressionEffect:
    """Compare an artifact with the one whose weights are left as they are, which is made for that.

    Args:
        candidate: Compiled, where its target is a chip; not published yet.
        builder: Makes and measures the other one.
        memo: Keeps what is found.

    Raises:
        EdgefxError: The other one cannot be made, or one of them cannot be measured.
    """
    target = candidate.target
    scheme = replace(candidate.scheme, compression=UNCOMPRESSED)
    label = f"convert {target.name} without {target.compression}, to compare with"
    plain = builder.convert(replace(target, compression=UNCOMPRESSED), scheme, label=label)
    # What TFLM runs is told by the file alone, and it need not run the one that is only compared with.
    if target.row.kind is TargetKind.NPU:
        plain = builder.compile(plain)
    before = _described(plain, builder, memo)
    after = _described(candidate, builder, memo)
    images = _images(candidate, builder)
    return CompressionEffect(asked=str(target.compression), before=before, after=after, images=images)


def _described(candidate: Candidate, builder: ArtifactBuilder, memo: Memo) -> Compressed:
    found = Compressed(footprint=memo.get(_footprint(candidate, builder)))
    if builder.evaluates:
        accuracy = builder.measure(_for_its_runtime(candidate), f"{candidate.target.name}").accuracy
        found = replace(
            found,
            drop_pp=accuracy.drop_pp,
            drop_ci95_pp=accuracy.drop_ci95_pp,
            mean_kl=accuracy.mean_kl,
        )
    estimate = candidate.compiled.compilation.estimate if candidate.compiled is not None else None
    if estimate is not None:
        found = replace(found, flash_bytes=estimate.flash_bytes, npu_cycles=estimate.cycles)
    return found


def _images(candidate: Candidate, builder: ArtifactBuilder) -> int:
    if not builder.evaluates:
        return 0
    return builder.measure(_for_its_runtime(candidate), candidate.target.name).accuracy.images


def _for_its_runtime(candidate: Candidate) -> Candidate:
    """Return the integer artifact for the runtime, whose kernels are fast enough for all images."""
    target = candidate.target
    row = TARGETS[target.row.source]
    return replace(candidate, target=replace(target, row=row, eval_limit=None), compiled=None)


def _footprint(candidate: Candidate, builder: ArtifactBuilder) -> Stage[Footprint, None]:
    row, artifact = candidate.target.row, candidate.record.artifact

    def compute() -> Computed[Footprint, None]:
        runtime = runtimes.load(row)
        assert isinstance(runtime, Compilable)
        return Computed(value=runtime.footprint(builder.files(candidate)[0]), opened=None)

    return Stage(
        kind=StageKind.CONVERT,
        key=keys.footprint(row, artifact),
        result=Footprint,
        compute=compute,
        target=row.name,
        what="footprint",
        clock=None,
    )
