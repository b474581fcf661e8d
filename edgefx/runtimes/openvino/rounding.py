"""Second moments of what an OpenVINO model's convolutions read, for rounding their weights.

See `edgefx.quantize.gptq`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Task
from edgefx.quantize.gptq import FloatArray, MomentsByName
from edgefx.quantize.questions import Values
from edgefx.runtimes.openvino import calibrate
from edgefx.types import ImageSet

Positions = NDArray[np.int64]

# tuned: ablations openvino.rounding.POSITIONS
_POSITIONS = 64  # per image and convolution; neighbours say much the same


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
    correlated = _Correlated(operations, seed=seed)
    if operations:
        calibrate.ask(model, [correlated], images, task)
    return {name: correlated.moments.central(name) for name in correlated.operations}


class _Correlated:
    """What convolutions multiply their weights with; see `questions.Question`."""

    def __init__(self, operations: Sequence[Any], *, seed: int) -> None:
        self.operations = {operation.get_friendly_name(): operation for operation in operations}
        self.moments = MomentsByName()
        self._read = {name: _source(operation) for name, operation in self.operations.items()}
        self._sizes = [math.prod(operation.get_output_shape(0)[2:]) for operation in operations]
        self._generator = np.random.default_rng(seed)

    @property
    def names(self) -> Collection[str]:
        return dict.fromkeys(self._read.values())

    def told(self) -> Iterator[list[Positions]]:
        while True:
            yield [np.sort(self._generator.permutation(size)[:_POSITIONS]) for size in self._sizes]

    def keep(self, told: list[Positions], values: Values) -> dict[str, NDArray[np.float32]]:
        return {
            name: vectors(values[self._read[name]][0], operation, positions)
            for (name, operation), positions in zip(self.operations.items(), told, strict=True)
        }

    def add(self, kept: dict[str, NDArray[np.float32]]) -> None:
        self.moments.add(kept)


def vectors(value: NDArray[np.float32], operation: Any, positions: Positions) -> NDArray[np.float32]:
    """Return the vectors that a convolution multiplies its weights [out, K] with at some positions, [n, K].

    Args:
        value: What it reads, [C, H, W].
        operation: The convolution.
        positions: In what it makes, row by row.
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
    width = windows.shape[2]
    picked = windows[:, positions // width, positions % width]  # [C, n, kh, kw]
    return np.ascontiguousarray(picked.transpose(1, 0, 2, 3)).reshape(len(positions), -1)


def _source(operation: Any) -> str:
    return str(operation.input_value(0).get_node().get_friendly_name())
