"""Second moments of what an OpenVINO model's convolutions read, for rounding their weights.

See `edgefx.quantize.gptq`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Task
from edgefx.quantize.gptq import FloatArray, Moments
from edgefx.runtimes.openvino import calibrate
from edgefx.types import ImageSet

# tuned: ablations openvino.rounding.POSITIONS
_POSITIONS = 64  # per image and convolution; neighbours say much the same
_TOGETHER = 10  # images between two matrix products: one for each image takes twice as long


def moments(
    model: Any, operations: Sequence[Any], images: ImageSet, *, seed: int, task: Task
) -> dict[str, FloatArray]:
    """Return the covariance [K, K] of the vectors that each convolution multiplies its weights with.

    K is its input channels times its kernel's area. Memory does not grow with the images.

    Args:
        model: Float.
        operations: Convolutions of it, without groups and dilation.
        images: Of the model's size.
        seed: Of the positions that are looked at.
        task: Counts the images.
    """
    probe = model.clone()
    named = {operation.get_friendly_name(): operation for operation in probe.get_ordered_ops()}
    read = {operation.get_friendly_name(): _source(operation) for operation in operations}
    sources = list(dict.fromkeys(read.values()))
    probe.add_outputs([named[source].output(0) for source in sources])
    generator = np.random.default_rng(seed)
    waiting: dict[str, list[NDArray[np.float32]]] = {name: [] for name in read}
    sums: dict[str, Moments] = {}
    for number, values in enumerate(calibrate.added_outputs(probe, images), start=1):
        found = {source: value[0] for source, value in zip(sources, values, strict=True)}
        for operation in operations:
            name = operation.get_friendly_name()
            waiting[name].append(vectors(found[read[name]], operation, generator))
        if number % _TOGETHER == 0 or number == len(images):
            for name, parts in waiting.items():
                together = np.concatenate(parts)
                sums.setdefault(name, Moments(together.shape[1])).add(together)
                parts.clear()
        task.advance()
    return {name: sums[name].central() for name in read}


def vectors(
    value: NDArray[np.float32], operation: Any, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return some of the vectors that a convolution multiplies its weights [out, K] with, [n, K].

    Args:
        value: What it reads, [C, H, W].
        operation: The convolution.
        generator: Chooses the positions.
    """
    settings = operation.get_attributes()
    kernel = [int(size) for size in operation.input_value(1).get_shape()[2:]]
    strides = [int(stride) for stride in settings["strides"]]
    pads = []
    for axis, (before, after) in enumerate(zip(settings["pads_begin"], settings["pads_end"], strict=True)):
        results = int(operation.get_output_shape(0)[2 + axis])
        missing = max((results - 1) * strides[axis] + kernel[axis] - value.shape[1 + axis], 0)
        match str(settings["auto_pad"]):
            case "same_upper":
                pads.append((missing // 2, missing - missing // 2))
            case "same_lower":
                pads.append((missing - missing // 2, missing // 2))
            case _:
                pads.append((int(before), int(after)))
    padded = np.pad(value, ((0, 0), *pads))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    height, width = windows.shape[1:3]
    chosen = np.sort(generator.permutation(height * width)[:_POSITIONS])
    picked = windows[:, chosen // width, chosen % width]  # [C, n, kh, kw]
    return np.ascontiguousarray(picked.transpose(1, 0, 2, 3)).reshape(len(chosen), -1)


def _source(operation: Any) -> str:
    return str(operation.input_value(0).get_node().get_friendly_name())
