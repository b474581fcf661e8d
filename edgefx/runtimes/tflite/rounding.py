"""Weights of an INT8 ``.tflite`` rounded so that the errors cancel in what the convolutions make.

See `edgefx.quantize.gptq`. The codes of the quantized file are replaced; its scales stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.protocols import Progress
from edgefx.quantize.gptq import Moments, rounded
from edgefx.runtimes.tflite import flatbuffer, segments

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgefx.types import Pixels

# tuned: ablations tflite.rounding.POSITIONS
_POSITIONS = 64  # per image and convolution; neighbours say much the same
_TOGETHER = 10  # images between two matrix products: one for each image takes twice as long


@dataclass(frozen=True)
class _Convolution:
    """A dense convolution, the same in the float graph and in the quantized one."""

    source: str  # name of the tensor it reads
    weights: str  # name of its weights
    kernel: tuple[int, int]
    strides: tuple[int, int]
    same: bool  # padding


def optimize(float_model: ModelT, model: ModelT, images: Pixels, *, seed: int, progress: Progress) -> None:
    """Replace the INT8 weights of the dense convolutions and matrix products of `model`.

    Args:
        float_model: The graph that `model` was quantized from.
        model: The integer graph; changed in place.
        images: Calibration images of the graph's size, uint8 [N, H, W, 3].
        seed: Of the positions that are looked at.
        progress: Advanced once per image and once per convolution.
    """
    convolutions = _convolutions(float_model)
    values = {t.name.decode(): t for t in float_model.subgraphs[0].tensors}
    stored = {t.name.decode(): t for t in model.subgraphs[0].tensors}
    moments = _moments(float_model, convolutions, images, seed=seed, progress=progress)
    with progress.task("rounding weights", len(convolutions)) as task:
        for convolution in convolutions:
            task.advance()
            target = stored.get(convolution.weights)
            exact = flatbuffer.constant(float_model, values[convolution.weights])
            if target is None or exact is None or flatbuffer.dtype_name(target) != "int8":
                continue  # kept in float
            steps = np.broadcast_to(np.asarray(target.quantization.scale, np.float64), len(exact))
            codes = rounded(exact.reshape(len(exact), -1), steps, moments[convolution.weights].central())
            model.buffers[target.buffer].data = codes.reshape(-1).view(np.uint8)


def _convolutions(model: ModelT) -> list[_Convolution]:
    from ai_edge_litert.schema_py_generated import Padding

    graph = model.subgraphs[0]
    found = []
    for op in graph.operators:
        name = flatbuffer.op_name(model, op)
        if name not in ("CONV_2D", "FULLY_CONNECTED"):
            continue
        source, weights = (graph.tensors[index] for index in op.inputs[:2])
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
            )
        )
    return found


def _is_plain(op: OperatorT, name: str) -> bool:
    options = op.builtinOptions
    return name == "FULLY_CONNECTED" or (options.dilationHFactor, options.dilationWFactor) == (1, 1)


def _moments(
    model: ModelT, convolutions: Sequence[_Convolution], images: Pixels, *, seed: int, progress: Progress
) -> dict[str, Moments]:
    """Return the moments of what each convolution multiplies its weights with, by its weights' name."""
    generator = np.random.default_rng(seed)
    waiting: dict[str, list[NDArray[np.float32]]] = {conv.weights: [] for conv in convolutions}
    sums: dict[str, Moments] = {}
    sources = dict.fromkeys(conv.source for conv in convolutions)
    with progress.task("correlating activations", len(images)) as task:
        for number, found in enumerate(_activations(model, list(sources), images), start=1):
            for conv in convolutions:
                waiting[conv.weights].append(_vectors(found[conv.source], conv, generator))
            if number % _TOGETHER == 0 or number == len(images):
                for name, parts in waiting.items():
                    together = np.concatenate(parts)
                    sums.setdefault(name, Moments(together.shape[1])).add(together)
                    parts.clear()
            task.advance()
    return sums


def _activations(
    model: ModelT, names: Sequence[str], images: Pixels
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the named tensors of each image, [H, W, C] or [C]."""
    graph = model.subgraphs[0]
    indices = {tensor.name.decode(): index for index, tensor in enumerate(graph.tensors)}
    made = [name for name in names if indices[name] not in graph.inputs]
    for image, values in zip(
        images, segments.activations(model, [indices[name] for name in made], images), strict=True
    ):
        found = {name: values[indices[name]][0] for name in made}
        yield found | {name: image.astype(np.float32) for name in names if name not in found}


def _vectors(
    value: NDArray[np.float32], convolution: _Convolution, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return some of the vectors that a convolution multiplies its weights with, [n, kh * kw * C]."""
    if value.ndim == 1:
        return value[None]
    (kh, kw), (sh, sw) = convolution.kernel, convolution.strides
    if convolution.same and (kh, kw) != (1, 1):
        value = np.pad(value, (_same(value.shape[0], kh, sh), _same(value.shape[1], kw, sw), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(value, (kh, kw), axis=(0, 1))[::sh, ::sw]
    height, width = windows.shape[:2]
    chosen = generator.permutation(height * width)[:_POSITIONS]
    picked = windows[chosen // width, chosen % width]  # [n, C, kh, kw]
    return np.ascontiguousarray(picked.transpose(0, 2, 3, 1)).reshape(len(chosen), -1)


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and behind that SAME padding adds along an axis."""
    missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return missing // 2, missing - missing // 2
