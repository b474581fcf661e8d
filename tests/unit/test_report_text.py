"""How figures are written."""

from __future__ import annotations

import pytest

from edgefx.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.09, "+1.09"), (-0.41, "-0.41"), (0.0, "0.00"), (-0.001, "0.00"), (0.004, "0.00"), (None, "")],
)
def test_differences_carry_a_sign_and_zero_none(value: float | None, expected: str) -> None:
    assert text.signed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (999, "999 B"),
        (1000, "1.00 kB"),
        (4_912_345, "4.91 MB"),
        (16_212_345, "16.2 MB"),
        (123_456_789, "123 MB"),
    ],
)
def test_sizes_are_powers_of_ten(value: float, expected: str) -> None:
    assert text.size(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.48, "2.48"),
        (10.04, "10.0"),
        (0.06134, "0.0613"),
        (259.4, "259"),
        (1234.5, "1234"),
        (0.9996, "1.00"),
        (0, "0"),
        (9.999, "10.0"),
    ],
)
def test_three_significant_digits_without_exponent(value: float, expected: str) -> None:
    assert text.significant(value) == expected


def test_the_rest() -> None:
    assert text.percent(0.9321) == "93.21%"
    assert text.percent(None) == ""
    assert text.interval((-0.31, 2.48), 1) == "-0.3 to +2.5"
    assert text.count(4_055_976) == "4.06 M"
    assert text.ratio(1.2645) == "1.26x"
    assert text.seconds(59.94) == "59.9 s"
    assert text.seconds(77.1) == "1 min 17 s"
    assert text.seconds(119.6) == "2 min 0 s"
