"""The latency of artifacts that exist already: `edgefx benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx import runtimes
from edgefx.benchmarking import energy as energies
from edgefx.benchmarking import throughput
from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.phone import Phone
from edgefx.benchmarking.devices.protocol import Device
from edgefx.benchmarking.devices.remote import Remote
from edgefx.benchmarking.latency import measure
from edgefx.benchmarking.power_log import PowerLog
from edgefx.benchmarking.profiles import profiled, with_profile
from edgefx.benchmarking.throughput import Load
from edgefx.errors import BenchmarkError, EdgefxError, ExitCode, UsageError
from edgefx.measured import Latency, Throughput
from edgefx.pipeline.inspect import SUFFIXES, existing
from edgefx.protocols import Progress
from edgefx.report.text import counted
from edgefx.runtimes import hardware
from edgefx.runtimes.session import takes_images
from edgefx.system import cpu, host
from edgefx.types import Precision
from edgefx.views import Benchmark
from edgefx.vocabulary import Hardware


@dataclass(frozen=True, kw_only=True)
class Besides:
    """What is measured besides latency.

    Attributes:
        loads: Batches and streams under which throughput is measured.
        energy: Whether energy is, by the device's counters; or the file of a meter to do so.
        profile: Whether the runtimes' profilers are asked what is executed.
    """

    loads: Sequence[Load] = ()
    energy: PowerLog | bool = False
    profile: bool = False


def run(
    artifacts: Sequence[Path],
    progress: Progress,
    *,
    threads: Sequence[int],
    timing: Timing,
    device: DeviceChoice,
    besides: Besides,
) -> Benchmark:
    """Measure the batch-1 latency of artifacts on one machine, interleaved so that they compare.

    Args:
        artifacts: Main files of artifacts.
        progress: Where timed inferences and artifacts that cannot be measured are reported.
        threads: Intra-op threads of each runtime, each number in turn; none for all cores.
        timing: How much is timed.
        device: Where to measure.
        besides: What is measured besides latency.

    Raises:
        UsageError: A file does not exist, or no runtime opens it; or there is no such device.
        MissingDependencyError: No artifact could be measured, for want of a runtime.
        DeviceDependencyError: The same on a device.
        BenchmarkError: No artifact could be measured, for other reasons.
        DeviceError: The device cannot be reached, or is no longer there.
        DiskFullError: The device has no room for an artifact.
    """
    subjects = subjects_of(artifacts)
    if isinstance(besides.energy, PowerLog):
        besides.energy.check()
    with connected(device, progress) as there:
        return _measured(
            subjects,
            there,
            progress,
            threads=threads,
            timing=timing,
            besides=besides,
        )


def _measured(
    subjects: Sequence[Subject],
    there: Remote | Phone | None,
    progress: Progress,
    *,
    threads: Sequence[int],
    timing: Timing,
    besides: Besides,
) -> Benchmark:
    present = cpu.detect() if there is None else there.hardware
    device = HOST if there is None else there
    failures: dict[str, str] = {}
    lacking: list[EdgefxError] = []
    notes: list[str] = []

    def failed(subject: Subject, error: EdgefxError) -> None:
        failures[subject.key] = error.message
        if error.exit_code is ExitCode.MISSING_DEPENDENCY:
            lacking.append(error)
        progress.warn(error.message + (f" ({error.hint})" if error.hint else ""))

    def tell(note: str) -> None:
        notes.append(note)
        progress.warn(note)

    admissible = list(_with_threads(_admissible(subjects, present, device, failed, tell), threads))
    usual = host.cores() if there is None else there.threads
    used = threads[0] if len(threads) == 1 else usual
    measured = measure(
        admissible,
        timing,
        threads=used,
        progress=progress,
        on_failure=failed,
        device=device,
    )
    if not measured:
        raise next(iter(lacking), BenchmarkError("no artifact could be measured", details=failures.values()))
    profiles = {}
    if besides.profile:
        profiles = profiled(admissible, measured, progress=progress, on_failure=failed, device=device)
        measured = {key: with_profile(one, profiles.get(key)) for key, one in measured.items()}
    measured, throughputs = _besides(
        [one for one in admissible if one.key in measured],
        measured,
        besides,
        threads=used,
        divides=not threads,
        progress=progress,
        tell=tell,
        device=device,
    )
    return Benchmark(
        # Of a phone it names the tool that has measured.
        environment=host.environment() if there is None else there.environment,
        latencies=measured,
        failures=failures,
        device=device.name,
        hardware=present,
        notes=tuple(notes),
        profiles=profiles,
        throughputs=throughputs,
    )


def _besides(
    subjects: Sequence[Subject],
    latencies: Mapping[str, Latency],
    besides: Besides,
    *,
    threads: int,
    divides: bool,
    progress: Progress,
    tell: Callable[[str], None],
    device: Device,
) -> tuple[dict[str, Latency], dict[str, tuple[Throughput, ...]]]:
    """Measure energy and throughput, where they are asked for; what cannot be is only told."""

    def failed(_: Subject, error: EdgefxError) -> None:
        tell(error.message)

    found, throughputs = dict(latencies), {}
    if besides.energy:
        log = besides.energy if isinstance(besides.energy, PowerLog) else None
        found = energies.measured(
            subjects, latencies, log, progress=progress, on_failure=failed, device=device
        )
        if all(one.energy_mj is None for one in found.values()):
            tell(energies.NO_COUNTER)
    if besides.loads:
        throughputs = throughput.measure(
            subjects,
            besides.loads,
            threads=threads,
            divides=divides,
            progress=progress,
            on_failure=failed,
            device=device,
        )
    return found, throughputs


def _admissible(
    subjects: Sequence[Subject],
    present: Hardware,
    device: Device,
    failed: Callable[[Subject, EdgefxError], None],
    tell: Callable[[str], None],
) -> Iterator[Subject]:
    """Look at what files, which may be anyone's, declare and refer to, before a worker opens them."""
    for subject in subjects:
        try:
            found = runtimes.for_artifact(subject.path).describe(subject.path)
        except EdgefxError as error:
            failed(subject, error)
        else:
            if said := hardware.misfit(found.notes, present, device.name):
                tell(f"{subject.path}: {said}")
            is_classifier = takes_images(found)
            if is_classifier and (batch := found.inputs[0].shape[0]) > 1:
                tell(f"{subject.path}: takes {batch} images at a time: its latency is that of all {batch}")
            yield replace(subject, any_ends=not is_classifier)


def _with_threads(subjects: Iterable[Subject], counts: Sequence[int]) -> Iterator[Subject]:
    """Yield each subject once; with several numbers of threads once for each, with its name saying so."""
    if len(counts) < 2:
        yield from subjects
        return
    for subject in subjects:
        for count in counts:
            yield replace(
                subject,
                key=_named(subject.key, count),
                float_key=_named(subject.float_key, count) if subject.float_key else None,
                threads=count,
            )


def _named(key: str, threads: int) -> str:
    return f"{key} ({counted(threads, 'thread')})"


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
    found = [one for one in Precision if path.stem.endswith(f"-{one}")]
    return max(found, key=len, default=None)  # "weight-int8" ends in "int8"
