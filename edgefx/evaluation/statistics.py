"""How sure a measured accuracy is. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable

_CONFIDENCE = 0.95
_Z = 1.959963984540054  # of 95 %; what computes it takes longer to import than `edgefx gate` to judge
_MOST_IMAGES = 10_000_000  # nobody evaluates on more


def paired_drop_ci(
    lost: int, gained: int, images: int, *, confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Return the confidence interval of a drop of top-1 or top-5, in percentage points, low then high.

    Both models see the same images, so only the images on which they differ in being right count. This is
    Tango's asymptotic score interval for the difference of paired proportions: unlike the Wald interval
    it keeps its coverage for small differences and has a width when the models never differ; unlike the
    bootstrap it needs no random numbers.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998) 891-908; recommended by M. W. Fagerland,
    S. Lydersen and P. Laake, Statistics in Medicine 33 (2014) 2850-2875.

    Args:
        lost: Images that the baseline gets right and the artifact gets wrong.
        gained: Images that the artifact gets right and the baseline gets wrong.
        images: All evaluation images.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: Counts that cannot be.
    """
    if lost < 0 or gained < 0 or images < 1 or lost + gained > images:
        raise ValueError(f"impossible counts: {lost} lost and {gained} gained of {images}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    z = _quantile(confidence)
    estimate = (lost - gained) / images

    def root(wanted: float, low: float, high: float) -> float:
        for _ in range(60):  # 2 / 2^60 is below the spacing of doubles near 1
            middle = (low + high) / 2
            if _score(lost, gained, images, middle) > wanted:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    # The score statistic falls from +inf to -inf as the assumed difference grows, so each limit is the one
    # root on its side of the estimate.
    return 100 * root(z, -1.0, estimate), 100 * root(-z, estimate, 1.0)


def wilson_ci(count: int, total: int, *, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return the confidence interval of a share, as fractions, low then high.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927) 209-212.

    Args:
        count: Images of which something holds.
        total: All images.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: Counts that cannot be.
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"impossible counts: {count} of {total}")
    z = _quantile(confidence)
    low, high = _wilson(count / total, total, z)
    # Rounding would miss the ends by a little.
    return (0.0 if count == 0 else low), (1.0 if count == total else high)


def mcnemar_p_value(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that as many images are lost as are gained.

    If the artifact were right as often as the baseline, each image on which only one of them is right would
    be lost or gained like the toss of a coin: the p-value is the share of such tosses that are at least as
    uneven. Computed in whole numbers.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947) 153-157, in its exact (binomial) form.

    Args:
        lost: Images that the baseline gets right and the artifact gets wrong.
        gained: Images that the artifact gets right and the baseline gets wrong.

    Raises:
        ValueError: A negative count.
    """
    if lost < 0 or gained < 0:
        raise ValueError(f"impossible counts: {lost} lost and {gained} gained")
    tosses = lost + gained
    ways, tail = 1, 0
    for count in range(min(lost, gained) + 1):
        tail += ways
        ways = ways * (tosses - count) // (count + 1)  # of choosing count + 1 of them
    return min(1.0, 2 * tail / (1 << tosses))


# ------------------------------------------------------------------------------------------ enough images


def images_for_drop(lost: float, gained: float, images: int, *, limit_pp: float) -> int | None:
    """Return from how many images on a drop's 95 % interval ends within a limit, for the same shares.

    Args:
        lost: Images lost, of those measured.
        gained: Images gained.
        images: Images measured.
        limit_pp: The limit in percentage points.

    Returns:
        The number; None where the drop itself does not keep the limit, or ten million would not do.
    """

    def enough(number: int) -> bool:
        scale = number / images
        return drop_within(lost * scale, gained * scale, number, limit_pp=limit_pp)

    return _fewest(enough)


def images_for_share(share: float, *, least: float) -> int | None:
    """Return from how many images on a share's 95 % interval begins at or above a limit, for the same share.

    Args:
        share: As measured, between 0 and 1.
        least: The limit, likewise.

    Returns:
        The number; None where the share itself does not keep the limit, or ten million would not do.
    """
    return _fewest(lambda number: share_within(share, number, least=least))


def _quantile(confidence: float) -> float:
    """Return how many standard deviations on either side hold so much of a normal distribution."""
    if confidence == _CONFIDENCE:
        return _Z
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def drop_within(lost: float, gained: float, images: int, *, limit_pp: float) -> bool:
    """Whether a drop's 95 % interval, that of `paired_drop_ci`, ends at or below a limit.

    Args:
        lost: Images lost; fractions stand for shares.
        gained: Images gained, likewise.
        images: All images.
        limit_pp: The limit in percentage points.
    """
    # The score falls as the assumed difference grows, and the interval ends where it reaches -z.
    within = 100 * (lost - gained) / images <= limit_pp
    return within and drop_score(lost, gained, images, limit_pp=limit_pp) <= -_Z


def drop_score(lost: float, gained: float, images: int, *, limit_pp: float) -> float:
    """Return by how many standard errors a drop is above a limit (below: negative), as Tango estimates them.

    Args:
        lost: Images lost; fractions stand for shares.
        gained: Images gained, likewise.
        images: All images.
        limit_pp: The limit in percentage points.
    """
    return _score(lost, gained, images, limit_pp / 100)


def share_within(share: float, images: int, *, least: float) -> bool:
    """Whether a share's 95 % interval begins at or above a limit.

    Args:
        share: As measured, between 0 and 1.
        images: All images.
        least: The limit.
    """
    return share >= least and _wilson(share, images, _Z)[0] >= least


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of images that is enough; more than enough is enough, too."""
    if not enough(_MOST_IMAGES):
        return None
    too_few, found = 0, _MOST_IMAGES
    while found - too_few > 1:
        middle = (found + too_few) // 2
        if enough(middle):
            found = middle
        else:
            too_few = middle
    return found


def _wilson(share: float, total: int, z: float) -> tuple[float, float]:
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (centre - spread) / (1 + z * z / total), (centre + spread) / (1 + z * z / total)


def _score(lost: float, gained: float, images: float, difference: float) -> float:
    """Return Tango's score statistic for an assumed difference (his equations 10 to 12)."""
    distance = lost - gained - images * difference
    # Maximum likelihood estimate of P(only the artifact is right), given the difference.
    a = 2 * images
    b = -lost - gained + (2 * images - lost + gained) * difference
    c = -gained * difference * (1 - difference)
    only_gained = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = images * (2 * only_gained + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)
