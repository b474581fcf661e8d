"""What weights shift on average, for each kind of layer."""

from __future__ import annotations

import numpy as np
import pytest

from edgefx.models.graph import ir
from edgefx.qat import transfer

_RANDOM = np.random.default_rng(0)


def _kernel(*shape: int) -> ir.Array:
    return _RANDOM.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        pytest.param(
            ir.Dense(_kernel(4, 3), None),
            lambda kernel, mean: mean @ kernel,
            id="dense",
        ),
        pytest.param(
            ir.Conv(_kernel(3, 3, 4, 5), None, (1, 1), (1, 1), "SAME"),
            lambda kernel, mean: np.einsum("hwio,i->o", kernel, mean),
            id="convolution",
        ),
        pytest.param(
            ir.Conv(_kernel(3, 3, 2, 6), None, (1, 1), (1, 1), "SAME"),
            lambda kernel, mean: np.concatenate(
                [
                    np.einsum("hwio,i->o", kernel[..., :3], mean[:2]),
                    np.einsum("hwio,i->o", kernel[..., 3:], mean[2:]),
                ]
            ),
            id="grouped convolution",
        ),
        pytest.param(
            ir.DepthwiseConv(_kernel(3, 3, 4, 2), None, (1, 1), (1, 1), "SAME"),
            lambda kernel, mean: np.einsum("hwim,i->im", kernel, mean).reshape(-1),
            id="depthwise convolution",
        ),
    ],
)
def test_a_constant_input_is_shifted_by_its_product_with_the_weights(op, expected) -> None:  # type: ignore[no-untyped-def]
    mean = _RANDOM.normal(size=4)
    np.testing.assert_allclose(transfer._shift(op, op.kernel, mean), expected(op.kernel, mean), rtol=1e-6)
