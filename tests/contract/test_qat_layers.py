"""Rounding that passes gradients: values as the integer kernels have them, gradients as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.qat.parameters import QuantGrid

tf = pytest.importorskip("tensorflow")

GRID = QuantGrid(scale=0.05, zero_point=-20)
GATE = QuantGrid(scale=1 / 256, zero_point=-128, fixed=True)
OUT = QuantGrid(scale=0.04, zero_point=-120)


def values(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)


def rounded(x: NDArray[np.float32], grid: QuantGrid) -> NDArray[np.float32]:
    codes = np.clip(np.floor(x / np.float32(grid.scale) + 0.5), -128 - grid.zero_point, 127 - grid.zero_point)
    return np.asarray(codes * grid.scale, np.float32)


def same_but_for_ties(found: Any, wanted: NDArray[np.float32], step: float) -> None:
    difference = np.abs(np.asarray(found) - wanted)
    assert difference.max() <= 1.01 * step
    assert (difference > step / 2).mean() < 2e-3


def test_a_grid_rounds_and_passes_gradients_inside_only() -> None:
    from edgefx.qat.layers import TrainedGrid

    grid, x = TrainedGrid(GRID, "g"), values(8, 50)
    weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        source = tf.constant(x)
        tape.watch(source)
        y = grid(source)
        total = tf.reduce_sum(y * weights)
    dx, d_scale = tape.gradient(total, [source, grid.log_scale])
    same_but_for_ties(y, rounded(x, GRID), GRID.scale)
    inside = (x > GRID.low) & (x < GRID.high)
    assert 0.5 < inside.mean() < 1
    near = np.minimum(np.abs(x - GRID.low), np.abs(x - GRID.high)) < GRID.scale
    np.testing.assert_allclose(dx.numpy()[~near], np.where(inside, weights, 0)[~near], rtol=1e-6)
    # Of eight images the first stands for all; learned step size quantization, times the scale.
    learned = 8 * (weights[0] * y.numpy()[0] - np.where(inside, weights * x, 0)[0]).sum()
    assert float(d_scale) == pytest.approx(learned, rel=0.02, abs=0.5)


def test_a_prescribed_grid_is_not_trained() -> None:
    from edgefx.qat.layers import TrainedGrid

    grid = TrainedGrid(GATE, "g")
    assert not grid.trainable_variables
    assert grid.read() == GATE
    assert float(grid(tf.constant(2.0))) == pytest.approx(255 / 256)


@pytest.mark.parametrize("factors", [None, np.linspace(0.2, 1.0, 5, dtype=np.float32)])
def test_swish_rounds_its_input_its_gate_and_its_product(factors: NDArray[np.float32] | None) -> None:
    from edgefx.qat.layers import Swish, TrainedGrid

    before, behind, x = TrainedGrid(GRID, "before"), TrainedGrid(OUT, "behind"), values(8, 6, 6, 5)
    whole = None if factors is None else QuantGrid(scale=1 / 16, zero_point=0, fixed=True)
    layer = Swish("s", behind, before=before, gate=GATE, whole=whole, factors=factors)
    source = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        y = layer(source)
        total = tf.reduce_sum(y)
    gradient = tape.gradient(total, source).numpy()

    inner = rounded(x, GRID)
    wide = inner if factors is None or whole is None else rounded((inner * factors).astype("f"), whole)
    gate = rounded((1 / (1 + np.exp(-wide))).astype(np.float32), GATE)
    product = np.multiply(inner, gate)
    same_but_for_ties(y, rounded(product, OUT), OUT.scale)
    k = np.ones(1, np.float32) if factors is None else factors
    sigmoid = 1 / (1 + np.exp(-k * x))
    smooth = sigmoid + k * x * sigmoid * (1 - sigmoid)
    clear = (
        (x > GRID.low + 0.1) & (x < GRID.high - 0.1) & (product > OUT.low + 0.1) & (product < OUT.high - 0.1)
    )
    assert clear.mean() > 0.2
    np.testing.assert_allclose(gradient[clear], smooth[clear], atol=0.03)
    outside = (x < GRID.low - 0.1) | (x > GRID.high + 0.1)
    assert outside.any()
    assert not gradient[outside].any()


def test_weights_are_narrow_codes_and_come_back_in_real_units() -> None:
    from edgefx.models.graph.ir import IMAGE, Dense, Node, Ref
    from edgefx.qat import layers
    from edgefx.qat.parameters import Weights

    steps = np.broadcast_to(np.array([[0.1, 0.2]], np.float32), (3, 2)).copy()
    kernel = np.array([[0.04, 0.31], [12.69, -99.0], [-0.06, 0.0]], np.float32)
    weights = Weights(
        kernel=kernel,
        bias=np.array([1.0, -2.0], np.float32),
        steps=steps,
        factors=np.ones_like(kernel),
        bias_factors=np.ones(1, np.float32),
    )
    node = Node(name="d", kind="Dense", inputs=(Ref(IMAGE),), op=Dense(kernel=kernel, bias=weights.bias))
    layer = layers.Dense(node, None, weights)
    y = layer(tf.constant(np.eye(3, dtype=np.float32))).numpy() - weights.bias
    np.testing.assert_allclose(y, [[0.0, 0.4], [12.7, -25.4], [-0.1, 0.0]], atol=1e-5)
    np.testing.assert_allclose(layer.read().kernel, kernel, rtol=1e-6)
    np.testing.assert_allclose(layer.read().bias, weights.bias, rtol=1e-6)
