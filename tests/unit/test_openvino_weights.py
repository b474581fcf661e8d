"""Steps of OpenVINO's weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgefx.runtimes.openvino import weights


@pytest.mark.parametrize("shape", [(8, 6, 1, 1), (8, 7, 3, 3), (4, 10)])
def test_narrow_steps_never_let_a_pair_of_products_saturate_16_bits(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape) * np.geomspace(1e-3, 1e3, shape[0]).reshape(
        -1, *(1,) * (len(shape) - 1)
    )
    steps = weights.scales(values, groups=False, narrow=True)
    codes = np.abs(weights.to_nearest(values, steps).astype(int))
    codes = np.pad(codes, [(0, 0), (0, shape[1] % 2), *((0, 0),) * (len(shape) - 2)])
    assert (255 * (codes[:, 0::2] + codes[:, 1::2])).max() <= 2**15 - 1
    wide = weights.scales(values, groups=False)
    assert (steps >= wide).all()
    assert (steps <= 2.02 * wide).all(), "never worse than half the levels"


def test_channels_without_a_loud_neighbour_keep_their_levels() -> None:
    values = np.zeros((2, 4, 1, 1))
    values[0, 0], values[1, :2] = 1.0, 1.0
    steps = weights.scales(values, groups=False, narrow=True).reshape(-1)
    np.testing.assert_allclose(steps, [1 / 126, 2 / 126], rtol=1e-6)
