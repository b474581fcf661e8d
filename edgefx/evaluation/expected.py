"""How often a gate would pass or fail if nothing changed but the images. Standard library only.

The same code makes the same bytes, and on the same images these get the same verdict. On other images of the
same kind they do not: which answers change differs from sample to sample. `of` sums up the probabilities of
all counts of changed answers, each judged as `gates` would judge it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgefx.evaluation.gates import counts
from edgefx.evaluation.statistics import drop_within, share_within
from edgefx.metrics import METRICS, Figures, Origin, Unit
from edgefx.verdicts import Gate

_SPREADS = 9  # standard deviations of a count beyond which nothing is to be expected
_LEAST = 0.5  # images that a change never seen is counted as


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a gate would say on other images, as shares of all such samples.

    Attributes:
        images: The size of a sample.
        passes: How often it would be PASS.
        fails: How often it would be FAIL.
        inconclusive: How often its interval would reach beyond the limit.
    """

    images: int
    passes: float
    fails: float
    inconclusive: float


def of(gate: Gate, figures: Figures, *, unchanged: bool = False) -> Expectation | None:
    """Return what a gate would say on other samples of as many images.

    Each image is taken to be lost, gained or neither with the shares that were observed; what was never
    observed counts as half an image.

    Args:
        gate: A limit.
        figures: What was measured.
        unchanged: Whether the truth is that nothing is lost, so that each changed answer is lost or gained
            with the same probability: for a comparison of two artifacts of the same code.

    Returns:
        None where chance has no part in the metric, or its part is not known: sizes, latencies, divergences,
        or a report without counts.
    """
    figures = figures.of_output(gate.output)
    row, accuracy = METRICS[gate.metric], figures.accuracy
    if row.origin is not Origin.ACCURACY or row.interval is None or accuracy is None:
        return None
    images, measured = accuracy.images, row.value(figures)
    if measured is None:
        return None
    if row.unit is Unit.SHARE:
        return _of_share(measured, images, least=gate.limit)
    lost, gained, limit = counts(gate, accuracy)
    if lost is None or gained is None:
        return None
    loses, gains = max(_LEAST, lost) / images, max(_LEAST, gained) / images
    if unchanged:
        loses = gains = (loses + gains) / 2
    return of_drop(loses, gains, images, limit_pp=limit)


def of_drop(loses: float, gains: float, images: int, *, limit_pp: float) -> Expectation:
    """Return what a gate on a drop says, given the true shares of images that are lost and gained.

    Args:
        loses: The probability that an image is lost.
        gains: The probability that it is gained.
        images: The size of a sample.
        limit_pp: The limit in percentage points.
    """
    passes = fails = 0.0
    for gained, chance in _binomial(images, gains):
        rest, share = images - gained, min(1.0, loses / (1 - gains)) if gains < 1 else 0.0
        passing, kept = _thresholds(gained, images, limit_pp)
        for lost, chance_then in _binomial(rest, share):
            if lost <= passing:
                passes += chance * chance_then
            elif lost > kept:
                fails += chance * chance_then
    return _expectation(images, passes, fails)


def _thresholds(gained: int, images: int, limit_pp: float) -> tuple[int, int]:
    """Return up to how many lost images a gate passes, and up to how many it does not fail."""

    def passes(lost: int) -> bool:
        return drop_within(lost, gained, images, limit_pp=limit_pp)

    def keeps(lost: int) -> bool:
        return 100 * (lost - gained) / images <= limit_pp

    return _last(images - gained, passes), _last(images - gained, keeps)


def _of_share(share: float, images: int, *, least: float) -> Expectation:
    share = min(max(share, _LEAST / images), 1 - _LEAST / images)
    passes = fails = 0.0
    for count, chance in _binomial(images, share):
        if count / images < least:
            fails += chance
        elif share_within(count / images, images, least=least):
            passes += chance
    return _expectation(images, passes, fails)


def _expectation(images: int, passes: float, fails: float) -> Expectation:
    return Expectation(images=images, passes=passes, fails=fails, inconclusive=max(0.0, 1 - passes - fails))


def _binomial(trials: int, share: float) -> Iterator[tuple[int, float]]:
    """Yield the counts that are to be expected with their probabilities."""
    if share <= 0 or share >= 1 or trials == 0:
        yield (trials if share >= 1 else 0), 1.0
        return
    mean, spread = trials * share, _SPREADS * math.sqrt(trials * share * (1 - share)) + _SPREADS
    first, last = max(0, math.floor(mean - spread)), min(trials, math.ceil(mean + spread))
    log = math.lgamma(trials + 1) - math.lgamma(first + 1) - math.lgamma(trials - first + 1)
    chance = math.exp(log + first * math.log(share) + (trials - first) * math.log1p(-share))
    odds = share / (1 - share)
    for count in range(first, last + 1):
        yield count, chance
        chance *= odds * (trials - count) / (count + 1)


def _last(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest count up to `most` that something holds of, as of all smaller ones; -1 for none."""
    low, high = -1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
