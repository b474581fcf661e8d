"""What the float model makes of the calibration images: the ranges of its activations, and its answers.

Are there enough images? Then two halves of them give the same activation ranges.

The ranges are those of the float model: of every canonical layer's output, the mean over the images of each
image's extremes, which is what most INT8 ranges are made from. Nothing here knows a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefx.system.graphs import running
from edgefx.system.parallel import ordered

if TYPE_CHECKING:
    from edgefx.protocols import Task
    from edgefx.types import FrozenGraph, Pixels

# What a model without canonical layers computes its activations with.
_COMPUTING = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "BiasAdd", "AddV2", "Mul", "Sigmoid"})


Extremes: TypeAlias = NDArray[np.float32]  # [images, layers, 2]: low and high


class Observed(NamedTuple):
    """What a float graph has made of some images.

    Attributes:
        extremes: Of each layer's output, float32 [N, layers, 2], low and high.
        answers: The best class of each image, int64 [N].
    """

    extremes: Extremes
    answers: NDArray[np.int64]


class Span(NamedTuple):
    """The range of a tensor."""

    low: float
    high: float


def observe(graph: FrozenGraph, pixels: Pixels, *, task: Task | None = None) -> Observed:
    """Run the float graph; return each image's extremes of each layer's output, and its best class.

    Args:
        graph: The canonical graph.
        pixels: Raw RGB, uint8 [N, H, W, 3].
        task: Counts images.

    Raises:
        ModelError: An operation fails on an image.
    """
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(graph.path.read_bytes())
    names = [f"{name}:0" for name in _tapped(graph_def, {layer.name for layer in graph.layers})]
    with tf.Graph().as_default() as tapped:
        image, scores, *tensors = tf.graph_util.import_graph_def(
            graph_def,
            name="",
            return_elements=[f"{graph.input_name}:0", f"{graph.first_output_name}:0", *names],
        )
        floats = [tf.cast(value, tf.float32) for value in tensors if value.dtype.is_floating]
        ends = [tf.stack([tf.reduce_min(value), tf.reduce_max(value)]) for value in floats]
        fetched = tf.stack(ends) if ends else tf.zeros((0, 2)), tf.argmax(tf.reshape(scores, [-1]))
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True  # takes longer than it saves here
    rows, answers = [], []
    with tf.compat.v1.Session(graph=tapped, config=config) as session:
        run = session.make_callable(fetched, feed_list=[image])

        def seen(one: NDArray[np.uint8]) -> tuple[Extremes, np.int64]:
            with running(graph.spec.source):
                ends, answer = run(one[None].astype(np.float32))
            return ends, answer

        for row, answer in ordered(seen, pixels):
            rows.append(row)
            answers.append(answer)
            if task is not None:
                task.advance()
    return Observed(extremes=np.stack(rows), answers=np.array(answers, np.int64))


def halves(values: Extremes) -> tuple[dict[str, Span], dict[str, Span]]:
    """Return the ranges of every other image, and of the images in between; data sets are sorted by class.

    Args:
        values: Of `observe`, at least two images.
    """
    first, second = (
        {str(number): Span(float(low), float(high)) for number, (low, high) in enumerate(part.mean(0))}
        for part in (values[0::2], values[1::2])
    )
    return first, second


def unsteady(
    first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], *, tolerance: float
) -> float:
    """Return the share of tensors whose ranges differ between two halves of the calibration images.

    Args:
        first: (low, high) of each tensor over the first half.
        second: (low, high) of each tensor over the second half; tensors that are not in both are left out.
        tolerance: Ends that lie further apart than this share of the wider range differ.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return 0.0
    return sum(_difference(first[name], second[name]) > tolerance for name in shared) / len(shared)


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    (low, high), (other_low, other_high) = one, other
    width = max(high - low, other_high - other_low)
    apart = max(abs(low - other_low), abs(high - other_high))
    return apart / width if width > 0 else float(apart > 0)


def _tapped(graph_def: object, layers: set[str]) -> list[str]:
    """Name the operation that gives each layer's output: the last one of its scope, in graph order."""
    nodes = [
        node
        for node in graph_def.node  # type: ignore[attr-defined]
        if node.op not in ("Const", "Placeholder", "Identity", "NoOp")
    ]
    if not layers:
        return [node.name for node in nodes if node.op in _COMPUTING]
    last: dict[str, str] = {}
    for node in nodes:
        scope = node.name.split("/", 1)[0]
        if scope in layers:
            last[scope] = node.name
    return list(last.values())
