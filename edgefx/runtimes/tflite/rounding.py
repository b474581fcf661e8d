"""Weights of an INT8 ``.tflite`` rounded so that the errors cancel in what the convolutions make.

See `edgefx.quantize.gptq`. The codes of the quantized file are replaced; its scales stay.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.gptq import FloatArray, MomentsByName, rounded
from edgefx.quantize.questions import Values
from edgefx.runtimes.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    Positions = NDArray[np.int64]

# tuned: ablations tflite.rounding.POSITIONS
_POSITIONS = 64  # per image and convolution; neighbours say much the same


@dataclass(frozen=True)
class _Convolution:
    """A dense convolution, the same in the float graph and in the quantized one."""

    source: str  # name of the tensor it reads
    weights: str  # name of its weights
    kernel: tuple[int, int]
    strides: tuple[int, int]
    same: bool  # padding
    positions: int  # that it is computed at


def optimize(float_model: ModelT, model: ModelT, correlated: Correlated, progress: Progress) -> None:
    """Replace the INT8 weights of the dense convolutions and matrix products of `model`.

    Args:
        float_model: The graph that `model` was quantized from.
        model: The integer graph; changed in place.
        correlated: What the convolutions of `float_model` read of the calibration images.
        progress: Advanced once per convolution.
    """
    found = convolutions(float_model)
    values = {t.name.decode(): t for t in float_model.subgraphs[0].tensors}
    stored = {t.name.decode(): t for t in model.subgraphs[0].tensors}
    with progress.task("rounding weights", len(found)) as task:
        for convolution in found:
            task.advance()
            target = stored.get(convolution.weights)
            exact = flatbuffer.constant(float_model, values[convolution.weights])
            if target is None or exact is None or flatbuffer.dtype_name(target) != "int8":
                continue  # kept in float
            steps = np.broadcast_to(np.asarray(target.quantization.scale, np.float64), len(exact))
            codes = rounded(exact.reshape(len(exact), -1), steps, correlated.moments(convolution.weights))
            model.buffers[target.buffer].data = codes.reshape(-1).view(np.uint8)


def convolutions(model: ModelT) -> list[_Convolution]:
    """Return the dense convolutions and matrix products of a float graph whose weights can be rounded."""
    from ai_edge_litert.schema_py_generated import Padding

    graph = model.subgraphs[0]
    found = []
    for op in graph.operators:
        name = flatbuffer.op_name(model, op)
        if name not in ("CONV_2D", "FULLY_CONNECTED"):
            continue
        source, weights, output = (graph.tensors[index] for index in (*op.inputs[:2], op.outputs[0]))
        if flatbuffer.constant(model, weights) is None or not _is_plain(op, name):
            continue
        shape, options = flatbuffer.shape_of(weights), op.builtinOptions
        if name == "CONV_2D" and flatbuffer.shape_of(source)[3] != shape[3]:
            continue  # groups
        found.append(
            _Convolution(
                source=source.name.decode(),
                weights=weights.name.decode(),
                kernel=(shape[1], shape[2]) if name == "CONV_2D" else (1, 1),
                strides=(options.strideH, options.strideW) if name == "CONV_2D" else (1, 1),
                same=name == "CONV_2D" and options.padding == Padding.SAME,
                positions=math.prod(flatbuffer.shape_of(output if name == "CONV_2D" else source)[1:-1]),
            )
        )
    return found


def _is_plain(op: OperatorT, name: str) -> bool:
    options = op.builtinOptions
    return name == "FULLY_CONNECTED" or (options.dilationHFactor, options.dilationWFactor) == (1, 1)


class Correlated:
    """The moments of what each dense convolution multiplies its weights with; see `questions.Question`.

    Args:
        model: The float graph.
        seed: Of the positions that are looked at.
    """

    def __init__(self, model: ModelT, *, seed: int) -> None:
        self._convolutions = convolutions(model)
        self._generator = np.random.default_rng(seed)
        self._moments = MomentsByName()

    @property
    def names(self) -> Collection[str]:
        """What the convolutions read."""
        return dict.fromkeys(conv.source for conv in self._convolutions)

    def told(self) -> Iterator[list[Positions]]:
        """Draw the positions of each convolution."""
        while True:
            yield [self._generator.permutation(conv.positions)[:_POSITIONS] for conv in self._convolutions]

    def keep(self, told: list[Positions], values: Values) -> dict[str, NDArray[np.float32]]:
        """Return what each convolution reads at its positions."""
        return {
            conv.weights: _vectors(values[conv.source][0], conv, positions)
            for conv, positions in zip(self._convolutions, told, strict=True)
        }

    def add(self, kept: dict[str, NDArray[np.float32]]) -> None:
        """Add one image's."""
        self._moments.add(kept)

    def moments(self, weights: str) -> FloatArray:
        """Return the covariance of what the convolution with these weights multiplies them with."""
        return self._moments.central(weights)

    def mean(self, weights: str) -> FloatArray:
        """Return the mean of what the convolution with these weights multiplies them with."""
        return self._moments.mean(weights)


def _vectors(
    value: NDArray[np.float32], convolution: _Convolution, positions: Positions
) -> NDArray[np.float32]:
    """Return the vectors that a convolution multiplies its weights with at some positions, [n, kh * kw * C].

    Args:
        value: What it reads, [H, W, C], [positions, C] or [C].
        convolution: Says what it makes of that.
        positions: In what it makes, row by row.
    """
    if value.ndim <= 2:
        return np.array(value.reshape(-1, value.shape[-1])[positions], np.float32)
    (kh, kw), (sh, sw) = convolution.kernel, convolution.strides
    if convolution.same and (kh, kw) != (1, 1):
        value = np.pad(value, (_same(value.shape[0], kh, sh), _same(value.shape[1], kw, sw), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(value, (kh, kw), axis=(0, 1))[::sh, ::sw]
    width = windows.shape[1]
    picked = windows[positions // width, positions % width]  # [n, C, kh, kw]
    return np.ascontiguousarray(picked.transpose(0, 2, 3, 1), np.float32).reshape(len(positions), -1)


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and behind that SAME padding adds along an axis."""
    missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return missing // 2, missing - missing // 2
