"""Activation ranges for ONNX: run the float model over the calibration images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgefx.quantize.ranges import Consumer, Range, RangeCollector, RangeMethod
from edgefx.targets.onnx_quantize import Plan
from edgefx.targets.onnx_session import open_session
from edgefx.types import ImageSet, Progress

if TYPE_CHECKING:
    import onnx


def ranges(
    model: onnx.ModelProto, plan: Plan, extra: tuple[str, ...], calibration: ImageSet, progress: Progress
) -> dict[str, Range]:
    """Choose the range of every tensor of the plan; memory does not grow with the number of images.

    Pre-swish tensors get the range of least error behind the swish, products (swish and squeeze-and-excite
    outputs, with their few very large values) that of least error, all others their extremes. Measured with
    only the planned tensors quantized, drop in pp and mean KL: V2-B0 2.9 / 0.081 -> 1.3 / 0.019 by giving
    products the least error instead of their extremes; B0 -0.8 / 0.007. Least error on the others too was
    worse on both (2.0 / 0.019 and -0.5 / 0.009).

    Args:
        model: The tidy float32 model.
        plan: Says which tensors.
        extra: Further tensors that get their extremes.
        calibration: Images of the model's size.
        progress: Told of each image.

    Raises:
        ConversionError: The float model overflows on an image.
    """
    import numpy as np
    from onnx import ModelProto, helper

    tensors = {**plan.tensors, **dict.fromkeys(extra, Consumer.GENERIC)}
    image = model.graph.input[0].name
    wanted = [name for name in tensors if name != image]
    probe = ModelProto()
    probe.CopyFrom(model)
    # Only the wanted tensors come out, so that ONNX Runtime does not compute what nothing needs.
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    session = open_session(probe.SerializeToString(), os.cpu_count() or 1)
    collectors = {
        method: RangeCollector(
            {name: kind for name, kind in tensors.items() if (name in plan.products) is of_products},
            methods=(method,),
        )
        for method, of_products in ((RangeMethod.SWISH_MSE, False), (RangeMethod.MSE, True))
    }
    with progress.task("calibrating onnx-int8", len(calibration)) as task:
        for pixels in calibration.pixels:
            feed = pixels[None].astype(np.float32)
            found = dict(zip(wanted, session.run(wanted, {image: feed}), strict=True))
            if image in tensors:
                found[image] = feed
            for method, collector in collectors.items():
                of_products = method is RangeMethod.MSE
                collector.update(
                    {name: value for name, value in found.items() if (name in plan.products) is of_products}
                )
            task.advance()
    return {
        name: limits
        for method, collector in collectors.items()
        for name, limits in collector.ranges(method).items()
    }
