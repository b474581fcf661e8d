"""What was trained for one runtime's rounding, for runtimes that round less.

A fully integer artifact rounds everything, and its biases make good what that shifts: behind a swish most
values lie between -0.28 and 0, on few levels. ONNX Runtime and OpenVINO compute much of it in float, where
nothing is shifted. There each bias is the float model's, and makes good what its layer's weights shift: by
the mean of each input channel, as in Nagel et al., "Data-free quantization through weight equalization and
bias correction", 2019, with means from images. EfficientNet-B0 with trained weights, all else in float,
logits' signal to noise: 19.5 dB with the trained biases, 28.1 dB with these.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.models.graph import ir
from edgefx.models.graph.freeze import channel_means
from edgefx.models.graph.from_tensorflow import from_tensorflow, with_weights
from edgefx.qat.parameters import FakeQuantization, FloatArray

if TYPE_CHECKING:
    from edgefx.protocols import Progress
    from edgefx.types import FrozenGraph, ImageSet

_WEIGHTED = (ir.Conv, ir.DepthwiseConv, ir.Dense)


def transferred(
    trained: FakeQuantization,
    graph: FrozenGraph,
    workdir: Path,
    *,
    start: FakeQuantization,
    calibration: ImageSet,
    imitates: bool,
    progress: Progress,
) -> FrozenGraph:
    """Return the canonical graph with trained weights, for runtimes that leave most activations in float.

    Args:
        trained: After training.
        graph: The canonical graph, before training.
        workdir: A folder of its own for the new graph; emptied first.
        start: Before training.
        calibration: Images for the means of the layers' inputs.
        imitates: Whether `graph` was the teacher: then all that training did to weights and biases served
            the rounding. Otherwise only what `start` did is taken back, and what was learned stays.
        progress: Counts images.
    """
    layers = {node.name: node.op for node in from_tensorflow(graph).nodes if isinstance(node.op, _WEIGHTED)}
    before, after = start.canonical_weights(), trained.canonical_weights()
    names = [name for name in after if name in layers]
    with progress.task("measuring means", len(calibration)) as task:
        means = channel_means(graph.path, names, calibration.pixels, task)
    weights: dict[str, tuple[FloatArray, FloatArray]] = {}
    for name in names:
        op, (kernel, bias) = layers[name], after[name]
        rounded = kernel if imitates else before[name][0]
        exact = np.zeros_like(bias) if op.bias is None else np.asarray(op.bias)
        exact = exact + _shift(op, np.asarray(op.kernel) - rounded, means[name])
        weights[name] = kernel, (exact if imitates else exact + bias - before[name][1]).astype(np.float32)
    return with_weights(graph, weights, workdir)


def _shift(op: Any, difference: FloatArray, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean [out] of what weights put out that are the difference of two kernels."""
    if isinstance(op, ir.Dense):
        shift = mean @ difference
    else:
        taps = difference.sum(axis=(0, 1), dtype=np.float64)  # as if nothing lay beyond the edges
        if isinstance(op, ir.DepthwiseConv):
            shift = taps * mean[:, None]
        else:
            per_group = len(taps)
            groups = mean.size // per_group
            inputs, products = mean.reshape(groups, per_group), taps.reshape(per_group, groups, -1)
            shift = np.einsum("gi,igo->go", inputs, products)
    result: NDArray[np.float64] = shift.reshape(-1)
    return result
