"""Latency of several artifacts on one device, interleaved in one run, with what noise does to it.

On a shared machine the speed drifts by tens of percent within seconds, so that figures taken one artifact
after the other do not compare. Each artifact therefore lives in a worker process of its own
(`edgefx.benchmarking.worker`); the workers are asked in turn for a few inferences at a time, back and forth,
and idle ones block on their stdin. Drift then hits all of them alike and cancels in ratios.

What is left shows in the medians of the passes: a measurement whose passes disagree is made again while there
is time, the quietest is kept, and it says of itself when even that was noisy. Intervals of ratios are
bootstrapped over passes (Efron, "Bootstrap methods: another look at the jackknife", 1979), not over single
inferences, which are not independent: what disturbs one disturbs its neighbours.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, pstdev

from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device, Runner
from edgefx.errors import BenchmarkError
from edgefx.histogram import LatencyHistogram
from edgefx.protocols import Progress, Task
from edgefx.results import Latency
from edgefx.types import Precision

PASSES = 20  # how many times the measurement goes around all artifacts
MIN_ROUNDS = 5  # measured of each artifact, whatever the budget
NOISY = 0.25  # `Latency.noise` above which figures are not to be relied on, by default
_FEWEST_PASSES = 10  # that tell noise from chance
_MOST_TRIES = 3  # measurements, where they are noisy
_RESAMPLES = 1000  # of the bootstrap
_STILL_FASTER = 0.95  # of the group before: an artifact is not warm yet
_MOST_GROUPS = 10  # of warm-up
_WARMUP_S = 2.0  # after which no further group begins


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An artifact to measure.

    Attributes:
        key: How the caller finds its result.
        path: The artifact's main file.
        precision: What the target asked for, if known.
        float_key: Key of the same runtime's float32 artifact in this run, for `Latency.ratio_to_float`.
        threads: Its intra-op threads; None for those of the measurement.
        any_ends: Whether it is something else than an image classifier.
    """

    key: str
    path: Path
    precision: Precision | None = None
    float_key: str | None = None
    threads: int | None = None
    any_ends: bool = False


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
    """A subject, its worker and what was measured so far."""

    subject: Subject
    worker: Runner
    cold_start_ms: float
    warmup: Warmup
    estimate_ms: float
    schedule: list[int] = field(default_factory=list)  # timed inferences in each pass
    passes: list[list[float]] = field(default_factory=list)  # times in ms of each pass

    @property
    def times_ms(self) -> list[float]:
        """All timed inferences."""
        return [time for times in self.passes for time in times]

    @property
    def medians(self) -> list[float]:
        """The median of each pass that timed anything."""
        return [median(times) for times in self.passes if times]

    @property
    def noise(self) -> float:
        """How far the passes disagree: see `Latency.noise`."""
        medians = self.medians
        if len(medians) < _FEWEST_PASSES:
            return 0.0
        return (percentile(medians, 0.75) - percentile(medians, 0.25)) / median(medians)


def measure(
    subjects: Sequence[Subject],
    *,
    threads: int,
    rounds: int,
    warmup: int,
    budget_s: float,
    progress: Progress,
    max_noise: float = NOISY,
    on_failure: Callable[[Subject, BenchmarkError], None] | None = None,
    device: Device = HOST,
) -> dict[str, Latency]:
    """Measure batch-1 latency of all subjects, interleaved.

    Args:
        subjects: What to measure; keys must differ.
        threads: Intra-op threads of each runtime.
        rounds: Timed inferences of each artifact; slow artifacts get fewer so that the budget holds.
        warmup: Least number of inferences before the timed ones, after the cold start; see `warm`.
        budget_s: Wall time for the timed inferences of all subjects together; five of each are made
            whatever it says.
        progress: Where every timed inference is reported.
        max_noise: `Latency.noise` of any subject above which all are measured again, while the budget allows.
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

    with ExitStack() as stack:
        running = _start(
            subjects,
            device=device,
            threads=threads,
            warmup=warmup,
            stack=stack,
            progress=progress,
            failed=failed,
        )
        shares = allot([one.estimate_ms for one in running], rounds=rounds, budget_s=budget_s)
        for one, share in zip(running, shares, strict=True):
            one.schedule = spread(share, PASSES)
        quietest: dict[str, list[list[float]]] = {}
        begun, least = time.monotonic(), math.inf
        for number in range(_MOST_TRIES):
            label = "latency" if number == 0 else "latency, again, as it was noisy"
            with progress.task(label, sum(sum(one.schedule) for one in running)) as task:
                running = _timed(running, task, failed)
            noise = max((one.noise for one in running), default=0.0)
            if noise < least:
                least, quietest = noise, {one.subject.key: one.passes for one in running}
            took = (time.monotonic() - begun) / (number + 1)
            if noise <= max_noise or (number + 2) * took > budget_s:
                break
        for one in running:  # one that failed in a later try has no result, as if it had in the first
            one.passes = quietest[one.subject.key]
        return _results(running, device.name, threads, failed, max_noise=max_noise)


def _timed(
    running: list[_Running], task: Task, failed: Callable[[Subject, BenchmarkError], None]
) -> list[_Running]:
    """Go around all artifacts; return those that are still running."""
    for one in running:
        one.passes = []
    for number in range(PASSES):
        order = running if number % 2 == 0 else running[::-1]  # no artifact always follows another
        for one in order:
            try:
                _batch(one, one.schedule[number], task)
            except BenchmarkError as error:
                failed(one.subject, error)
                running = [other for other in running if other is not one]
    return running


def allot(estimates_ms: Sequence[float], *, rounds: int, budget_s: float) -> list[int]:
    """Share the budget: how many inferences each artifact gets.

    Every artifact may use an equal share of the time; what the fast ones leave is shared among the slow
    ones (water-filling). Nobody gets fewer than `MIN_ROUNDS`, nor more than `rounds`.
    """
    shares = [rounds] * len(estimates_ms)
    left_ms, waiting = budget_s * 1e3, len(estimates_ms)
    for index in sorted(range(len(estimates_ms)), key=lambda i: estimates_ms[i]):
        affordable = int(left_ms / waiting / max(estimates_ms[index], 1e-6))
        shares[index] = max(min(rounds, affordable), min(MIN_ROUNDS, rounds))
        left_ms = max(0.0, left_ms - shares[index] * estimates_ms[index])
        waiting -= 1
    return shares


def spread(rounds: int, passes: int) -> list[int]:
    """Spread `rounds` over `passes` as evenly as possible."""
    return [(number + 1) * rounds // passes - number * rounds // passes for number in range(passes)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the `share` quantile by linear interpolation between order statistics (NumPy's default)."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low, high = math.floor(position), math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _start(
    subjects: Sequence[Subject],
    *,
    device: Device,
    threads: int,
    warmup: int,
    stack: ExitStack,
    progress: Progress,
    failed: Callable[[Subject, BenchmarkError], None],
) -> list[_Running]:
    """Start all workers, then open the artifacts one at a time: a cold start is measured undisturbed."""
    running = []
    with progress.task("start latency workers", len(subjects)) as task:
        workers = []
        for subject in subjects:
            try:
                started = device.start(
                    subject.path,
                    subject.threads or threads,
                    subject.precision,
                    any_ends=subject.any_ends,
                )
                workers.append((subject, stack.enter_context(started)))
            except BenchmarkError as error:
                failed(subject, error)
                task.advance()
        ready = []
        for subject, worker in workers:
            try:
                worker.wait_ready()
                ready.append((subject, worker))
            except BenchmarkError as error:
                failed(subject, error)
                task.advance()
        for subject, worker in ready:
            try:
                cold = worker.open()
                warmed = warm(worker, warmup)
            except BenchmarkError as error:
                failed(subject, error)
            else:
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


def _batch(one: _Running, count: int, task: Task) -> None:
    """Time `count` inferences; one untimed before them, as the caches hold another artifact's weights."""
    if not count:
        return
    if count > 1:
        one.worker.run(1)
    one.passes.append(one.worker.run(count))
    task.advance(count)


def ratio_interval(ours: Sequence[float], other: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the ratio of two artifacts' medians.

    Args:
        ours: The medians of one artifact's passes.
        other: The medians of the other's passes, each measured beside one of `ours`.

    Returns:
        Low and high; None where there are too few passes, or not the same.
    """
    if len(ours) != len(other) or len(ours) < MIN_ROUNDS:
        return None
    draw = random.Random(0)
    ratios = []
    for _ in range(_RESAMPLES):
        chosen = draw.choices(range(len(ours)), k=len(ours))
        ratios.append(median(ours[number] for number in chosen) / median(other[number] for number in chosen))
    return percentile(ratios, 0.025), percentile(ratios, 0.975)


def _results(
    running: Sequence[_Running],
    device: str,
    threads: int,
    failed: Callable[[Subject, BenchmarkError], None],
    *,
    max_noise: float,
) -> dict[str, Latency]:
    p50 = {one.subject.key: median(one.times_ms) for one in running}
    medians = {one.subject.key: one.medians for one in running}
    results = {}
    for one in running:
        try:
            peak_memory_mb, precision_ran = one.worker.stats()
        except BenchmarkError as error:
            failed(one.subject, error)
            continue
        times, reference = one.times_ms, one.subject.float_key or ""
        float_p50 = p50.get(reference)
        noise = max(one.noise, _noise_of(running, reference))
        results[one.subject.key] = Latency(
            device=device,
            threads=one.subject.threads or threads,
            rounds=len(times),
            p50_ms=p50[one.subject.key],
            p95_ms=percentile(times, 0.95),
            p99_ms=percentile(times, 0.99),
            p90_ms=percentile(times, 0.90),
            std_ms=pstdev(times),
            min_ms=min(times),
            cold_start_ms=one.cold_start_ms,
            peak_memory_mb=peak_memory_mb,
            precision_ran=precision_ran,
            ratio_to_float=p50[one.subject.key] / float_p50 if float_p50 else None,
            ratio_ci95=ratio_interval(one.medians, medians[reference]) if float_p50 else None,
            noise=noise,
            noisy=noise > max_noise,
            load_ms=one.worker.load_ms,
            first_ms=None if one.worker.load_ms is None else one.cold_start_ms - one.worker.load_ms,
            warmup_rounds=one.warmup.rounds,
            warmed_up=one.warmup.done,
            timed_ms=sum(times),
            histogram=LatencyHistogram.of(times),
        )
    return results


def _noise_of(running: Sequence[_Running], key: str) -> float:
    return next((one.noise for one in running if one.subject.key == key), 0.0)
