"""The paired confidence interval against published values and against a direct maximization."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefx.evaluation.statistics import (
    images_for_drop,
    images_for_share,
    mcnemar_p_value,
    paired_drop_ci,
    wilson_ci,
)


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


# ------------------------------------------------------------------------------------- shares, p-values


def test_wilson_as_r_gives_it() -> None:
    # R, binom::binom.wilson(15, 20): 0.5312 to 0.8881; Newcombe (1998), table I: 81 of 263.
    assert wilson_ci(15, 20) == pytest.approx((0.5312, 0.8881), abs=5e-4)
    assert wilson_ci(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    low, high = wilson_ci(0, 30)
    assert (low, round(high, 4)) == (0.0, 0.1135)
    assert wilson_ci(7, 7)[1] == 1.0
    with pytest.raises(ValueError, match="impossible counts"):
        wilson_ci(3, 2)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 2**6), (1, 7, 2 * (1 + 8) / 2**8), (10, 4, 0.179565)],
)
def test_mcnemar_is_a_tail_of_fair_tosses(lost: int, gained: int, p: float) -> None:
    assert mcnemar_p_value(lost, gained) == pytest.approx(p, rel=1e-5)
    assert mcnemar_p_value(gained, lost) == mcnemar_p_value(lost, gained)


def test_mcnemar_of_many_images_is_near_the_normal_tail() -> None:
    p = mcnemar_p_value(10_300, 10_000)
    corrected = (300 - 1) / math.sqrt(20_300)
    assert p == pytest.approx(math.erfc(corrected / math.sqrt(2)), rel=1e-3)
    assert mcnemar_p_value(3000, 0) == 0.0  # less than a double can hold


# -------------------------------------------------------------------------------------------- enough images


@pytest.mark.parametrize(("lost", "gained", "images"), [(0, 0, 100), (3, 1, 369), (0, 5, 50), (60, 41, 5000)])
def test_so_many_images_are_enough_and_one_in_a_hundred_fewer_are_not(
    lost: int, gained: int, images: int
) -> None:
    needed = images_for_drop(lost, gained, images, limit_pp=1.0)
    assert needed is not None

    def upper(number: float) -> float:
        scale = number / images  # counts are whole, so that the shares are nearly the same
        return paired_drop_ci(round(lost * scale), round(gained * scale), round(number))[1]

    slack = 0.02 if lost + gained else 1e-9
    assert upper(needed) <= 1.0 + slack
    assert upper(0.95 * needed - 1) > 1.0 - slack


def test_without_a_change_the_number_is_known_in_closed_form() -> None:
    z2 = 1.959963984540054**2
    assert images_for_drop(0, 0, 369, limit_pp=0.5) == math.ceil(z2 * (100 / 0.5 - 1))
    assert images_for_share(1.0, least=0.99) == math.ceil(z2 * 0.99 / 0.01)


def test_what_does_not_keep_the_limit_is_shown_by_no_number() -> None:
    assert images_for_drop(5, 0, 100, limit_pp=1.0) is None
    assert images_for_drop(1, 0, 100, limit_pp=1.0) is None
    assert images_for_share(0.98, least=0.99) is None
