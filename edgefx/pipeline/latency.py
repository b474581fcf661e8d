"""The latency of a run's artifacts, measured in turn: figures compare only within one measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgefx import targets
from edgefx.benchmarking.devices.local import HOST
from edgefx.cache import keys
from edgefx.errors import EdgefxError
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.records import Latencies
from edgefx.pipeline.stages import Computed, Stage
from edgefx.protocols import Progress
from edgefx.types import Precision
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.benchmarking.devices.protocol import Device
    from edgefx.recipe.machines import BenchmarkSection
    from edgefx.results import Latency
    from edgefx.targets import TargetRow

_WARMUP = 10  # untimed inferences before the timed ones

# By target: the artifact, and the target of the float artifact that its latency is compared with.
Subjects: TypeAlias = Mapping[str, tuple[Candidate, str | None]]


def subjects_of(
    made: Mapping[str, Candidate], reference: Callable[[TargetRow], Candidate | None]
) -> Subjects:
    """Return what is measured in turn, with the float artifact that each latency is compared with.

    Args:
        made: The run's artifacts by target.
        reference: Gives the float32 artifact of a runtime that the run has none of.
    """
    subjects: dict[str, tuple[Candidate, str | None]] = {}
    for name, candidate in made.items():
        row = targets.TARGETS[f"{candidate.target.row.runtime}-{Precision.FLOAT32}"]
        if row.name not in made and row.name not in subjects:
            found = reference(row)
            if found is not None:
                subjects[row.name] = found, None
        subjects[name] = candidate, row.name
    return subjects


def latency_stage(
    subjects: Subjects,
    settings: BenchmarkSection,
    *,
    threads: int,
    builder: ArtifactBuilder,
    progress: Progress,
    on_failure: Callable[[str, EdgefxError], None],
) -> Stage[Latencies, None]:
    """Return the measurement of all subjects.

    Args:
        subjects: What to measure.
        settings: Rounds and time limit.
        threads: Intra-op threads.
        builder: Knows where the subjects' files are.
        progress: Counts the rounds.
        on_failure: Told which subject cannot be measured, and why. The others are, but for this run only.
    """

    def compute() -> Computed[Latencies, None]:
        failed: list[str] = []

        def failing(target: str, error: EdgefxError) -> None:
            failed.append(target)
            on_failure(target, error)

        measured = measured_latencies(
            subjects,
            settings,
            paths={name: builder.files(one)[0] for name, (one, _) in subjects.items()},
            threads=threads,
            progress=progress,
            on_failure=failing,
        )
        # A bad moment must not be repeated until someone empties the cache.
        lasting = not failed and not any(one.noisy for one in measured.values())
        return Computed(value=Latencies(latencies=measured), opened=None, lasting=lasting)

    return Stage(
        kind=StageKind.BENCHMARK,
        key=keys.benchmark(
            [(one.target.row, one.record.artifact, compared) for one, compared in subjects.values()],
            threads=threads,
            settings={
                "rounds": settings.rounds,
                "seconds": settings.seconds,
                "min_seconds": settings.min_seconds,
                "launches": settings.launches,
                "max_noise": settings.max_noise,
                "warmup": _WARMUP,
                "energy": settings.energy,
                "profile": settings.profile,
            },
        ),
        result=Latencies,
        compute=compute,
        what="latency of all targets",
    )


def measured_latencies(
    subjects: Subjects,
    settings: BenchmarkSection,
    *,
    paths: Mapping[str, Path],
    threads: int,
    progress: Progress,
    on_failure: Callable[[str, EdgefxError], None],
    device: Device = HOST,
) -> dict[str, Latency]:
    """Measure the latency of all subjects, here or on a device.

    Args:
        subjects: What to measure.
        settings: Rounds and time limit.
        paths: Their main files.
        threads: Intra-op threads.
        progress: Counts the rounds.
        on_failure: Told which subject cannot be measured, and why.
        device: Where.

    Raises:
        DeviceError: The device is no longer there.
    """
    from edgefx.benchmarking.asked import Subject, Timing
    from edgefx.benchmarking.latency import measure

    def failed(subject: Subject, error: EdgefxError) -> None:
        on_failure(subject.key, error)

    chosen = [
        Subject(key=name, path=paths[name], precision=one.target.row.precision, float_key=compared)
        for name, (one, compared) in subjects.items()
    ]
    latencies = measure(
        chosen,
        Timing(
            rounds=settings.rounds,
            least_s=settings.min_seconds,
            launches=settings.launches,
            warmup=_WARMUP,
            budget_s=settings.seconds,
            max_noise=settings.max_noise,
        ),
        threads=threads,
        progress=progress,
        on_failure=failed,
        device=device,
    )
    if settings.energy:
        from edgefx.benchmarking import energy

        latencies = energy.measured(
            chosen,
            latencies,
            None,
            progress=progress,
            on_failure=lambda _, error: progress.warn(error.message),
            device=device,
        )
        if all(one.energy_mj is None for one in latencies.values()):
            progress.warn(f"{device.name}: {energy.NO_COUNTER}")
    if not settings.profile:
        return latencies
    from edgefx.benchmarking.profiles import profiled, with_profile

    profiles = profiled(
        chosen,
        latencies,
        progress=progress,
        on_failure=lambda _, error: progress.warn(error.message),
        device=device,
    )
    return {name: with_profile(one, profiles.get(name)) for name, one in latencies.items()}
