"""EfficientNetV2s that Keras has no function for: XL, and variants scaled from B0. Keras builds them all."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from edgefx.models.backend import import_keras

if TYPE_CHECKING:
    from edgefx.models.scaling import Scaling

_FIELDS = (
    "kernel_size",
    "num_repeat",
    "input_filters",
    "output_filters",
    "expand_ratio",
    "se_ratio",
    "strides",
    "conv_type",  # 1: fused
)
# Stages of XL: google/automl, efficientnetv2/effnetv2_configs.py, `v2_xl_block`.
_XL = (
    (3, 4, 32, 32, 1, 0, 1, 1),
    (3, 8, 32, 64, 4, 0, 2, 1),
    (3, 8, 64, 96, 4, 0, 2, 1),
    (3, 16, 96, 192, 4, 0.25, 2, 0),
    (3, 24, 192, 256, 6, 0.25, 1, 0),
    (3, 32, 256, 512, 6, 0.25, 2, 0),
    (3, 8, 512, 640, 6, 0.25, 1, 0),
)
_DROPOUT_OF_XL = 0.5


def constructor(input_size: int, scaled: Scaling | None) -> Any:
    """Return a function that takes what Keras' own take: ``weights``, ``classes``, ``input_shape``.

    Args:
        input_size: Default height and width in pixels.
        scaled: Coefficients that are counted from B0; None for XL.
    """
    keras = import_keras()
    # `keras.applications` has the functions of the published sizes only; the builder is in their module.
    v2 = sys.modules[keras.applications.EfficientNetV2B0.__module__]
    if scaled is None:
        blocks = [dict(zip(_FIELDS, stage, strict=True)) for stage in _XL]
        return partial(
            v2.EfficientNetV2,
            1.0,
            1.0,
            input_size,
            dropout_rate=_DROPOUT_OF_XL,
            blocks_args=blocks,
            name="efficientnetv2-xl",
        )
    # B0 to B3 normalize by ImageNet's figures, which the builder tells by the end of the name.
    return partial(
        v2.EfficientNetV2,
        scaled.width,
        scaled.depth,
        input_size,
        blocks_args=v2.DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"],
        name=f"efficientnetv2{scaled.suffix}-b0",
    )
