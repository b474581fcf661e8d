"""The energy of an inference, by counters of the machine or by an external meter.

It is measured apart from the latency: each artifact runs alone, over and over, for seconds, since neither
counters nor meters tell apart what takes turns within milliseconds. Everything that the counter or the meter
sees is in the figure, also what the machine takes when it is idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgefx.benchmarking.asked import Subject
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device
from edgefx.benchmarking.power_log import PowerLog
from edgefx.errors import BenchmarkError, UsageError
from edgefx.protocols import Progress
from edgefx.results import Latency

_LEAST_S = 3.0  # of each artifact
_SAMPLES = 30  # of a meter, at least
_MOST_S = 60.0
NO_COUNTER = "no counter of energy can be read there (RAPL, hwmon): energy is not measured"


def measured(
    subjects: Sequence[Subject],
    latencies: Mapping[str, Latency],
    log: PowerLog | None,
    *,
    progress: Progress,
    on_failure: Callable[[Subject, BenchmarkError], None],
    device: Device = HOST,
) -> dict[str, Latency]:
    """Measure the energy of an inference of artifacts, one after the other.

    Args:
        subjects: The artifacts; those without a latency are passed over.
        latencies: Their latencies.
        log: Of an external meter; without one the device's counters are read.
        progress: Advanced for every artifact.
        on_failure: Told of an artifact that cannot be run.
        device: Where.

    Returns:
        The latencies with the energy, where something has measured it.

    Raises:
        UsageError: The meter's file cannot be used.
        DeviceError: The device is no longer there.
    """
    found = dict(latencies)
    seconds = _LEAST_S if log is None else max(_LEAST_S, _SAMPLES * log.check())
    if seconds > _MOST_S:
        raise UsageError(
            f"{log.path if log else ''}: {seconds / _SAMPLES:.0f} s between samples are too many",
            hint=f"let the meter sample at least every {_MOST_S / _SAMPLES:.0f} s",
        )
    with progress.task("energy", len(latencies)) as task:
        for subject in subjects:
            if subject.key not in latencies:
                continue
            latency = latencies[subject.key]
            try:
                with device.start(
                    subject.path, latency.threads, subject.precision, any_ends=subject.any_ends
                ) as worker:
                    worker.wait_ready()
                    worker.prepare(1, 1)
                    worker.flood(seconds / 10)
                    flood = worker.flood(seconds)
                    ended_s = time.time()
            except BenchmarkError as error:
                on_failure(subject, error)
            else:
                took_s = flood.wall_ms / 1e3
                joules = log.joules(ended_s - took_s, ended_s) if log else flood.joules
                if joules is not None:
                    found[subject.key] = replace(
                        latency,
                        energy_mj=1e3 * joules / flood.inferences,
                        energy_watts=joules / took_s,
                        energy_source="meter" if log else flood.counter,
                    )
            task.advance()
    return found
