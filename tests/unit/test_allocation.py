"""How few values each layer's weights have: enough is saved, and nothing cheaper would have done."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgefx.quantize.allocation import Choice, allocate


def layer(size: int, noise: float) -> list[Choice]:
    """All values, and fewer of them: half a byte less each time, and four times the noise."""
    fewer = [
        Choice(values=128 >> step, size=size * (7 - step) // 8, loss=noise * 4.0**step) for step in range(5)
    ]
    return [Choice(values=None, size=size, loss=0.0), *fewer]


def test_what_bears_most_saves_most() -> None:
    found = allocate({"robust": layer(8000, 1e-6), "delicate": layer(8000, 1e-2)}, 4000)
    assert found["robust"].values is not None
    assert found["robust"].values < (found["delicate"].values or 256)
    assert sum(one.size for one in found.values()) <= 12_000


def test_no_other_choice_on_the_hull_loses_less_for_as_much_saved() -> None:
    generator = np.random.default_rng(0)
    choices = {str(number): layer(8000, 10.0 ** generator.uniform(-6, -2)) for number in range(4)}
    for saved in (1000, 5000, 9000):
        found = allocate(choices, saved)
        size, loss = (sum(getattr(one, what) for one in found.values()) for what in ("size", "loss"))
        assert size <= 32_000 - saved
        for other in itertools.product(*choices.values()):
            if sum(one.size for one in other) <= size:
                assert sum(one.loss for one in other) >= loss * (1 - 1e-9)


def test_nothing_is_given_for_what_need_not_be_saved() -> None:
    assert allocate({"a": layer(8000, 1e-3)}, 0)["a"].values is None


def test_what_cannot_be_had_is_approached() -> None:
    assert allocate({"a": layer(8000, 1e-3)}, 8000)["a"].values == 8


def test_a_choice_off_the_hull_is_left_out() -> None:
    choices = [
        Choice(values=None, size=100, loss=0.0),
        Choice(values=64, size=90, loss=5.0),
        Choice(values=32, size=60, loss=6.0),
    ]
    assert allocate({"a": choices}, 5)["a"] == choices[2]


@pytest.mark.parametrize("saved", [0.0, 1e9])
def test_no_layers(saved: float) -> None:
    assert allocate({}, saved) == {}
