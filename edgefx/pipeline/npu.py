"""Compile an integer artifact for NPUs: `edgefx npu`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import compilers, runtimes
from edgefx.errors import EdgefxError, UsageError
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
_NPU_OP = "CUSTOM:ethos-u"  # all that an NPU does in one piece


def run(
    artifact: Path,
    rows: Sequence[NpuRow],
    progress: Progress,
    *,
    out: Path | None = None,
    system_config: str | None = None,
    memory_mode: str | None = None,
) -> NpuReport:
    """Compile an artifact for each of some NPUs, and write ``NAME-NPU.tflite`` and ``NAME-npu.json``.

    Args:
        artifact: An integer ``.tflite``.
        rows: The NPUs.
        progress: Where long work is reported.
        out: The folder to write to; by default the artifact's.
        system_config: Clock and memories that are assumed; by default those of each row.
        memory_mode: Where weights and activations are assumed to lie, likewise.

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
    configured = {
        row.name: compilers.load(row).configure(row, system_config=system_config, memory_mode=memory_mode)
        for row in rows
    }
    _check_integer(artifact, runtime.describe(artifact))
    with opened(out if out is not None else artifact.parent) as folder:
        results = []
        for row in rows:
            system, mode = configured[row.name]
            result = NpuResult(target=row.name, system_config=system, memory_mode=mode)
            failures: list[EdgefxError] = []
            with failing_alone(row.name, failures.append), progress.task(f"compile for {row.name}"):
                result = _compiled(result, row, artifact, runtime, folder)
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
    wanted: NpuResult, row: NpuRow, artifact: Path, runtime: Compilable, folder: OutputFolder
) -> NpuResult:
    """Compile an artifact for one NPU and publish what comes of it.

    Raises:
        EdgefxError: The compiler refused it, or the file cannot be written.
    """
    staged = folder.staging / f"{artifact.stem}-{row.name}{_SUFFIX}"
    estimate = compilers.load(row).compile(
        runtime.plain(artifact),
        staged,
        row,
        system_config=wanted.system_config,
        memory_mode=wanted.memory_mode,
    )
    metadata = runtime.read_metadata(artifact)
    if metadata is not None:
        runtime.embed(staged, replace(metadata, target=row.name))
    (path,) = folder.publish((staged,))
    made = replace(runtime.describe(path), target=row.name)
    on_cpu = tuple(op for op in made.ops if op.op != _NPU_OP)
    return replace(wanted, artifact=made, on_cpu=on_cpu, estimate=estimate)


def _check_integer(artifact: Path, described: Artifact) -> None:
    """Refuse what an NPU cannot compute.

    Raises:
        UsageError: It computes in float, or is compiled for an NPU already.
    """
    if any(op.op == _NPU_OP for op in described.ops):
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
