"""INT8 for OpenVINO through NNCF, and integer ends.

NNCF puts FakeQuantize after the activations, so that swish does not waste its levels as it does where the
tensor before it is quantized.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgefx.errors import ConversionError
from edgefx.types import ImageSet, IoDtype, OutputKind, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def quantize(model: Any, calibration: ImageSet, progress: Progress) -> Any:
    """Quantize weights and activations of `model` (an ``openvino.Model``) to INT8.

    Args:
        model: Float; its input is ``image``, float32 [1, H, W, 3]. It is not changed.
        calibration: Images for the activation ranges.
        progress: Counts images; each is used for ranges and for bias correction.

    Raises:
        ConversionError: NNCF refuses the model.
    """
    with quiet():
        import nncf

        nncf.set_log_level(logging.ERROR)
        total = len(calibration)
        with progress.task("quantizing for OpenVINO", total) as task:
            seen: set[int] = set()

            def feed(index: int) -> NDArray[np.float32]:
                if index not in seen:  # NNCF reads the images more than once
                    seen.add(index)
                    task.advance()
                return calibration.pixels[index : index + 1].astype("float32")

            try:
                return nncf.quantize(
                    model,
                    nncf.Dataset(range(total), feed),
                    preset=nncf.QuantizationPreset.MIXED,
                    subset_size=total,
                    fast_bias_correction=False,
                )
            except Exception as error:
                raise ConversionError(
                    f"NNCF could not quantize the model: {error}",
                    hint="the log file has NNCF's messages; openvino-float16 works without quantization",
                ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenVINO's tools from drawing bars on stdout, and from reporting usage over the network.

    Both send telemetry unless they run in CI, and have no other switch in their interface.
    """
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ |= dict.fromkeys(before, "true")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def set_io_dtype(
    model: Any, dtype: IoDtype, *, output: OutputKind, scores: NDArray[np.float32] | None
) -> tuple[float, int]:
    """Make input and output integers; returns scale and zero point of the output.

    The input holds raw pixels (``uint8``) or pixels - 128 (``int8``). Probabilities have the scale 1/255;
    logits get theirs from `scores`.

    Args:
        model: Changed in place.
        dtype: ``UINT8`` or ``INT8``.
        output: What the output means.
        scores: Float outputs on the calibration images [N, classes]; used for logits only.
    """
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    element, lowest = (ov.Type.u8, 0) if dtype is IoDtype.UINT8 else (ov.Type.i8, -128)
    low, high = 0.0, 1.0
    if output is OutputKind.LOGITS:
        assert scores is not None
        low, high = min(0.0, float(scores.min())), max(0.0, float(scores.max()))
    scale = float(np.float32((high - low) / 255 or 1.0))
    zero_point = round(lowest - low / scale)

    old = model.get_parameters()[0]
    image = ops.parameter(old.get_partial_shape(), element)
    pixels = ops.convert(image, ov.Type.f32)
    if lowest:
        pixels = ops.subtract(pixels, np.float32(lowest))
    names = old.output(0).get_names()
    image.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(pixels.output(0))
    model.remove_parameter(old)
    model.add_parameters([image])
    image.output(0).set_names(names)

    result = model.get_results()[0]
    float_output = result.input_value(0)
    names = float_output.get_names()
    float_output.set_names(set())
    scaled = ops.add(ops.multiply(float_output, np.float32(1 / scale)), np.float32(zero_point))
    clipped = ops.clamp(ops.round(scaled, "half_to_even"), float(lowest), float(lowest + 255))
    stored = ops.convert(clipped, element)
    stored.output(0).set_names(names)
    result.input(0).replace_source_output(stored.output(0))
    model.validate_nodes_and_infer_types()
    return scale, zero_point
