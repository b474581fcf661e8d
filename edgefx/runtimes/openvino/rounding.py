"""Second moments of what an OpenVINO model's convolutions read, for rounding their weights.

See `edgefx.quantize.gptq`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.quantize.gptq import FloatArray, MomentsByName
from edgefx.quantize.questions import Values

Positions = NDArray[np.int64]

# tuned: ablations openvino.rounding.POSITIONS
_POSITIONS = 64  # per image and convolution; neighbours say much the same


class Correlating:
    """The vectors that convolutions multiply their weights with; see `questions.Question`.

    K, the length of a vector, is their input channels times their kernel's area. Memory does not grow with
    the images.

    Args:
        operations: Convolutions of the float model, without groups and dilation.
        seed: Of the positions that are looked at.
    """

    def __init__(self, operations: Sequence[Any], *, seed: int) -> None:
        self._operations = {operation.get_friendly_name(): operation for operation in operations}
        self._moments = MomentsByName()
        self._read = {name: _source(operation) for name, operation in self._operations.items()}
        self._sizes = [math.prod(operation.get_output_shape(0)[2:]) for operation in operations]
        self._generator = np.random.default_rng(seed)

    @property
    def names(self) -> Collection[str]:
        """What they read."""
        return dict.fromkeys(self._read.values())

    def told(self) -> Iterator[list[Positions]]:
        """Draw the positions of each convolution."""
        while True:
            yield [np.sort(self._generator.permutation(size)[:_POSITIONS]) for size in self._sizes]

    def keep(self, told: list[Positions], values: Values) -> dict[str, NDArray[np.float32]]:
        """Return what each convolution reads at its positions."""
        return {
            name: vectors(values[self._read[name]][0], operation, positions)
            for (name, operation), positions in zip(self._operations.items(), told, strict=True)
        }

    def add(self, kept: dict[str, NDArray[np.float32]]) -> None:
        """Add one image's."""
        self._moments.add(kept)

    def moments(self, name: str) -> FloatArray | None:
        """Return the covariance [K, K] of a convolution's vectors; None of one that was not asked for."""
        return self._moments.central(name) if name in self._operations else None


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
