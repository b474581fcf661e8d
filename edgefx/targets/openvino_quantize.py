"""INT8 for OpenVINO through NNCF, and integer ends.

NNCF puts FakeQuantize after the activations, so that swish does not waste its levels as it does where the
tensor before it is quantized.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING, Any

from edgefx.errors import ConversionError
from edgefx.types import ImageSet, IoDtype, OutputKind, Progress, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WIDER = 2.0
_SMALLEST_RANGE = 1e-3  # of a channel that is dead on all calibration images
_SWISH_MINIMUM = -0.27846455  # of x * sigmoid(x), at x = -1.2785


def quantize(model: Any, calibration: ImageSet, progress: Progress) -> Any:
    """Quantize weights and activations of `model` (an ``openvino.Model``) to INT8.

    Beyond NNCF's own (preset MIXED, fast bias correction), depthwise inputs get wider ranges
    (`_widen_depthwise`), and the weights that NNCF leaves in float, those of squeeze-and-excitation, are
    stored as INT8 too.

    Args:
        model: Float; its input is ``image``, float32 [1, H, W, 3]. It is not changed.
        calibration: Images for the activation ranges.
        progress: Counts images, once for the peaks and once for NNCF's ranges.

    Raises:
        ConversionError: NNCF refuses the model.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars there
        import nncf

        nncf.set_log_level(logging.ERROR)
        total = len(calibration)
        with progress.task("quantizing for OpenVINO", 2 * total) as task:
            peaks = _channel_extremes(model, calibration, task)
            seen: set[int] = set()

            def feed(index: int) -> NDArray[np.float32]:
                if index not in seen:  # NNCF reads the images more than once
                    seen.add(index)
                    task.advance()
                return calibration.pixels[index : index + 1].astype("float32")

            try:
                quantized = nncf.quantize(
                    model,
                    nncf.Dataset(range(total), feed),
                    preset=nncf.QuantizationPreset.MIXED,
                    subset_size=total,
                )
            except Exception as error:
                raise ConversionError(
                    f"NNCF could not quantize the model: {error}",
                    hint="the log file has NNCF's messages; openvino-float16 works without quantization",
                ) from error
        _widen_depthwise(quantized, peaks)
        _store_weights_as_int8(quantized)
        quantized.validate_nodes_and_infer_types()
        return quantized


def _channel_extremes(
    model: Any, images: ImageSet, task: Task
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Smallest and largest value per channel of what each depthwise convolution reads, by its producer."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    probe = model.clone()
    sources = [
        operation.input_value(0)
        for operation in probe.get_ordered_ops()
        if operation.get_type_name() == "GroupConvolution"
    ]
    extremes = []
    for source in sources:
        others = ops.constant(np.array([0, 2, 3], np.int64))
        extremes += [
            ops.reduce_min(source, others, False).output(0),
            ops.reduce_max(source, others, False).output(0),
        ]
    if not extremes:
        return {}
    probe.add_outputs(extremes)
    request = ov.Core().compile_model(probe, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    seen = []
    for image in images.pixels:
        request.infer([image[None].astype(np.float32)])
        seen.append([request.get_output_tensor(1 + k).data.copy() for k in range(len(extremes))])
        task.advance()
    found = [np.stack(values) for values in zip(*seen, strict=True)]  # each [images, channels]
    return {
        source.get_node().get_friendly_name(): (found[2 * k].min(axis=0), found[2 * k + 1].max(axis=0))
        for k, source in enumerate(sources)
    }


def _widen_depthwise(
    model: Any, extremes: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    """Give each channel that a depthwise convolution reads twice the range seen in calibration.

    NNCF quantizes these inputs per channel. Channels that answer to few classes are hardly seen among some
    hundred calibration images and are clipped later; a doubled range costs one bit of their resolution.
    Measured with 100 images, mean KL to the float model: V2-B0 on ImageNet 0.031 -> 0.015, B0 on five classes
    0.0096 -> 0.0081; in float instead of INT8 they would be 0.011 and 0.0063, at 11 to 25 % more time.
    """
    import numpy as np
    from openvino import opset13 as ops

    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "GroupConvolution":
            continue
        quantizer = operation.input_value(0).get_node()
        if quantizer.get_type_name() != "FakeQuantize":
            continue
        producer = quantizer.input_value(0).get_node()
        shape = tuple(quantizer.input_value(1).get_shape())
        if producer.get_friendly_name() not in extremes or len(shape) != 4 or shape[1] == 1:
            continue
        seen = extremes[producer.get_friendly_name()]
        low = np.float32(_WIDER) * np.minimum(seen[0], 0)
        high = np.float32(_WIDER) * np.maximum(seen[1], _SMALLEST_RANGE)
        if producer.get_type_name() == "Swish":
            low = np.maximum(low, np.float32(_SWISH_MINIMUM))
        step = (high - low) / 255
        zero_point = np.round(-low / step)  # zero must be a level: padding is zero
        for side, bound in ((1, -zero_point * step), (2, (255 - zero_point) * step)):
            constant = ops.constant(bound.astype(np.float32).reshape(shape)).output(0)
            quantizer.input(side).replace_source_output(constant)
            quantizer.input(side + 2).replace_source_output(constant)


def _store_weights_as_int8(model: Any) -> None:
    """Store float kernels as INT8 with a scale per output channel; opening the model unpacks them.

    NNCF keeps squeeze-and-excitation in float: 0.2 % of B0's MACs, and without this a third of the file.
    """
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Convolution":
            continue
        kernel = operation.input_value(1).get_node()
        if kernel.get_type_name() != "Constant" or kernel.get_element_type() != ov.Type.f32:
            continue
        values = kernel.data
        scale = np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True) / 127, np.finfo(np.float32).tiny)
        stored = ops.constant(np.round(values / scale).astype(np.int8))
        unpacked = ops.multiply(ops.convert(stored, ov.Type.f32), ops.constant(scale.astype(np.float32)))
        operation.input(1).replace_source_output(unpacked.output(0))


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
