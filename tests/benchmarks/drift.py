"""How often `edgefx drift` says that there is drift where there is none, and how much of it it sees.

    python -m tests.benchmarks drift
    python -m tests.benchmarks drift --samples 2000 --workers 8
    python -m tests.benchmarks drift --run build/ --images photos/val

The last takes an artifact and real images instead; see `tests.benchmarks.drift_real`.

Both sides are drawn from one source, so that every alarm is false: their share should be the alarm rate or
less. Then one side is shifted by so many standard deviations, or so many of its answers are another class's,
or features that tell no class move, for a quarter of the samples. One set of tests is held to every alarm
rate, with the features and, corrected for one test less, without them. Samples are shared among processes
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

from edgefx.analysis.drift import corrected, distances
from edgefx.evaluation.statistics import wilson_ci
from tests.unit.test_drift import CLASSES, sample

from .common import show

SIZES = ((100, 30), (100, 100), (500, 100), (500, 500))
RATES = (0.01, 0.05, 0.2)
POWER_RATE = 0.05  # that power is given at: the default
CHANGES = {
    **{f"brighter by {by:g} standard deviations": {"brighter": 0.1 * by} for by in (0.2, 0.5, 1.0)},
    # The standard deviation of a logit is 2.
    **{f"one class's logit higher by {by:g}": {"bias": by} for by in (0.5, 1.0, 2.0)},
    # 5 of 12 channels, by so many standard deviations of theirs
    **{f"features moved by {by:g}": {"moved": by} for by in (0.2, 0.5, 1.0)},
}
FAMILIES = ("with features", "without")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

Least = tuple[float, float]  # of each of FAMILIES, the smallest corrected p-value of a sample


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
    spent = 0.0
    with _workers(args.workers) as pool:
        for before, after in SIZES:
            name = f"{before} against {after} images"
            one = partial(least_p_values, before, after, args.seed)
            least, seconds = _sampled(pool, one, args.samples, {})
            spent += seconds
            for rate in RATES:
                rows |= _rows(f"{name}, no drift, alarm rate {rate:g}", least, rate)
            for change, how in CHANGES.items():
                least, seconds = _sampled(pool, one, max(1, args.samples // 4), how)
                spent += seconds
                rows |= _rows(f"{name}, {change}", least, POWER_RATE)
            took = f"{time.monotonic() - begin:.0f} s, {spent:.0f} s of CPU time"
            print(f"  {name}: done after {took}", file=sys.stderr, flush=True)
            for row in [row for row in rows if row.startswith(name)]:
                print(f"    {row}: {rows[row]}", file=sys.stderr, flush=True)
    return show({**rows, "CPU time": f"{spent:.0f} s"}, as_json=args.json)


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


def _sampled(
    pool: Executor,
    one: Callable[[Mapping[str, float], int], tuple[Least, float]],
    samples: int,
    change: Mapping[str, float],
) -> tuple[list[Least], float]:
    """Return the rates from which on there is an alarm in each sample, and the CPU time that it took."""
    found = list(pool.map(partial(one, change), range(samples), chunksize=max(1, samples // 50)))
    return [least for least, _ in found], sum(seconds for _, seconds in found)


def least_p_values(
    before: int, after: int, seed: int, change: Mapping[str, float], number: int
) -> tuple[Least, float]:
    """Return the smallest corrected p-value of one sample, with and without features, and its CPU time.

    Args:
        before: Images of the reference.
        after: New images.
        seed: Of all samples.
        change: What of `sample` differs for the new images.
        number: Which sample.
    """
    begin = time.process_time()
    draw = np.random.default_rng((seed, number))
    found = distances(
        sample(draw, before),
        sample(draw, after, **change),
        answers=[CLASSES],
        seed=number,
    )
    without = [one for one in found if one.test != "features"]
    return (min(corrected(found)), min(corrected(without))), time.process_time() - begin


def _rows(name: str, found: list[Least], rate: float) -> dict[str, str]:
    return {
        f"{name}, {family}": _share([least[place] for least in found], rate)
        for place, family in enumerate(FAMILIES)
    }


def _share(p_values: list[float], rate: float) -> str:
    alarms = sum(p_value <= rate for p_value in p_values)
    low, high = wilson_ci(alarms, len(p_values))
    return (
        f"{alarms / len(p_values):.1%} alarms ({low:.1%} to {high:.1%}), {alarms} of {len(p_values)} samples"
    )
