"""What artifacts really ran on a device, by the profilers of their runtimes.

It is measured apart from the latency, in processes of their own: a profiler takes time, for every operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module

from edgefx.benchmarking.asked import Subject
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device
from edgefx.errors import BenchmarkError
from edgefx.execution import ExecutionProfile, summarize
from edgefx.protocols import Progress
from edgefx.results import Latency
from edgefx.targets import row_for_artifact

_MOST_RUNS = 100
_FEWEST_RUNS = 10
_BUDGET_MS = 5e3  # for the inferences of one artifact


def profiled(
    subjects: Sequence[Subject],
    latencies: Mapping[str, Latency],
    *,
    progress: Progress,
    on_failure: Callable[[Subject, BenchmarkError], None],
    device: Device = HOST,
) -> dict[str, ExecutionProfile]:
    """Profile artifacts, one after the other.

    Args:
        subjects: What was measured; those without a latency are passed over.
        latencies: Their latencies: how many threads they had, and how many inferences can be afforded.
        progress: Advanced for every artifact.
        on_failure: Told of an artifact that cannot be profiled; the others are.
        device: Where.

    Raises:
        DeviceError: The device is no longer there.
    """
    found = {}
    measured = [(one, latencies[one.key]) for one in subjects if one.key in latencies]
    with progress.task("profile", len(measured)) as task:
        for subject, latency in measured:
            runs = max(_FEWEST_RUNS, min(_MOST_RUNS, math.ceil(_BUDGET_MS / latency.p50_ms)))
            try:
                with device.start(
                    subject.path, latency.threads, subject.precision, any_ends=subject.any_ends
                ) as worker:
                    worker.wait_ready()
                    raw = worker.profile(runs, expected_ms=latency.p50_ms)
            except BenchmarkError as error:
                on_failure(subject, error)
            else:
                profiler = import_module(f"{row_for_artifact(subject.path).module}.profiler")
                found[subject.key] = summarize(profiler.executed(subject.path, raw))
            task.advance()
    return found


def with_profile(latency: Latency, profile: ExecutionProfile | None) -> Latency:
    """Return a latency with the figures of a profile that metrics are made of."""
    if profile is None:
        return latency
    return replace(
        latency,
        float_share=profile.float_share,
        conversion_share=profile.conversion_share,
        delegate_coverage=profile.delegate_coverage,
    )
