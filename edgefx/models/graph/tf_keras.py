"""The bridge from the canonical graph to tf_keras, where weights can be trained.

Training for quantization needs a model of layers with variables; the canonical graph has constants. One
tf_keras layer is made per canonical layer, under the same name, so that whatever was loaded (Keras 3 or 2,
nested, sequential) is trained as the one flat graph that all runtimes convert, and what was trained finds its
way back by name.

Batch normalization is folded here already, and stays so: training updates the folded kernels. The statistics
of a fine-tuned classifier are better than those of the small batches that one can afford here, and once they
are frozen (the field's recommendation for the last part of training: Jacob et al., "Quantization and training
of neural networks for efficient integer-arithmetic-only inference", 2018, section 3.2; Krishnamoorthi,
"Quantizing deep convolutional networks for efficient inference", 2018, section 3.2.3) the folded kernel is
what the integer kernels round; gamma, beta and kernel separately would describe the same function with more
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.errors import ModelError
from edgefx.models.backend import import_tf_keras
from edgefx.models.graph import ir
from edgefx.models.graph.equality import ALLOWED, of_model
from edgefx.models.graph.freeze import GraphRunner
from edgefx.models.graph.from_tensorflow import from_tensorflow
from edgefx.models.graph.ir import IMAGE, Graph, Node, Ref
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    from edgefx.types import Pixels

_BATCH_PIXELS = 16 * 224 * 224

# The layer of a node, with its weights and under its name; None asks for tf_keras' own.
Maker = Callable[[Node], Any]
Wrap = Callable[[Node, Any], Any]


def build(
    graph: Graph,
    *,
    height: int,
    width: int,
    layers: Mapping[type, Maker] | None = None,
    wrap: Wrap | None = None,
) -> Any:
    """Return a functional ``tf_keras.Model`` of `graph` with its weights; nothing is proven yet.

    Args:
        graph: The canonical layers, from `edgefx.models.graph.from_tensorflow.from_tensorflow`.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        layers: Makers of layers of one's own, by the type of the operation.
        wrap: Makes another layer of one of tf_keras' own, under the same name.
    """
    tf_keras = import_tf_keras()
    own = layers or {}
    values: dict[Ref, Any] = {Ref(IMAGE): tf_keras.Input((height, width, 3), name=IMAGE)}
    for node in graph.nodes:
        inputs = [values[ref] for ref in node.inputs]
        maker = own.get(type(node.op))
        layer = maker(node) if maker is not None else None
        is_own = layer is not None
        if layer is None:
            plain = _layer(tf_keras, node, inputs)
            layer = wrap(node, plain) if wrap is not None else plain
        result = layer(inputs if _takes_list(node) else inputs[0])
        results = result if isinstance(result, list | tuple) else [result]
        values.update({Ref(node.name, number): value for number, value in enumerate(results)})
        if not is_own:
            set_weights(plain, node.op)
    results = [values[ref] for ref in graph.outputs]
    return tf_keras.Model(values[Ref(IMAGE)], results[0] if len(results) == 1 else results, name="canonical")


def to_tf_keras(graph: FrozenGraph, pixels: Pixels) -> Any:
    """Return a ``tf_keras.Model`` of a canonical graph, proven equal to it.

    Args:
        graph: The canonical graph.
        pixels: Real images of the model's size, uint8 [N, H, W, 3], on which the two are compared.

    Returns:
        A functional model: float32 [N, H, W, 3] in [0, 255] to the scores [N, classes]. Its layers have the
        names of the canonical ones; convolutions and dense layers are trainable.

    Raises:
        ModelError: The graph has no layers, or the model's scores differ from the graph's.
        MissingDependencyError: tf_keras is absent.
    """
    model = build(from_tensorflow(graph), height=graph.spec.height, width=graph.spec.width)
    prove(model, graph, pixels)
    return model


def prove(model: Any, graph: FrozenGraph, pixels: Pixels) -> float:
    """Compare a model with the canonical graph on images; returns the largest difference of a probability.

    Raises:
        ModelError: It is more than float32 explains; see `edgefx.models.graph.equality`.
    """
    want = GraphRunner(graph.path, outputs=graph.output_names).infer(pixels)
    got = predict(model, pixels)
    found = of_model(want, got, graph.spec)
    if not found.is_allowed:
        raise ModelError(
            f"{graph.spec.source}: its tf_keras counterpart differs: {found}; allowed is {ALLOWED:g}",
            hint="this model cannot be trained; please report its layers: edgefx inspect --layers",
        )
    return found.max_abs_dp


def predict(model: Any, pixels: Pixels) -> Any:
    """Run a model over uint8 [N, H, W, 3] in batches; float32 [N, classes]."""
    size = max(1, _BATCH_PIXELS // math.prod(pixels.shape[1:3]))
    parts = [
        model(pixels[start : start + size].astype(np.float32), training=False).numpy()
        for start in range(0, len(pixels), size)
    ]
    return np.concatenate(parts)


def set_weights(layer: Any, op: ir.Op) -> None:
    """Give a built layer the kernel and bias of its canonical operation."""
    if isinstance(op, ir.Conv | ir.DepthwiseConv | ir.Dense):
        layer.set_weights([op.kernel] if op.bias is None else [op.kernel, op.bias])


def _takes_list(node: Node) -> bool:
    return isinstance(node.op, ir.Add | ir.Multiply | ir.Concatenate | ir.Opaque)


def _layer(tf_keras: Any, node: Node, inputs: list[Any]) -> Any:
    """Return the tf_keras layer of a node, without weights."""
    layers, op, name = tf_keras.layers, node.op, node.name
    makers: dict[type, Callable[[Any], Any]] = {
        ir.Conv: lambda op: layers.Conv2D(name=name, **convolution_options(op, int(inputs[0].shape[-1]))),
        ir.DepthwiseConv: lambda op: layers.DepthwiseConv2D(name=name, **depthwise_options(op)),
        ir.Dense: lambda op: layers.Dense(op.kernel.shape[1], use_bias=op.bias is not None, name=name),
        ir.Affine: lambda op: layers.Rescaling(op.scale.tolist(), op.offset.tolist(), name=name),
        ir.Activation: lambda op: _activation(layers, op.function, name),
        ir.Add: lambda _op: layers.Add(name=name),
        ir.Multiply: lambda _op: layers.Multiply(name=name),
        ir.Concatenate: lambda op: layers.Concatenate(op.axis, name=name),
        ir.GlobalPool: lambda op: _global_pool(layers, op)(keepdims=op.keepdims, name=name),
        ir.Pool: lambda op: _pool(layers, op)(op.size, op.strides, op.padding.lower(), name=name),
        ir.Pad: lambda op: layers.ZeroPadding2D(op.padding, name=name),
        ir.Reshape: lambda op: layers.Reshape(op.shape, name=name),
        ir.Opaque: lambda op: _opaque(tf_keras, op, name),
    }
    return makers[type(op)](op)


def convolution_options(op: ir.Conv, channels: int) -> dict[str, Any]:
    """Return the arguments of a ``Conv2D`` that reads `channels` channels."""
    kh, kw, per_group, filters = op.kernel.shape
    return {
        "filters": filters,
        "kernel_size": (kh, kw),
        "strides": op.strides,
        "padding": op.padding.lower(),
        "dilation_rate": op.dilation,
        "groups": channels // per_group,
        "use_bias": op.bias is not None,
    }


def depthwise_options(op: ir.DepthwiseConv) -> dict[str, Any]:
    """Return the arguments of a ``DepthwiseConv2D``."""
    kh, kw, _, multiplier = op.kernel.shape
    return {
        "kernel_size": (kh, kw),
        "strides": op.strides,
        "padding": op.padding.lower(),
        "dilation_rate": op.dilation,
        "depth_multiplier": multiplier,
        "use_bias": op.bias is not None,
    }


def _activation(layers: Any, function: str, name: str) -> Any:
    if function == "relu6":
        return layers.ReLU(6.0, name=name)
    return layers.Activation("swish" if function == "silu" else function, name=name)


def _global_pool(layers: Any, op: ir.GlobalPool) -> Any:
    return layers.GlobalAveragePooling2D if op.function == "mean" else layers.GlobalMaxPooling2D


def _pool(layers: Any, op: ir.Pool) -> Any:
    return layers.AveragePooling2D if op.function == "AVG" else layers.MaxPooling2D


def _opaque(tf_keras: Any, op: ir.Opaque, name: str) -> Any:
    class Frozen(tf_keras.layers.Layer):  # type: ignore[misc]
        """A layer that edgefx does not know: it runs as it is and is not trained."""

        def call(self, inputs: Any) -> Any:
            results = op.call(inputs)
            return results[0] if len(results) == 1 else results

    return Frozen(name=name)
