"""Latency of several artifacts on one device, interleaved in one run, with what noise does to it.

On a shared machine the speed drifts by tens of percent within seconds, so that figures taken one artifact
after the other do not compare. Each artifact therefore lives in a worker process of its own
(`edgefx.benchmarking.worker`); the workers are asked in turn for a few inferences at a time, back and forth,
and idle ones block on their stdin. Drift then hits all of them alike and cancels in ratios.

What is left shows in the medians of the passes: a measurement whose passes disagree is made again while there
is time, the quietest is kept, and it says of itself when even that was noisy. Processes differ, too, and all
of one process is alike: each artifact is launched several times (`edgefx.benchmarking.repeats`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median, pstdev

from edgefx.benchmarking.asked import Subject, Timing
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device, Measurer, Runner, Stats, Timed
from edgefx.benchmarking.repeats import median_interval, percentile, ratio, ratio_interval
from edgefx.benchmarking.schedule import Schedule, schedule
from edgefx.errors import BenchmarkError
from edgefx.latency_histogram import LatencyHistogram
from edgefx.protocols import SILENT, Progress, Task
from edgefx.results import Latency

_FEWEST_PASSES = 10  # that tell noise from chance
_MOST_TRIES = 3  # measurements, where they are noisy
_STILL_FASTER = 0.95  # of the group before: an artifact is not warm yet
_MOST_GROUPS = 10  # of warm-up
_WARMUP_S = 2.0  # after which no further group begins


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """The inferences before the timed ones: `done` says whether they had stopped getting faster."""

    rounds: int = 0
    last_ms: float | None = None
    done: bool | None = None


def warm(worker: Runner, rounds: int) -> Warmup:
    """Run an artifact until it does not get faster any more.

    Args:
        worker: Has it open.
        rounds: The least number of inferences; with none there is no warm-up. They are divided in two groups,
            and others of that size follow as long as the median of the last is clearly below that of the one
            before, but for no longer than two seconds.

    Raises:
        BenchmarkError: The worker failed.
    """
    if rounds < 2:
        times = worker.run(rounds) if rounds else []
        return Warmup(rounds=len(times), last_ms=times[0] if times else None)
    size, begun = rounds // 2, time.monotonic()
    before, last = median(worker.run(rounds - size)), median(worker.run(size))
    groups = 2
    while last < _STILL_FASTER * before:
        if groups == _MOST_GROUPS or time.monotonic() - begun > _WARMUP_S:
            return Warmup(rounds=rounds + (groups - 2) * size, last_ms=last, done=False)
        before, last = last, median(worker.run(size))
        groups += 1
    return Warmup(rounds=rounds + (groups - 2) * size, last_ms=last, done=True)


@dataclass(kw_only=True)
class _Running:
    """A subject, its process in this launch, and what that has measured so far."""

    subject: Subject
    worker: Runner
    cold_start_ms: float
    warmup: Warmup
    estimate_ms: float
    passes: list[Timed] = field(default_factory=list)
    stats: Stats | None = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The launches of one subject."""

    launches: tuple[_Running, ...]

    @property
    def passes(self) -> list[Timed]:
        """Those of all launches."""
        return [one for launch in self.launches for one in launch.passes]

    @property
    def times_ms(self) -> list[float]:
        """All timed inferences."""
        return [time for one in self.passes for time in one.times_ms]

    @property
    def medians(self) -> list[list[float]]:
        """The median of each pass, launch by launch."""
        return [[median(one.times_ms) for one in launch.passes] for launch in self.launches]

    @property
    def noise(self) -> float:
        """How far the passes disagree: see `Latency.noise`."""
        medians = [one for launch in self.medians for one in launch]
        if len(medians) < _FEWEST_PASSES:
            return 0.0
        return (percentile(medians, 0.75) - percentile(medians, 0.25)) / median(medians)


def measure(
    subjects: Sequence[Subject],
    timing: Timing,
    *,
    threads: int,
    progress: Progress,
    on_failure: Callable[[Subject, BenchmarkError], None] | None = None,
    device: Device = HOST,
) -> dict[str, Latency]:
    """Measure batch-1 latency of all subjects, interleaved.

    Args:
        subjects: What to measure; keys must differ.
        timing: How much is timed.
        threads: Intra-op threads of each runtime.
        progress: Where every timed inference is reported.
        on_failure: Called for a subject whose worker failed; the others go on. Without it the first
            failure is raised.
        device: Where to measure.

    Returns:
        Results by key, without the failed subjects.

    Raises:
        BenchmarkError: A worker died, hung, or could not open its artifact.
        DeviceError: The device is no longer there.
    """

    def failed(subject: Subject, error: BenchmarkError) -> None:
        if on_failure is None:
            raise error
        on_failure(subject, error)

    if isinstance(device, Measurer):
        return device.measure(subjects, timing, threads=threads, progress=progress, on_failure=failed)
    measurement = _Measurement(
        list(subjects), timing, threads=threads, progress=progress, on_failure=failed, device=device
    )
    quietest: dict[str, _Found] = {}
    begun, least = time.monotonic(), math.inf
    for number in range(_MOST_TRIES):
        found = measurement.once("latency" if number == 0 else "latency, again, as it was noisy")
        noise = max((one.noise for one in found.values()), default=0.0)
        if noise < least:
            least, quietest = noise, found
        took = (time.monotonic() - begun) / (number + 1)
        if noise <= timing.max_noise or (number + 2) * took > timing.budget_s:
            break
    # One that failed in a later try has no result, as if it had in the first.
    return _results(
        {key: one for key, one in quietest.items() if key in found},
        device.name,
        threads,
        max_noise=timing.max_noise,
    )


class _Measurement:
    """Launches of all artifacts, one launch of each at the same time."""

    def __init__(
        self,
        subjects: list[Subject],
        timing: Timing,
        *,
        threads: int,
        progress: Progress,
        on_failure: Callable[[Subject, BenchmarkError], None],
        device: Device,
    ) -> None:
        self._subjects, self._timing, self._threads = subjects, timing, threads
        self._progress, self._on_failure, self._device = progress, on_failure, device
        self._plan: Schedule | None = None
        self._place: dict[str, int] = {}  # in the plan, by key

    def once(self, label: str) -> dict[str, _Found]:
        """Measure; returns what was found by key, without those that failed."""
        begun = time.monotonic()
        with ExitStack() as stack:
            running = self._start(stack, self._progress)
            plan = self._plan = self._plan or self._scheduled(running, time.monotonic() - begun)
            launched = [running]
            with self._progress.task(label, sum(plan.counts)) as task:
                for launch in range(plan.launches):
                    if launch:
                        stack.close()  # a launch begins when the processes of the last one have ended
                        launched.append(self._start(stack, SILENT))
                    self._go_around(launched[-1], launch, plan, task)
        return {
            subject.key: _Found(
                launches=tuple(one for launch in launched for one in launch if one.subject is subject)
            )
            for subject in self._subjects
        }

    def _scheduled(self, running: Sequence[_Running], start_s: float) -> Schedule:
        timing = self._timing
        affordable = 1 + int(timing.budget_s / max(start_s, 1e-3))  # launches of large models take long
        self._place = {one.subject.key: place for place, one in enumerate(running)}
        return schedule(
            [one.estimate_ms for one in running],
            rounds=timing.rounds,
            least_s=timing.least_s,
            budget_s=timing.budget_s,
            launches=min(timing.launches, affordable),
        )

    def _go_around(self, running: Sequence[_Running], launch: int, plan: Schedule, task: Task) -> None:
        """Time all artifacts in turn, back and forth: no artifact always follows another."""
        for number in range(plan.passes):
            for one in running if number % 2 == 0 else running[::-1]:
                if one.subject not in self._subjects:
                    continue
                count = plan.in_pass(self._place[one.subject.key], launch, number)
                try:
                    one.passes.append(one.worker.timed(count, plan.pass_ms))
                    if number == plan.passes - 1:
                        one.stats = one.worker.stats()
                except BenchmarkError as error:
                    self._failed(one.subject, error)
                task.advance(count)

    def _failed(self, subject: Subject, error: BenchmarkError) -> None:
        self._on_failure(subject, error)
        self._subjects.remove(subject)

    def _start(self, stack: ExitStack, progress: Progress) -> list[_Running]:
        """Start all workers, then open the artifacts one at a time: a cold start is measured undisturbed."""
        running = []
        with progress.task("start latency workers", len(self._subjects)) as task:
            workers: list[tuple[Subject, Runner]] = []
            for subject in tuple(self._subjects):
                with self._passing_over(subject):
                    started = self._device.start(
                        subject.path,
                        subject.threads or self._threads,
                        subject.precision,
                        any_ends=subject.any_ends,
                    )
                    workers.append((subject, stack.enter_context(started)))
            for subject, worker in workers:
                with self._passing_over(subject):
                    worker.wait_ready()
            for subject, worker in workers:
                if subject in self._subjects:
                    with self._passing_over(subject):
                        cold = worker.open()
                        warmed = warm(worker, self._timing.warmup)
                        running.append(
                            _Running(
                                subject=subject,
                                worker=worker,
                                cold_start_ms=cold,
                                warmup=warmed,
                                estimate_ms=warmed.last_ms or cold,
                            )
                        )
                task.advance()
        return running

    @contextmanager
    def _passing_over(self, subject: Subject) -> Iterator[None]:
        try:
            yield
        except BenchmarkError as error:
            self._failed(subject, error)


def _results(
    found: Mapping[str, _Found], device: str, threads: int, *, max_noise: float
) -> dict[str, Latency]:
    results = {}
    for key, one in found.items():
        subject = one.launches[0].subject
        reference = found.get(subject.float_key or "")
        noise = max(one.noise, reference.noise if reference else 0.0)
        results[key] = replace(
            _latency(one, device, subject.threads or threads),
            ratio_to_float=ratio(one.medians, reference.medians) if reference else None,
            ratio_ci95=ratio_interval(one.medians, reference.medians) if reference else None,
            noise=noise,
            noisy=noise > max_noise,
        )
    return results


def _latency(found: _Found, device: str, threads: int) -> Latency:
    """Return what was measured of an artifact alone."""
    times, launches = found.times_ms, found.launches
    stats = [one.stats for one in launches if one.stats is not None]
    cold = sorted(launches, key=lambda one: one.cold_start_ms)[len(launches) // 2]
    busy = sum(one.cpu_ms for one in found.passes) / max(1e-9, sum(one.wall_ms for one in found.passes))
    return Latency(
        device=device,
        threads=threads,
        rounds=len(times),
        p50_ms=median(times),
        p50_ci95_ms=median_interval(found.medians),
        p95_ms=percentile(times, 0.95),
        p99_ms=percentile(times, 0.99),
        p90_ms=percentile(times, 0.90),
        std_ms=pstdev(times),
        min_ms=min(times),
        cold_start_ms=cold.cold_start_ms,
        peak_memory_mb=max(one.peak_memory_mb for one in stats),
        model_memory_mb=max(one.peak_memory_mb - one.runtime_memory_mb for one in stats),
        precision_ran=stats[0].precision_ran,
        cpu_utilization=busy / stats[0].cores,
        load_ms=cold.worker.load_ms,
        first_ms=None if cold.worker.load_ms is None else cold.cold_start_ms - cold.worker.load_ms,
        warmup_rounds=sum(one.warmup.rounds for one in launches),
        warmed_up=_all_warm([one.warmup.done for one in launches]),
        timed_ms=sum(times),
        launches=len(launches),
        histogram=LatencyHistogram.of(times),
    )


def _all_warm(told: Sequence[bool | None]) -> bool | None:
    """Whether every launch was warm; None where one could not tell, and none was not."""
    return False if False in told else None if None in told else True
