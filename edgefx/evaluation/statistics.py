"""How sure a measured accuracy drop is. Standard library only."""

from __future__ import annotations

import math
from statistics import NormalDist


def paired_drop_ci(lost: int, gained: int, images: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of the top-1 drop, in percentage points, low then high.

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
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
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


def _score(lost: int, gained: int, images: int, difference: float) -> float:
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
