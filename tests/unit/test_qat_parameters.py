"""Weights that share a value in an artifact, and are trained as one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.qat.parameters import FakeQuantization, Weights


def weights(codes: NDArray[np.int64]) -> Weights:
    """A convolution [1, 1, in, out] whose channels have steps of their own; weights lie beside codes."""
    steps = np.float32(0.01) * np.arange(1, codes.shape[-1] + 1, dtype=np.float32) * np.ones(codes.shape)
    beside = np.random.default_rng(0).uniform(-0.4, 0.4, codes.shape)
    return Weights(
        kernel=((codes + beside) * steps).astype(np.float32),
        bias=np.zeros(codes.shape[-1], np.float32),
        steps=steps.astype(np.float32),
        factors=np.ones(codes.shape, np.float32),
        bias_factors=np.ones(1, np.float32),
    )


def drawn(values: int, shape: tuple[int, ...] = (1, 1, 64, 40)) -> NDArray[np.int64]:
    generator = np.random.default_rng(1)
    return generator.choice(generator.permutation(np.arange(-100, 100))[:values], shape)


def test_weights_of_a_layer_with_few_codes_share_them() -> None:
    codes = drawn(8)
    shared = weights(codes).clustered(8).shared
    assert shared is not None
    assert shared.shape == codes.shape
    assert len(np.unique(shared)) == 8
    assert all(len(np.unique(codes[shared == one])) == 1 for one in range(8))


def test_channels_may_have_codes_of_their_own() -> None:
    codes = np.concatenate([drawn(4, (1, 1, 64, 1)) + shift for shift in range(-20, 20)], axis=-1)
    shared = weights(codes).clustered(4).shared
    assert shared is not None
    assert len(np.unique(shared)) == 4 * 40
    for channel in range(40):
        assert len(np.unique(shared[..., channel])) == 4


def test_a_layer_that_was_not_clustered_and_a_small_one_stay_as_they_are() -> None:
    assert weights(drawn(100)).clustered(16).shared is None
    layers = {"large": weights(drawn(8)), "small": weights(drawn(8, (1, 1, 8, 8)))}
    found = FakeQuantization(grids={}, outputs={}, weights=layers).clustered(16)
    assert found.weights["large"].shared is not None
    assert found.weights["small"].shared is None


def test_what_is_trained_is_a_value_and_moves_all_of_its_weights() -> None:
    tf = pytest.importorskip("tensorflow")
    from edgefx.models.graph import ir
    from edgefx.qat.layers import Convolution

    start = weights(drawn(8)).clustered(8)
    op = ir.Conv(kernel=start.kernel, bias=start.bias, strides=(1, 1), dilation=(1, 1), padding="SAME")
    layer = Convolution(ir.Node(name="c", kind="Conv2D", inputs=(), op=op), None, start)
    np.testing.assert_allclose(layer.kernel().numpy(), start.rounded(), rtol=1e-6)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer.kernel())
    assert start.shared is not None
    steps = np.array([start.steps[start.shared == one].sum() for one in range(8)])
    gradient = tape.gradient(total, layer.codes).numpy()
    np.testing.assert_allclose(gradient / gradient.sum(), steps / steps.sum(), rtol=1e-4)
    assert gradient.sum() > 8 * steps.sum(), "values lie some twenty codes apart, and move in units of that"
    layer.codes.assign_add(np.full(8, 0.1, np.float32))
    assert len(np.unique(np.round(layer.read().kernel / start.steps))) == 8
    assert layer.read().shared is start.shared


def test_zeros_stay_zero_while_others_are_trained() -> None:
    pytest.importorskip("tensorflow")
    from edgefx.models.graph import ir
    from edgefx.qat.layers import Convolution

    codes = drawn(8)
    codes[..., :20] = 0
    layers = {"large": weights(codes), "small": weights(codes[:, :, :8])}
    found = FakeQuantization(grids={}, outputs={}, weights=layers).clustered(9).pruned().weights
    assert found["small"].kept is None
    start = found["large"]
    op = ir.Conv(kernel=start.kernel, bias=start.bias, strides=(1, 1), dilation=(1, 1), padding="SAME")
    layer = Convolution(ir.Node(name="c", kind="Conv2D", inputs=(), op=op), None, start)
    layer.codes.assign_add(np.full(layer.codes.shape, 3.0, np.float32))
    trained = np.round(layer.read().kernel / start.steps)
    np.testing.assert_array_equal(trained == 0, codes == 0)
    np.testing.assert_allclose(layer.kernel().numpy(), trained * start.steps, rtol=1e-6)
