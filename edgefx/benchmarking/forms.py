"""Which forms of convolution take less time in INT8 on a device: what a hardware profile is made of.

Each form is a small model in float and one in INT8 (`edgefx.runtimes.onnx.forms`), each in a process of its
own, as artifacts are timed; the two run in turn, a few inferences at a time. Their fastest inferences are
compared: other work on the machine only ever adds to a time, and a form that pays pays without it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final

from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.protocol import Device, Runner
from edgefx.benchmarking.repeats import percentile
from edgefx.errors import BenchmarkError
from edgefx.hardware import Form, FormTime, Role
from edgefx.protocols import Progress
from edgefx.types import Precision
from edgefx.vocabulary import Hardware, Runtime

RUNTIMES: Final = (Runtime.ONNX, Runtime.OPENVINO)  # those whose INT8 artifacts may leave operations in float
FEWEST = 6  # forms of a runtime and number of threads, below which nothing can be said of others
_LEAST = 0.02  # the share of the inferences that are no slower than what is compared
_MOST_S = 3.0  # for a form, with the start of its processes
_TURN_MS = 4.0  # of one model before the other's turn
_FEWEST_TURNS, _MOST_TURNS = 5, 60
_MOST_RUNS = 50  # in a turn


def _forms(role: Role, *sizes: tuple[int, int, int], kernel: int = 1, stride: int = 1) -> Iterator[Form]:
    """Yield forms of one role: channels read and made, and height and width of the map."""
    for inputs, outputs, size in sizes:
        yield Form(
            role=role, kernel=kernel, stride=stride, inputs=inputs, outputs=outputs, height=size, width=size
        )


# Those of EfficientNet-B0, of V2-B0, of the embedded digits and some of B3, without near doubles. In this
# order: what time does not suffice for is then in between what was measured.
_DENSE: Final = (
    *_forms(Role.SWISH, (16, 96, 112), (80, 480, 14), (320, 1280, 7), (8, 48, 16), (32, 192, 2)),
    *_forms(Role.GATED, (32, 16, 112), (480, 80, 14), (1152, 320, 7), (48, 8, 8), (144, 32, 2)),
    *_forms(Role.SWISH, (32, 128, 56), kernel=3),
    *_forms(Role.PLAIN, (64, 32, 56), (192, 48, 28)),
    *_forms(Role.SWISH, (24, 144, 56), (40, 240, 28), (112, 672, 14), (192, 1152, 7)),
    *_forms(Role.GATED, (144, 24, 56), (240, 40, 28), (672, 112, 14), (1152, 192, 7)),
    *_forms(Role.SWISH, (16, 64, 112), (48, 192, 56), kernel=3, stride=2),
    *_forms(Role.SWISH, (8, 48, 8), (16, 96, 4), (24, 144, 2)),
    *_forms(Role.GATED, (8, 8, 16), (48, 16, 4), (96, 24, 2)),
)
_OTHERS: Final = (
    *_forms(Role.DEPTHWISE, (96, 96, 56), (672, 672, 14), kernel=3),
    *_forms(Role.CONVERSION, (96, 96, 56), (672, 672, 14)),
)
_MORE: Final = (
    *_forms(Role.SWISH, (3, 32, 224), (32, 128, 56), kernel=3, stride=2),
    *_forms(Role.SWISH, (32, 16, 112), (48, 192, 28), kernel=3),
    *_forms(Role.PLAIN, (128, 32, 56), (128, 48, 28)),
    *_forms(Role.SWISH, (48, 192, 28), (96, 384, 14), (136, 816, 19), (232, 1392, 10)),
    *_forms(
        Role.GATED, (96, 24, 56), (240, 80, 14), (672, 192, 7), (192, 96, 14), (816, 136, 19), (1392, 232, 10)
    ),
    *_forms(Role.SWISH, (3, 8, 32), kernel=3, stride=2),
)
FORMS: Final[tuple[Form, ...]] = (*_DENSE, *_OTHERS, *_MORE)


def measure(
    device: Device = HOST,
    *,
    hardware: Hardware,
    runtimes: Sequence[Runtime],
    threads: Sequence[int],
    seconds: float,
    progress: Progress,
) -> Mapping[Runtime, Sequence[FormTime]]:
    """Measure as many forms as time allows.

    Args:
        device: Where.
        hardware: The class of its CPU, for which the INT8 models are written.
        runtimes: Some of `RUNTIMES`.
        threads: Numbers of intra-op threads.
        seconds: How long it may take; `FEWEST` forms are measured however long they take.
        progress: Advanced for every second.

    Returns:
        The times, by runtime, in the order of `FORMS`.

    Raises:
        BenchmarkError: A runtime is absent there, or failed.
        DeviceError: The device is no longer there.
    """
    found: dict[Runtime, dict[tuple[Form, int], FormTime]] = {runtime: {} for runtime in runtimes}
    bench, begun = _Bench(device, hardware, threads), time.monotonic()
    with progress.task(f"measure forms on {device.name}", round(seconds)) as task:
        shown = 0
        for number, form in enumerate(itertools.cycle(FORMS)):
            left = seconds - (time.monotonic() - begun)
            if left <= 0 and number >= FEWEST:
                break
            # A second time around, as far as time allows: another process may lie in memory more luckily.
            share = max(left, 0.0) / (len(FORMS) - number % len(FORMS)) / len(runtimes)
            for runtime in runtimes:
                for one in bench.times(form, runtime, seconds=min(share, _MOST_S)):
                    before = found[runtime].get((form, one.threads), one)
                    found[runtime][form, one.threads] = _least(one, before)
            passed = min(round(seconds), round(time.monotonic() - begun))
            task.advance(passed - shown)
            shown = passed
    return {runtime: tuple(times.values()) for runtime, times in found.items()}


def _least(one: FormTime, other: FormTime) -> FormTime:
    return replace(one, float_us=min(one.float_us, other.float_us), int8_us=min(one.int8_us, other.int8_us))


@dataclass(frozen=True)
class _Bench:
    """Where forms are measured.

    Attributes:
        device: The machine.
        hardware: The class of its CPU.
        threads: Numbers of intra-op threads.
    """

    device: Device
    hardware: Hardware
    threads: Sequence[int]

    def times(self, form: Form, runtime: Runtime, *, seconds: float) -> list[FormTime]:
        """Measure one form at all numbers of threads, in about so many seconds."""
        begun = time.monotonic()
        write = import_module(f"edgefx.runtimes.{runtime}.forms").write
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefx-form-"))
            paths = write(form, Path(folder), self.hardware)
            pairs = [
                [
                    stack.enter_context(self.device.start(path, count, precision))
                    for path, precision in zip(paths, (Precision.FLOAT32, Precision.INT8), strict=True)
                ]
                for count in self.threads
            ]
            runners = [runner for pair in pairs for runner in pair]
            for runner in runners:
                runner.wait_ready()
            for runner in runners:
                runner.open()
            found = []
            for number, (count, pair) in enumerate(zip(self.threads, pairs, strict=True)):
                left = seconds - (time.monotonic() - begun)
                float_us, int8_us = _alternating(pair, left / (len(self.threads) - number))
                found.append(FormTime(form=form, threads=count, float_us=float_us, int8_us=int8_us))
        return found


def _alternating(pair: Sequence[Runner], seconds: float) -> tuple[float, float]:
    """Run two models in turn; returns how fast the fastest inferences of each are, in microseconds."""
    warm = [min(runner.run(3)) for runner in pair]
    counts = [max(1, min(_MOST_RUNS, round(_TURN_MS / max(one, 1e-3)))) for one in warm]
    times: list[list[float]] = [[], []]
    end = time.monotonic() + seconds
    for turn in range(_MOST_TURNS):
        if turn >= _FEWEST_TURNS and time.monotonic() >= end:
            break
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            pair[which].run(1)  # the caches hold the other's weights
            times[which] += pair[which].run(counts[which])
    low = [percentile(found, _LEAST) * 1e3 for found in times]
    if min(low) <= 0:
        raise BenchmarkError("a form took no time that the clock shows", hint="leave this runtime out")
    return low[0], low[1]
