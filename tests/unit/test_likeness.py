"""A device's answers held against those of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from edgefx.measured import Match
from edgefx.pipeline import likeness

HERE = np.array([[0.7, 0.3], [0.2, 0.8]], np.float32)


@pytest.mark.parametrize(
    ("change", "match", "same_top1"),
    [(0.0, Match.IDENTICAL, 2), (1e-7, Match.SAME_TOP1, 2), (0.5, Match.DIFFERS, 1)],
)
def test_scores_are_compared_bit_by_bit_then_by_class(change: float, match: Match, same_top1: int) -> None:
    there = HERE.copy()
    there[0, 1] += np.float32(change)
    found = likeness.compared(HERE, there)
    assert (found.images, found.match, found.same_top1) == (2, match, same_top1)
    assert found.max_abs_difference == pytest.approx(change, rel=0.3)


@pytest.mark.parametrize(("images", "chosen"), [(1, [0]), (3, [0, 1, 2]), (16, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_a_few_images_of_all_the_folder(images: int, chosen: list[int]) -> None:
    assert likeness.few(images) == chosen
