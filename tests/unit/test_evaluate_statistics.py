"""The paired confidence interval against published values and against a direct maximization."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefx.evaluation.statistics import paired_drop_ci


def test_published_interval_of_airway_data() -> None:
    # Fagerland, Lydersen and Laake (2014), table of the example (1, 1, 7, 12): Tango (-0.517, -0.026).
    low, high = paired_drop_ci(1, 7, 21)
    assert (round(low / 100, 3), round(high / 100, 3)) == (-0.517, -0.026)


def test_interval_as_r_gives_it() -> None:
    # R, PropCIs::scoreci.mp(25, 28, 618, 0.9), which estimates (28 - 25) / 618.
    low, high = paired_drop_ci(28, 25, 618, confidence=0.9)
    assert (round(low / 100, 4), round(high / 100, 4)) == (-0.0148, 0.0247)


def test_models_that_never_differ_still_leave_doubt() -> None:
    # Without discordant pairs the score statistic solves to z^2 / (n + z^2).
    z2 = 1.959963984540054**2
    low, high = paired_drop_ci(0, 0, 1000)
    assert high == pytest.approx(100 * z2 / (1000 + z2))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("lost", "gained", "images"), [(20, 9, 369), (3, 0, 50), (0, 4, 40), (60, 61, 736)])
def test_limits_solve_the_score_equation(lost: int, gained: int, images: int) -> None:
    """At each limit, (estimate - limit) / standard error is z, with the restricted estimate from a grid."""
    for limit_pp, sign in zip(paired_drop_ci(lost, gained, images), (1, -1), strict=True):
        limit = limit_pp / 100
        p_gained = np.linspace(max(0.0, -limit), min(1.0, (1 - limit) / 2), 200_001)[1:-1]
        p_lost = p_gained + limit
        likelihood = (
            lost * np.log(p_lost)
            + gained * np.log(p_gained)
            + (images - lost - gained) * np.log(1 - p_lost - p_gained)
        )
        best = p_gained[likelihood.argmax()]
        error = math.sqrt((2 * best + limit - limit**2) / images)
        score = ((lost - gained) / images - limit) / error
        assert score == pytest.approx(sign * 1.959964, abs=2e-3)


def test_interval_is_antisymmetric_and_contains_the_estimate() -> None:
    low, high = paired_drop_ci(12, 5, 200)
    assert paired_drop_ci(5, 12, 200) == pytest.approx((-high, -low))
    assert low < 3.5 < high
    wider = paired_drop_ci(12, 5, 200, confidence=0.99)
    assert wider[0] < low
    assert wider[1] > high


def test_extremes_stay_inside_the_range() -> None:
    assert paired_drop_ci(5, 0, 5)[1] == pytest.approx(100)
    assert paired_drop_ci(0, 1, 1)[0] == pytest.approx(-100)


@pytest.mark.parametrize(("lost", "gained", "images"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts(lost: int, gained: int, images: int) -> None:
    with pytest.raises(ValueError, match="impossible counts"):
        paired_drop_ci(lost, gained, images)
