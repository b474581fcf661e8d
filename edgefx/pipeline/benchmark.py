"""The latency of artifacts that exist already: `edgefx benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgefx import runtimes
from edgefx.benchmarking.latency import Subject, measure
from edgefx.errors import BenchmarkError, EdgefxError, MissingDependencyError, UsageError
from edgefx.pipeline.inspect import SUFFIXES, existing
from edgefx.protocols import Progress
from edgefx.system.host import environment
from edgefx.types import Precision
from edgefx.views import Benchmark


def run(
    artifacts: Sequence[Path],
    progress: Progress,
    *,
    threads: int,
    rounds: int,
    warmup: int,
    seconds: float,
) -> Benchmark:
    """Measure the batch-1 latency of artifacts on this machine, interleaved so that they compare.

    Args:
        artifacts: Main files of artifacts.
        progress: Where timed inferences and artifacts that cannot be measured are reported.
        threads: Intra-op threads of each runtime.
        rounds: Timed inferences of each artifact.
        warmup: Inferences before the timed ones.
        seconds: Time limit of all timed inferences together; slow artifacts then get fewer rounds.

    Raises:
        UsageError: A file does not exist, or no runtime opens it.
        MissingDependencyError: No artifact could be measured, for want of a runtime.
        BenchmarkError: No artifact could be measured, for other reasons.
    """
    failures: dict[str, str] = {}

    def failed(subject: Subject, error: BenchmarkError) -> None:
        failures[subject.key] = error.message
        progress.warn(error.message + (f" ({error.hint})" if error.hint else ""))

    admissible = []
    lacking: MissingDependencyError | None = None
    for subject in subjects_of(artifacts):
        try:  # a look at what a file, which may be anyone's, declares and refers to, before a worker opens it
            runtimes.for_artifact(subject.path).describe(subject.path)
            admissible.append(subject)
        except EdgefxError as error:
            failed(subject, BenchmarkError(error.message, hint=error.hint))
            if isinstance(error, MissingDependencyError):
                lacking = lacking or error
    measured = measure(
        admissible,
        threads=threads,
        rounds=rounds,
        warmup=warmup,
        budget_s=seconds,
        progress=progress,
        on_failure=failed,
    )
    if not measured:
        if lacking is not None:
            raise lacking
        raise BenchmarkError("no artifact could be measured", details=failures.values())
    return Benchmark(environment=environment(), latencies=measured, failures=failures)


def subjects_of(artifacts: Sequence[Path]) -> list[Subject]:
    """Pair each artifact with the float32 artifact of its runtime, by the names that `compile` gives.

    Raises:
        UsageError: A file does not exist, or no runtime opens it.
    """
    if not artifacts:
        raise UsageError("no artifact given", hint="name one or more .tflite, .onnx or OpenVINO .xml files")
    given = list(dict.fromkeys(artifacts))
    for path in given:
        if existing(path).suffix not in SUFFIXES:
            raise UsageError(
                f"{path}: not an artifact edgefx can open",
                hint="expected a .tflite, .onnx or OpenVINO .xml file",
            )
    floats = {path.suffix: str(path) for path in given if _precision(path) is Precision.FLOAT32}
    return [
        Subject(key=str(path), path=path, precision=_precision(path), float_key=floats.get(path.suffix))
        for path in given
    ]


def _precision(path: Path) -> Precision | None:
    """Return the precision that `compile` put into the file's name, if it did."""
    name = path.stem.rpartition("-")[2]
    return Precision(name) if name in set(Precision) else None
