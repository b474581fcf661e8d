"""How often `edgefx drift` says that there is drift where there is none, and how much of it it sees.

    python -m tests.benchmarks drift
    python -m tests.benchmarks drift --samples 2000

Both sides are drawn from one source, so that every alarm is false: their share should be the alarm rate or
less. Then one side is shifted by so many standard deviations, or so many of its answers are another class's.
"""

from __future__ import annotations

import argparse

import numpy as np

from edgefx.analysis.drift import Sample
from tests.unit.test_drift import drifted, sample

from .common import show

SIZES = ((100, 30), (100, 100), (500, 100), (500, 500))
RATES = (0.01, 0.05, 0.2)
SHIFTS = (0.2, 0.5, 1.0)  # standard deviations of brightness
BIASES = (0.5, 1.0, 2.0)  # added to one class's logit, whose standard deviation is 2


def main(options: list[str]) -> dict[str, object]:
    """Print the shares of alarms."""
    parser = argparse.ArgumentParser(prog="drift", description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {}
    for before, after in SIZES:
        name = f"{before} against {after} images"
        for rate in RATES:
            shares = _alarms(before, after, samples=args.samples, seed=args.seed, rate=rate)
            rows[f"{name}, no drift, alarm rate {rate:g}"] = f"{shares:.1%} alarms"
        for shift in SHIFTS:
            shares = _alarms(before, after, samples=args.samples // 4, seed=args.seed, brighter=0.1 * shift)
            rows[f"{name}, brighter by {shift:g} standard deviations"] = f"{shares:.1%} alarms"
        for bias in BIASES:
            shares = _alarms(before, after, samples=args.samples // 4, seed=args.seed, bias=bias)
            rows[f"{name}, one class's logit higher by {bias:g}"] = f"{shares:.1%} alarms"
    return show(rows, as_json=args.json)


def _alarms(
    before: int, after: int, *, samples: int, seed: int, rate: float = 0.05, **change: float
) -> float:
    draw = np.random.default_rng(seed)

    def one() -> tuple[Sample, Sample]:
        return sample(draw, before), sample(draw, after, **change)

    return sum(bool(drifted(*one(), alarm_rate=rate)) for _ in range(samples)) / samples
