"""Compile an integer artifact for NPUs: `edgefx npu`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import compilers, runtimes
from edgefx.errors import EdgefxError, UsageError
from edgefx.npus import NPU_DEFAULTS, NpuOptions
from edgefx.pipeline.compiled import NPU_OP, compile_file, left_to_cpu
from edgefx.pipeline.inspect import existing
from edgefx.pipeline.output import OutputFolder, opened
from edgefx.pipeline.search import failing_alone
from edgefx.protocols import Progress
from edgefx.provenance import reports
from edgefx.results import Accuracy, Failure
from edgefx.runtimes.protocol import Compilable
from edgefx.shipments import NpuReport, NpuResult
from edgefx.storage.atomic import write_text
from edgefx.storage.hashes import hash_file
from edgefx.storage.serde import dumps
from edgefx.types import Artifact
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.npus import NpuRow

VERSION = 1
_SUFFIX = ".tflite"


def run(
    artifact: Path,
    rows: Sequence[NpuRow],
    progress: Progress,
    *,
    out: Path | None = None,
    options: NpuOptions = NPU_DEFAULTS,
) -> NpuReport:
    """Compile an artifact for each of some NPUs, and write ``NAME-NPU.tflite`` and ``NAME-npu.json``.

    Args:
        artifact: An integer ``.tflite``.
        rows: The NPUs.
        progress: Where long work is reported.
        out: The folder to write to; by default the artifact's.
        options: What the compiler is told; by default as each row says.

    Returns:
        What was made; an NPU that failed is in it with the reason.

    Raises:
        UsageError: There is no such file, or it is no integer artifact; or an NPU has no such configuration.
        MissingDependencyError: The compiler is not installed.
        ArtifactError: The file is damaged.
        OutputError: The folder cannot be written.
    """
    existing(artifact)
    runtime = runtimes.for_artifact(artifact)
    if not isinstance(runtime, Compilable):
        raise UsageError(f"{artifact}: NPUs take a .tflite file", hint="compile for the target tflite-int8")
    version = {compilers.load(row).check() for row in rows}.pop()
    configured = {row.name: compilers.load(row).configure(row.name, options) for row in rows}
    _check_integer(artifact, runtime.describe(artifact))
    with opened(out if out is not None else artifact.parent) as folder:
        results = []
        for row in rows:
            wanted = configured[row.name]
            result = NpuResult(
                target=row.name,
                system_config=wanted.system_config or "",
                memory_mode=wanted.memory_mode or "",
                optimise=wanted.optimise or "",
            )
            failures: list[EdgefxError] = []
            with failing_alone(row.name, failures.append), progress.task(f"compile for {row.name}"):
                result = _compiled(result, row, wanted, artifact=artifact, runtime=runtime, folder=folder)
            for error in failures:
                progress.warn(f"{row.name}: {error.message}")
                failure = Failure(stage=StageKind.CONVERT, message=error.message, hint=error.hint)
                result = replace(result, failure=failure)
            results.append(result)
        sha256 = hash_file(artifact)
        target, accuracy = _measured(artifact.parent, sha256)
        report = NpuReport(
            schema_version=VERSION,
            source=artifact,
            source_sha256=sha256,
            compiler=version,
            results=tuple(results),
            measured_target=target,
            accuracy=accuracy,
        )
        write_text(folder.path / f"{artifact.stem}-npu.json", dumps(report, root=folder.path))
    return report


def _compiled(
    result: NpuResult,
    row: NpuRow,
    options: NpuOptions,
    *,
    artifact: Path,
    runtime: Compilable,
    folder: OutputFolder,
) -> NpuResult:
    """Compile an artifact for one NPU and publish what comes of it.

    Raises:
        EdgefxError: The compiler refused it, or the file cannot be written.
    """
    staged = folder.staging / f"{artifact.stem}-{row.name}{_SUFFIX}"
    _, compiled = compile_file(row, runtime, artifact, staged, options)
    metadata = runtime.read_metadata(artifact)
    if metadata is not None:
        runtime.embed(staged, replace(metadata, target=row.name))
    (path,) = folder.publish((staged,))
    made = replace(runtime.describe(path), target=row.name)
    return replace(
        result,
        artifact=made,
        on_cpu=left_to_cpu(made),
        estimate=compiled.estimate,
        placements=compiled.placements,
    )


def _check_integer(artifact: Path, described: Artifact) -> None:
    """Refuse what an NPU cannot compute.

    Raises:
        UsageError: It computes in float, or is compiled for an NPU already.
    """
    if any(op.op == NPU_OP for op in described.ops):
        raise UsageError(
            f"{artifact} is compiled for an NPU already", hint="give the file that it was made from"
        )
    if described.compute_float:
        raise UsageError(
            f"{artifact} has {described.compute_float} operations that compute in float, which an NPU leaves"
            " to the CPU",
            hint="compile for tflite-int8 with --integer-only",
        )


def _measured(folder: Path, sha256: str) -> tuple[str | None, Accuracy | None]:
    """Return what the run that made an artifact calls it, and its accuracy; None where that is unknown."""
    try:
        report, _ = reports.read(folder)
    except UsageError:  # no run's folder: nothing is known of the artifact
        return None, None
    for result in report:
        if result.artifact is not None and result.artifact.files[0].sha256 == sha256:
            return result.target, result.accuracy
    return None, None
