"""The step behind the conversion where a target is a chip: the integer artifact goes through a compiler.

Nothing here can run what is made for an NPU. What is measured is measured of the integer artifact, which a
target of a runtime shares where a run has both. What is for a microcontroller is run by the same interpreter
on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import compilers, runtimes
from edgefx.cache import keys
from edgefx.compilation import Compilation, Parity
from edgefx.compilers.protocol import Native
from edgefx.pipeline.finish import Files
from edgefx.pipeline.records import CompiledRecord
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.runtimes.protocol import Compilable
from edgefx.storage.hashes import hash_file
from edgefx.targets import TargetRow
from edgefx.types import ArtifactFile, OpCount
from edgefx.vocabulary import Optimise, StageKind, TargetKind

if TYPE_CHECKING:
    from edgefx.compilers.protocol import Compiled
    from edgefx.npus import NpuOptions, NpuRow
    from edgefx.pipeline.plan import PlannedTarget
    from edgefx.types import Artifact

_COMPARED = 8  # images
NPU_OP = "CUSTOM:ethos-u"  # all that an NPU does in one piece


def compile_file(
    row: NpuRow | TargetRow, runtime: Compilable, source: Path, out: Path, options: NpuOptions
) -> tuple[Artifact, Compiled]:
    """Compile an integer artifact.

    Args:
        row: What for.
        runtime: The artifact's runtime.
        source: The artifact.
        out: The file to write; it has no metadata.
        options: From `Compiler.configure`.

    Raises:
        EdgefxError: The compiler refused it, or the file cannot be written.
    """
    is_mcu = isinstance(row, TargetRow) and row.kind is TargetKind.MCU
    content = (
        runtime.for_microcontrollers(source, packed=options.optimise is Optimise.SIZE)
        if is_mcu
        else runtime.plain(source)
    )
    compiled = compilers.load(row).compile(content, out, row.name, options)
    return replace(_described(runtime, source, out), target=row.name), compiled


def _described(runtime: Compilable, source: Path, out: Path) -> Artifact:
    """Return the description of what was compiled: that of its source, where the runtime cannot read it."""
    if out.suffix == source.suffix:
        return runtime.describe(out)
    file = ArtifactFile(path=out, size_bytes=out.stat().st_size, sha256=hash_file(out))
    return replace(runtime.describe(source), files=(file,), ops=())


def _parity(row: TargetRow, runtime: Compilable, source: Path, out: Path) -> Parity | None:
    """Compare machine code with the artifact that it was made from, on images of noise.

    Returns:
        None where this machine does not run it.
    """
    import numpy as np

    from edgefx.runtimes.session import shifted

    compiler = compilers.load(row)
    if not isinstance(compiler, Native):
        return None
    described = runtime.describe(source)
    image, output = described.inputs[0], described.outputs[0]
    shape = (_COMPARED, *image.shape[1:3], 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    stored = compiler.answers(out, row.name, shifted(pixels))
    if stored is None:
        return None
    scale, zero_point = output.scale or 1.0, output.zero_point or 0
    scores = (stored.astype(np.float32) - zero_point) * np.float32(scale)
    found = []
    for opened in (
        runtime.open_session(source, threads=1, precision=row.precision),
        runtime.open_reference(source),
    ):
        with opened as session:
            found.append(np.concatenate([session.infer(one[None]) for one in pixels]))
    fast, reference = found
    return Parity(
        images=_COMPARED,
        identical=int((fast == scores).all(axis=1).sum()),
        identical_to_reference=int((reference == scores).all(axis=1).sum()),
        largest_step=round(float(np.abs(fast - scores).max()) / scale),
    )


def left_to_cpu(compiled: Artifact) -> tuple[OpCount, ...]:
    """Return the operations of a compiled artifact that the NPU does not compute."""
    return tuple(op for op in compiled.ops if op.op != NPU_OP)


def stage(
    target: PlannedTarget,
    source: Artifact,
    *,
    name: str,
    folder: Callable[[], Path],
    files: Callable[[], Files],
) -> Stage[CompiledRecord, Files]:
    """Return the stage that compiles the artifact of a target.

    Args:
        target: What it is for.
        source: The integer artifact, its paths bare names.
        name: The model's name.
        folder: Returns where the compiled file is staged; it is made.
        files: Returns the artifact's files.
    """
    row = target.row
    compiler, is_npu = compilers.load(row), row.kind is TargetKind.NPU
    options = compiler.configure(row.name, target.npu)
    by_default = target.npu.unsaid if is_npu else ()

    def compute() -> Computed[CompiledRecord, Files]:
        runtime = runtimes.load(row)
        assert isinstance(runtime, Compilable)
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        out = place / f"{name}-{row.name}{row.compiled_suffix or row.suffix}"
        made, compiled = compile_file(row, runtime, files()[0], out, options)
        (file,) = made.files
        record = CompiledRecord(
            artifact=replace(
                made,
                files=(replace(file, path=Path(file.path.name)),),
                int8_macs_share=source.int8_macs_share,  # the same arithmetic, on another processor
            ),
            compilation=Compilation(
                compiler=compiler.check(),
                source=row.source,
                source_sha256=source.files[0].sha256,
                operations=sum(op.count for op in source.ops),
                on_cpu=sum(op.count for op in left_to_cpu(made)) if is_npu else 0,
                options=options.said,
                by_default=by_default,
                placements=compiled.placements,
                estimate=compiled.estimate,
                arena=compiled.arena,
                operators=runtime.operators(out) if row.kind is TargetKind.MCU else (),
                parity=_parity(row, runtime, files()[0], out),
            ),
        )
        return Computed(value=record, opened=(out,), files={out.name: out})

    def restore(record: CompiledRecord, kept: KeptFiles) -> Files:
        (file,) = record.artifact.files
        kept.copy(folder(), {file.path.name: file.sha256})
        return (folder() / file.path.name,)

    return Stage(
        kind=StageKind.CONVERT,
        key=keys.compilation(row, source, options, by_default=by_default, name=name),
        result=CompiledRecord,
        compute=compute,
        restore=restore,
        target=row.name,
        what="compilation",
        clock=row.name,
        label=f"compile for {row.name}",
    )
