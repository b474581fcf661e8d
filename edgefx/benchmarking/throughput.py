"""How many images a second artifacts answer when several are run at once: in batches, and in streams.

A stream is a session with a thread of its own; all streams of an artifact are in one process. It is measured
apart from the latency, one artifact and setting after the other, several times each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from edgefx.benchmarking.asked import Subject
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device, Flood, Runner
from edgefx.errors import BenchmarkError
from edgefx.measured import Throughput
from edgefx.protocols import Progress

_AROUND = 5  # times each
_SECONDS = 0.4  # of each setting each time


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an artifact is asked at once: images in each inference, and inferences at the same time."""

    batch: int = 1
    streams: int = 1


def measure(
    subjects: Sequence[Subject],
    loads: Sequence[Load],
    *,
    threads: int,
    divides: bool,
    progress: Progress,
    on_failure: Callable[[Subject, BenchmarkError], None],
    device: Device = HOST,
) -> dict[str, tuple[Throughput, ...]]:
    """Measure throughput of artifacts.

    Args:
        subjects: The artifacts.
        loads: What each is measured under.
        threads: Runtime threads of a stream where a subject names none.
        divides: Whether streams share those threads, each getting one at least, instead of having as many
            each.
        progress: Advanced for every artifact and setting.
        on_failure: Told which artifact cannot be measured under some load, and why.
        device: Where.

    Raises:
        DeviceError: The device is no longer there.
    """
    found: dict[str, list[Throughput]] = {}
    todo = [(subject, load) for subject in subjects for load in loads]
    with progress.task("throughput", len(todo)) as task:
        for subject, load in todo:
            each = subject.threads or (max(1, threads // load.streams) if divides else threads)
            try:
                with device.start(subject.path, each, subject.precision, any_ends=subject.any_ends) as worker:
                    found.setdefault(subject.key, []).append(_of(worker, load, each))
            except BenchmarkError as error:
                on_failure(subject, error)
            task.advance()
    return {key: tuple(one) for key, one in found.items()}


def _of(worker: Runner, load: Load, threads: int) -> Throughput:
    worker.wait_ready()
    cores = worker.prepare(load.streams, load.batch)
    worker.flood(_SECONDS / 4)  # the first inferences, and what grows with them
    floods = [worker.flood(_SECONDS) for _ in range(_AROUND)]
    speeds = [_images_per_s(one, load) for one in floods]
    return Throughput(
        batch=load.batch,
        streams=load.streams,
        threads=threads,
        images_per_s=median(speeds),
        slowest_per_s=min(speeds),
        fastest_per_s=max(speeds),
        seconds=sum(one.wall_ms for one in floods) / 1e3,
        cpu_utilization=sum(one.cpu_ms for one in floods) / sum(one.wall_ms for one in floods) / cores,
    )


def _images_per_s(flood: Flood, load: Load) -> float:
    return 1e3 * flood.inferences * load.batch / flood.wall_ms
