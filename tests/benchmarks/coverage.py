"""Whether the drop's 95 % interval holds what it says, and how often gates are wrong because of chance.

    python -m tests.benchmarks coverage
    python -m tests.benchmarks coverage --samples 100000 --gains 0.002

First samples are drawn whose true drop is known, and the share of intervals that hold it is counted: 95 % of
them should, at most 2.5 % beyond either end. Then a gate on the drop is held against truths on both sides of
its limit: PASS where too much is lost is a false PASS, FAIL where less than the limit is lost a false FAIL.
"point" is a gate that judges the figure alone, without its interval. The second table needs no samples: the
probabilities of all counts are summed up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np

from edgefx.evaluation.expected import of_drop
from edgefx.evaluation.statistics import paired_drop_ci

from .common import show

IMAGES = (100, 300, 1000, 3000, 10_000)
DROPS_PP = (0.0, 0.5, 1.0, 2.0, 5.0)
LIMIT_PP = 1.0
TRUTHS = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)  # of a gate's limit
_GAINS = 0.01  # share of the images that an artifact gets right and its model does not
_SAMPLES = 20_000


def main(options: list[str]) -> dict[str, object]:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="coverage", description=__doc__)
    parser.add_argument("--samples", type=int, default=_SAMPLES)
    parser.add_argument("--gains", type=float, default=_GAINS, help="share of images gained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {}
    for images in IMAGES:
        for drop_pp in DROPS_PP:
            held, below, above = coverage(
                images, drop_pp, gains=args.gains, samples=args.samples, seed=args.seed
            )
            rows[f"interval: {images} images, true drop {drop_pp:g} pp"] = (
                f"holds it {held:7.2%}, is below it {below:6.2%}, above it {above:6.2%}"
            )
    for images in IMAGES:
        for truth in TRUTHS:
            drop_pp = truth * LIMIT_PP
            rows[f"gate at {LIMIT_PP:g} pp: {images} images, true drop {drop_pp:g} pp"] = verdicts(
                images, drop_pp, gains=args.gains
            )
    return show(rows, as_json=args.json)


def coverage(
    images: int, drop_pp: float, *, gains: float, samples: int, seed: int
) -> tuple[float, float, float]:
    """Return the shares of 95 % intervals that hold a true drop, that end below it, and that begin above it.

    Args:
        images: The size of each sample.
        drop_pp: The true drop in percentage points.
        gains: The true share of images gained.
        samples: How many samples are drawn.
        seed: Of the generator.
    """
    shares = (gains + drop_pp / 100, gains, 1 - 2 * gains - drop_pp / 100)
    drawn = np.random.default_rng(seed).multinomial(images, shares, samples)
    found, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    below = above = 0
    for (lost, gained), count in zip(found.tolist(), times.tolist(), strict=True):
        low, high = paired_drop_ci(lost, gained, images)
        below += count * (high < drop_pp)
        above += count * (low > drop_pp)
    return 1 - (below + above) / samples, below / samples, above / samples


def verdicts(images: int, drop_pp: float, *, gains: float) -> str:
    """Say what a gate on the drop comes to; a verdict that is wrong is marked."""
    found = of_drop(gains + drop_pp / 100, gains, images, limit_pp=LIMIT_PP)
    point = 1 - found.fails
    if drop_pp > LIMIT_PP:
        wrong: Iterable[str] = (f"false PASS {found.passes:6.2%}", f"point: false PASS {point:6.2%}")
    elif drop_pp < LIMIT_PP:
        wrong = (f"false FAIL {found.fails:6.2%}", f"PASS {found.passes:6.2%}")
    else:
        wrong = (f"PASS at the limit {found.passes:6.2%}", f"point: PASS {point:6.2%}")
    return ", ".join((*wrong, f"INCONCLUSIVE {found.inconclusive:6.2%}"))
