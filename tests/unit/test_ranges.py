"""The choice of activation ranges, on tensors whose right range is known or found by brute force."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ConversionError
from edgefx.quantize.ranges import Consumer, Range, RangeCollector, RangeMethod, after_swish

Values = NDArray[np.float32]


def collect(
    *images: Values,
    consumer: Consumer = Consumer.GENERIC,
    method: RangeMethod,
    percentile: float = 99.99,
    weights: Values | None = None,
) -> Range:
    collector = RangeCollector(
        {"x": consumer}, methods=[method], weights=None if weights is None else {"x": weights}
    )
    for image in images:
        collector.update({"x": image})
    return collector.ranges(method, percentile=percentile)["x"]


def swish(x: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(x / (1 + np.exp(-x)), np.float64)


def floats(*values: float) -> Values:
    return np.array(values, np.float32)


def error_behind_swish(x: Values, chosen: Range) -> float:
    """Simulate the 8-bit asymmetric grid and measure the mean squared error behind swish."""
    step = (chosen.high - chosen.low) / 255
    zero = np.round(-chosen.low / step)
    stored = np.clip(np.round(x / step) + zero, 0, 255)
    return float(np.mean((swish((stored - zero) * step) - swish(x)) ** 2))


@pytest.fixture
def stem() -> Values:
    """Like the stem of EfficientNet-B0: most values near zero, thin tails to +-75."""
    x = np.random.default_rng(0).laplace(-1, 2.5, (56, 56, 32)).astype(np.float32)
    x.flat[7], x.flat[8] = 75, -75
    return x


def test_min_max_is_exact_over_all_images() -> None:
    images = [floats(0.5, -1.25), floats(3.75, 0), floats(-7.5, 1)]
    assert collect(*images, method=RangeMethod.MIN_MAX) == Range(-7.5, 3.75)


def test_min_max_needs_no_announcement_but_others_do(stem: Values) -> None:
    collector = RangeCollector({"x": Consumer.SWISH}, methods=[])
    collector.update({"x": stem})
    assert collector.ranges(RangeMethod.MIN_MAX)["x"] == Range(-75, 75)
    with pytest.raises(ValueError, match="swish-mse"):
        collector.ranges(RangeMethod.SWISH_MSE)


def test_percentile_cuts_both_tails() -> None:
    x = np.linspace(-50, 50, 100_001, dtype=np.float32)
    chosen = collect(x, method=RangeMethod.PERCENTILE, percentile=98)
    assert chosen.low == pytest.approx(-49, abs=0.05)
    assert chosen.high == pytest.approx(49, abs=0.05)


def test_percentile_100_is_min_max(stem: Values) -> None:
    assert collect(stem, method=RangeMethod.PERCENTILE, percentile=100) == Range(-75, 75)


def test_mse_keeps_a_uniform_tensor_whole() -> None:
    x = np.linspace(-3, 5, 60_000, dtype=np.float32)
    chosen = collect(x, method=RangeMethod.MSE)
    assert (chosen.low, chosen.high) == pytest.approx((-3, 5), abs=0.05)


def test_mse_clips_a_lone_outlier() -> None:
    x = np.random.default_rng(1).uniform(0, 1, 60_000).astype(np.float32)
    x[0] = 5.0  # keeping it makes the rounding error of all others 25 times larger
    assert collect(x[1:], method=RangeMethod.MSE).high == pytest.approx(1, abs=0.01)
    many = np.concatenate([np.tile(x[1:], 40), x[:1]])
    assert collect(many, method=RangeMethod.MSE).high < 2


def test_mean_min_max_averages_the_extremes_of_the_images() -> None:
    images = [floats(-1, 3), floats(-2, 5), floats(-9, 1)]
    assert collect(*images, method=RangeMethod.MEAN_MIN_MAX) == Range(-4, 3)


def test_swish_mse_cuts_what_swish_makes_zero(stem: Values) -> None:
    chosen = collect(stem, consumer=Consumer.SWISH, method=RangeMethod.SWISH_MSE)
    assert -12 < chosen.low < -5
    assert chosen.high == 75
    assert error_behind_swish(stem, chosen) < 0.5 * error_behind_swish(stem, Range(-75, 75))
    best = min(error_behind_swish(stem, Range(float(low), 75)) for low in np.linspace(-20, -3, 35))
    assert error_behind_swish(stem, chosen) <= 1.2 * best


def test_swish_mse_keeps_a_low_end_that_swish_does_not_flatten() -> None:
    x = np.random.default_rng(4).uniform(-0.8, 4, (32, 32, 16)).astype(np.float32)
    chosen = collect(x, consumer=Consumer.SWISH, method=RangeMethod.SWISH_MSE)
    assert (chosen.low, chosen.high) == pytest.approx((-0.8, 4), abs=0.05)


def test_swish_mse_does_not_clip_scores_and_linear_tensors() -> None:
    images = [floats(-1, 3), floats(-2, 5), floats(-9, 1)]
    for consumer in (Consumer.SCORES, Consumer.LINEAR):
        assert collect(*images, consumer=consumer, method=RangeMethod.SWISH_MSE) == Range(-9, 5)
    for consumer in (Consumer.GENERIC, Consumer.SIGMOID):
        assert collect(*images, consumer=consumer, method=RangeMethod.SWISH_MSE) == Range(-4, 3)


def test_swish_mse_survives_tensors_of_one_sign() -> None:
    above = collect(floats(1, 2, 3), consumer=Consumer.SWISH, method=RangeMethod.SWISH_MSE)
    below = collect(floats(-1, -2, -3), consumer=Consumer.SWISH, method=RangeMethod.SWISH_MSE)
    assert (above.low, above.high) == (0, 3)
    assert below.high == 0
    assert below.low == pytest.approx(-3, abs=0.01)


def test_zero_is_always_inside_a_searched_range() -> None:
    x = np.random.default_rng(2).uniform(4, 6, 5000).astype(np.float32)
    above = collect(x, method=RangeMethod.MSE)
    below = collect(-x, method=RangeMethod.MSE)
    assert (above.low, below.high) == (0, 0)
    assert above.high == pytest.approx(6, abs=0.05)
    assert below.low == pytest.approx(-6, abs=0.05)


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0e-6, 1.0e6])
def test_a_constant_tensor_has_a_range_that_holds_it(value: float) -> None:
    x = np.full((4, 4), value, np.float32)
    stored = float(x[0, 0])
    assert collect(x, method=RangeMethod.PERCENTILE) == Range(stored, stored)
    chosen = collect(x, method=RangeMethod.MSE)
    assert (chosen.low, chosen.high) == pytest.approx((min(stored, 0), max(stored, 0)), rel=1e-3)


def test_growing_the_histogram_changes_nothing() -> None:
    """Images with ever larger values give the ranges of the same images seen in the opposite order."""
    rng = np.random.default_rng(3)
    images = [(rng.normal(0, 1, (8, 8, 8)) * 4.0**k).astype(np.float32) for k in range(6)]
    for method in (RangeMethod.PERCENTILE, RangeMethod.MSE):
        up = collect(*images, method=method, percentile=99)
        down = collect(*reversed(images), method=method, percentile=99)
        assert (up.low, up.high) == pytest.approx((down.low, down.high), rel=0.01)


def test_memory_does_not_grow_with_images(stem: Values) -> None:
    collector = RangeCollector({"x": Consumer.SWISH})
    for _ in range(20):
        collector.update({"x": stem})
    histogram = collector._histograms["x"]
    assert len(histogram.counts) <= 8192


def test_large_tensors_are_sampled_over_all_channels() -> None:
    x = np.zeros((128, 128, 64), np.float32)
    x[..., 63] = np.linspace(-40, 40, 128 * 128, dtype=np.float32).reshape(128, 128)
    collector = RangeCollector({"x": Consumer.SWISH})
    collector.update({"x": x})
    counts = collector._histograms["x"].counts
    share_of_last_channel = (counts.sum() - counts.max()) / counts.sum()
    assert share_of_last_channel == pytest.approx(1 / 64, rel=0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_tensor_that_is_not_finite_is_an_error(bad: float) -> None:
    collector = RangeCollector({"x": Consumer.SWISH})
    with pytest.raises(ConversionError, match="'x' is not finite for calibration image 1"):
        collector.update({"x": floats(0, bad)})


def test_an_unannounced_tensor_is_an_error() -> None:
    with pytest.raises(KeyError):
        RangeCollector({"x": Consumer.SWISH}).update({"y": np.zeros(1, np.float32)})


def test_after_swish() -> None:
    x = np.linspace(-6, 20, 100_001)
    chosen = after_swish(Range(-6, 20))
    assert chosen.low == pytest.approx(swish(x).min(), abs=1e-6)
    assert chosen.high == pytest.approx(swish(x).max(), abs=1e-6)
    above = after_swish(Range(0, 3))
    assert above.low == 0
    assert above.high == pytest.approx(3 / (1 + math.exp(-3)))


# --------------------------------------------------------------------------- weighed by the layer behind


def two_channels() -> Values:
    """One channel within +-50 and one within +-1, 20 000 values each."""
    x = np.random.default_rng(5).uniform(-1, 1, (100, 200, 2)).astype(np.float32)
    x[..., 0] *= 50
    return x


def test_activation_mse_goes_by_the_channels_that_the_next_layer_reads() -> None:
    x = two_channels()
    equal = collect(x, method=RangeMethod.ACTIVATION_MSE)
    small = collect(x, method=RangeMethod.ACTIVATION_MSE, weights=floats(1e-9, 1))
    assert equal.high == pytest.approx(50, rel=0.02)
    assert (small.low, small.high) == pytest.approx((-1, 1), rel=0.05)


def test_weights_may_lie_along_any_axis() -> None:
    x = np.ascontiguousarray(two_channels().transpose(2, 0, 1))
    weights = floats(1e-9, 1).reshape(2, 1, 1)
    assert collect(x, method=RangeMethod.ACTIVATION_MSE, weights=weights).high == pytest.approx(1, rel=0.05)


def test_activation_mse_chooses_both_ends_behind_a_swish(stem: Values) -> None:
    chosen = collect(stem, consumer=Consumer.SWISH, method=RangeMethod.ACTIVATION_MSE)
    assert -12 < chosen.low < -2
    assert 20 < chosen.high <= 75

    def error_of_both_grids(span: Range) -> float:
        """Round x, and round what swish makes of it."""
        step = (span.high - span.low) / 255
        x = np.clip(np.round(stem / step), round(span.low / step), round(span.high / step)) * step
        behind = after_swish(span)
        step = (behind.high - behind.low) / 255
        y = np.clip(np.round(swish(x) / step), round(behind.low / step), round(behind.high / step)) * step
        return float(np.mean((y - swish(stem)) ** 2))

    assert error_of_both_grids(chosen) < 0.7 * error_of_both_grids(Range(-75, 75))
    assert error_of_both_grids(chosen) <= 1.05 * error_of_both_grids(Range(chosen.low, 75))


def test_activation_mse_keeps_what_must_not_be_clipped() -> None:
    images = [floats(-1, 3), floats(-2, 5), floats(-9, 1)]
    for consumer in (Consumer.SCORES, Consumer.LINEAR):
        assert collect(*images, consumer=consumer, method=RangeMethod.ACTIVATION_MSE) == Range(-9, 5)
    pooled = collect(*images, consumer=Consumer.POOLED, method=RangeMethod.ACTIVATION_MSE)
    assert (pooled.low, pooled.high) == (-13.5, 7.5), "pooled means get room for images not seen"
    answer = collect(*images, consumer=Consumer.ANSWER, method=RangeMethod.ACTIVATION_MSE)
    assert (answer.low, answer.high) == (-12.5, 8.5), "an answer gets it around its middle"
    assert collect(*images, consumer=Consumer.ANSWER, method=RangeMethod.MIN_MAX) == Range(-9, 5)


def test_activation_mse_of_a_gate_ignores_where_sigmoid_is_flat() -> None:
    x = np.random.default_rng(6).normal(0, 2, 50_000).astype(np.float32)
    x[:50] = np.linspace(-60, 60, 50)
    chosen = collect(x, consumer=Consumer.SIGMOID, method=RangeMethod.ACTIVATION_MSE)
    assert -15 < chosen.low < -5
    assert 5 < chosen.high < 15


def test_entropy_keeps_a_uniform_tensor_and_cuts_a_lone_tail() -> None:
    x = np.random.default_rng(7).uniform(-2, 4, 60_000).astype(np.float32)
    whole = collect(x, method=RangeMethod.ENTROPY)
    assert (whole.low, whole.high) == pytest.approx((-2, 4), abs=0.1)
    x[0] = 400.0
    assert collect(x, method=RangeMethod.ENTROPY).high < 40


def test_entropy_survives_constant_and_one_sided_tensors() -> None:
    assert collect(np.full((4, 4), 3.0, np.float32), method=RangeMethod.ENTROPY) == Range(0, 3)
    above = collect(floats(1, 2, 3), method=RangeMethod.ENTROPY)
    assert (above.low, above.high) == (0, 3)
    assert collect(floats(-1, -2, -3), method=RangeMethod.ENTROPY) == Range(-3, 0)
