"""The arithmetic of SQNR, saturation and levels used."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefx.analysis.figures import GridUse, Noise, snr_db
from edgefx.quantization import QuantParams


def grid(low: float | list[float], high: float | list[float], levels: int = 256) -> QuantParams:
    ends = [np.atleast_1d(np.array(end, np.float32)) for end in (low, high)]
    return QuantParams(tensor="conv/BiasAdd", low=ends[0], high=ends[1], levels=levels)


def test_a_tenth_of_the_amplitude_as_noise_is_20_db() -> None:
    true = np.array([3.0, -4.0, 12.0], np.float32)
    assert snr_db(true, true * np.float32(1.1)) == pytest.approx(20, abs=1e-3)


def test_no_noise_is_infinite_and_no_signal_is_nothing() -> None:
    assert snr_db(np.ones(4, np.float32), np.ones(4, np.float32)) == math.inf
    assert snr_db(np.zeros(4, np.float32), np.ones(4, np.float32)) is None


def test_noise_is_summed_over_images_of_any_shape() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(6, 2, 2, 3)).astype(np.float32)
    seen = true + rng.normal(scale=0.01, size=true.shape).astype(np.float32)
    noise = Noise()
    for one, other in zip(true, seen, strict=True):
        noise.add(one, other.ravel())
    assert noise.db == pytest.approx(
        10 * np.log10(np.square(true).sum() / np.square(seen - true).sum()), abs=1e-3
    )


def test_rounding_to_256_levels_has_the_noise_of_theory() -> None:
    # A uniform signal over the whole grid: 20 log10(levels - 1), here 48.1 dB.
    true = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    step = 2 / 255
    assert snr_db(true, (np.rint((true + 1) / step) * step - 1).astype(np.float32)) == pytest.approx(
        48.1, abs=0.1
    )


def test_values_beyond_half_a_step_of_the_ends_are_saturated() -> None:
    use = GridUse(grid(0.0, 255.0))
    use.add(np.array([[-0.4, -0.6, 0.0, 10.0]], np.float32))
    use.add(np.array([[255.4, 255.6, 300.0, 254.0]], np.float32))
    assert use.saturated == 3 / 8
    assert use.seen == pytest.approx((-0.6, 300.0))


def test_levels_used_counts_each_level_once() -> None:
    use = GridUse(grid(0.0, 255.0))
    use.add(np.array([0.0, 0.2, 1.0, 300.0, -5.0], np.float32))  # levels 0, 0, 1, 255, 0
    use.add(np.array([1.1, 7.0], np.float32))
    assert use.levels_used == 4 / 256


def test_a_grid_per_channel_is_used_channel_by_channel() -> None:
    use = GridUse(grid([0.0, 0.0], [3.0, 30.0], levels=4))
    use.add(np.array([[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [5.0, 30.0]]], np.float32))
    assert use.levels_used == (4 + 2) / 8
    assert use.saturated == 1 / 8


def test_a_dead_channel_and_a_grid_too_fine_to_count_are_no_error() -> None:
    use = GridUse(grid([0.0], [0.0]))
    use.add(np.zeros((2, 2, 1), np.float32))
    assert use.saturated == 0
    assert use.levels_used == 1 / 256
    assert GridUse(grid(0.0, 1.0, levels=1 << 20)).levels_used is None
