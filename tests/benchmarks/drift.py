"""How often `edgefx drift` says that there is drift where there is none, and how much of it it sees.

    python -m tests.benchmarks drift
    python -m tests.benchmarks drift --samples 2000 --workers 8
    python -m tests.benchmarks drift --run build/ --images photos/val

The last takes an artifact and real images instead; see `tests.benchmarks.drift_real`.

Both sides are drawn from one source, so that every alarm is false: their share should be the alarm rate or
less. Then one side is shifted by so many standard deviations, or so many of its answers are another class's,
for a quarter of the samples. One set of tests is held to every alarm rate. Samples are shared among processes
with one thread each: the products of these matrices are too small for several threads, which wait for one
another ten times as long as they compute where other programs run, too. A sample depends on the seed and its
number alone, so that the figures are the same for any number of processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edgefx.analysis.drift import compare
from edgefx.evaluation.statistics import wilson_ci
from tests.unit.test_drift import CLASSES, sample

from .common import show

SIZES = ((100, 30), (100, 100), (500, 100), (500, 500))
RATES = (0.01, 0.05, 0.2)
POWER_RATE = 0.05  # that power is given at: the default
SHIFTS = (0.2, 0.5, 1.0)  # standard deviations of brightness
BIASES = (0.5, 1.0, 2.0)  # added to one class's logit, whose standard deviation is 2
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main(options: list[str]) -> dict[str, object]:
    """Print the shares of alarms."""
    parser = argparse.ArgumentParser(prog="drift", description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--images", type=Path)
    args = parser.parse_args(options)
    if args.run is not None:
        from . import drift_real

        found = drift_real.rows(args.run, args.images, samples=args.samples, seed=args.seed)
        return show(found, as_json=args.json)
    rows: dict[str, object] = {}
    begin = time.monotonic()
    with _workers(args.workers) as pool:
        for before, after in SIZES:
            name = f"{before} against {after} images"
            least = partial(_least, pool, partial(least_p_value, before, after, args.seed))
            alarms = least(args.samples, {})
            for rate in RATES:
                rows[f"{name}, no drift, alarm rate {rate:g}"] = _share(alarms, rate)
            few = max(1, args.samples // 4)
            for shift in SHIFTS:
                alarms = least(few, {"brighter": 0.1 * shift})
                rows[f"{name}, brighter by {shift:g} standard deviations"] = _share(alarms, POWER_RATE)
            for bias in BIASES:
                alarms = least(few, {"bias": bias})
                rows[f"{name}, one class's logit higher by {bias:g}"] = _share(alarms, POWER_RATE)
            print(f"  {name}: done after {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
            for row in [row for row in rows if row.startswith(name)]:
                print(f"    {row}: {rows[row]}", file=sys.stderr, flush=True)
    return show(rows, as_json=args.json)


@contextmanager
def _workers(count: int) -> Iterator[Executor]:
    """Start processes whose NumPy has one thread each, which is said before NumPy is imported."""
    kept = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _least(
    pool: Executor,
    one: Callable[[Mapping[str, float], int], float],
    samples: int,
    change: Mapping[str, float],
) -> list[float]:
    """Return the smallest corrected p-value of each sample: the rates from which on there is an alarm."""
    return list(pool.map(partial(one, change), range(samples), chunksize=max(1, samples // 50)))


def least_p_value(before: int, after: int, seed: int, change: Mapping[str, float], number: int) -> float:
    """Return the smallest corrected p-value of one sample.

    Args:
        before: Images of the reference.
        after: New images.
        seed: Of all samples.
        change: What of `sample` differs for the new images.
        number: Which sample.
    """
    draw = np.random.default_rng((seed, number))
    tests = compare(
        sample(draw, before),
        sample(draw, after, **change),
        answers=[CLASSES],
        alarm_rate=POWER_RATE,
        seed=number,
    )
    return min(test.p_value for test in tests)


def _share(p_values: list[float], rate: float) -> str:
    alarms = sum(p_value <= rate for p_value in p_values)
    low, high = wilson_ci(alarms, len(p_values))
    return (
        f"{alarms / len(p_values):.1%} alarms ({low:.1%} to {high:.1%}), {alarms} of {len(p_values)} samples"
    )
