"""From the canonical graph to TensorFlow operations named ``<layer>/<op>``, with every weight a constant.

What an edge runtime has in one piece is emitted in one piece: pooling keeps its dimensions instead of pooling
and reshaping, and an explicit pad that equals "SAME" padding becomes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefx.models.graph import ir
from edgefx.models.graph.ir import IMAGE, Graph, Node, Ref
from edgefx.types import LayerInfo


@dataclass(frozen=True)
class Emitted:
    """A concrete function of one image, and what is in it.

    `function` may still capture the variables of opaque layers; `opaque` tells whether there are any such.
    """

    function: Any
    layers: tuple[LayerInfo, ...]
    opaque: bool


def to_tensorflow(graph: Graph, *, height: int, width: int, outputs: Sequence[str]) -> Emitted:
    """Build a function of ``image``, float32 [1, height, width, 3]; `outputs` name its results."""
    import tensorflow as tf

    emitter = _Emitter(tf, graph)

    def canonical(image: Any) -> Any:
        results = emitter.run(image)
        return [tf.identity(one, name=name) for one, name in zip(results, outputs, strict=True)]

    signature = [tf.TensorSpec([1, height, width, 3], tf.float32, name=IMAGE)]
    function = tf.function(canonical, input_signature=signature, autograph=False).get_concrete_function()
    return Emitted(
        function=function,
        layers=tuple(emitter.layers),
        opaque=any(isinstance(node.op, ir.Opaque) for node in graph.nodes),
    )


class _Emitter:
    """Holds the tensors made so far."""

    def __init__(self, tf: Any, graph: Graph) -> None:
        self.tf = tf
        self.graph = graph
        self.nodes = graph.by_name()
        self.layers: list[LayerInfo] = []

    def run(self, image: Any) -> Any:
        """Emit all nodes; returns the output tensors."""
        self.layers.clear()
        self.values: dict[Ref, Any] = {Ref(IMAGE): image}
        for node in self.graph.nodes:
            with self.tf.name_scope(f"{node.name}/"):
                outputs = self._node(node)
            for index, value in enumerate(outputs):
                self.values[Ref(node.name, index)] = value
            shape = tuple(int(n) if n is not None else -1 for n in outputs[0].shape)
            self.layers.append(describe(node, shape))
        return [self.values[ref] for ref in self.graph.outputs]

    def _node(self, node: Node) -> list[Any]:
        inputs = [self.values[ref] for ref in node.inputs]
        op = node.op
        if isinstance(op, ir.Opaque):
            return op.call(inputs)
        if isinstance(op, ir.Conv | ir.DepthwiseConv):
            return [self._convolution(node, op, inputs[0])]
        emitters: dict[type, Callable[[Any, Sequence[Any]], Any]] = {
            ir.Dense: self._dense,
            ir.Affine: self._affine,
            ir.Activation: self._activation,
            ir.Add: lambda _op, values: self._reduce(self.tf.raw_ops.AddV2, values),
            ir.Multiply: lambda _op, values: self._reduce(self.tf.raw_ops.Mul, values),
            ir.Concatenate: lambda op, values: self.tf.concat(values, op.axis),
            ir.GlobalPool: self._global_pool,
            ir.Pool: lambda op, v: self.tf.nn.pool(v[0], op.size, op.function, op.strides, op.padding),
            ir.Pad: lambda op, v: self.tf.pad(v[0], [(0, 0), *op.padding, (0, 0)], name="Pad"),
            ir.Reshape: self._reshape,
        }
        return [emitters[type(op)](op, inputs)]

    def _constant(self, value: ir.Array, name: str) -> Any:
        return self.tf.constant(value.astype(np.float32), name=name)

    def _convolution(self, node: Node, op: ir.Conv | ir.DepthwiseConv, x: Any) -> Any:
        padding, source = op.padding, self.nodes.get(node.inputs[0].node)
        if source is not None and isinstance(source.op, ir.Pad) and padding == "VALID":
            unpadded = self.values[source.inputs[0]]
            if source.op.padding == _same_padding(unpadded.shape[1:3], op):
                x, padding = unpadded, "SAME"
        kernel = self._constant(op.kernel, "kernel")
        if isinstance(op, ir.Conv):
            y = self.tf.nn.conv2d(x, kernel, op.strides, padding, dilations=op.dilation, name="Conv2D")
        else:
            y = self.tf.nn.depthwise_conv2d(
                x, kernel, (1, *op.strides, 1), padding, dilations=op.dilation, name="depthwise"
            )
        return self._biased(y, op.bias)

    def _biased(self, y: Any, bias: ir.Array | None) -> Any:
        return y if bias is None else self.tf.nn.bias_add(y, self._constant(bias, "bias"), name="BiasAdd")

    def _dense(self, op: ir.Dense, inputs: Sequence[Any]) -> Any:
        x, kernel = inputs[0], self._constant(op.kernel, "kernel")
        if len(x.shape) == 2:
            return self._biased(self.tf.linalg.matmul(x, kernel, name="MatMul"), op.bias)
        return self._biased(self.tf.tensordot(x, kernel, axes=1), op.bias)

    def _affine(self, op: ir.Affine, inputs: Sequence[Any]) -> Any:
        x = inputs[0]
        if not np.all(op.scale == 1.0):
            x = self.tf.raw_ops.Mul(x=x, y=self._constant(op.scale, "scale"), name="Mul")
        if np.any(op.offset):
            x = self.tf.raw_ops.AddV2(x=x, y=self._constant(op.offset, "offset"), name="Add")
        return x

    def _activation(self, op: ir.Activation, inputs: Sequence[Any]) -> Any:
        x, raw = inputs[0], self.tf.raw_ops
        if op.function == "silu":  # tf.nn.silu would wrap it in a custom gradient
            return raw.Mul(x=x, y=raw.Sigmoid(x=x, name="Sigmoid"), name="Mul")
        kind = {"relu": "Relu", "relu6": "Relu6", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu"}
        if op.function in kind:
            return getattr(raw, kind[op.function])(**{self._argument(op.function): x}, name=kind[op.function])
        if op.function == "gelu":
            # Of Erf: TensorFlow's own is of Erfc, which ONNX does not have. TFLite and OpenVINO know both.
            within = raw.Erf(x=raw.Mul(x=x, y=math.sqrt(0.5), name="Scale"), name="Erf")
            shifted = raw.AddV2(x=within, y=1.0, name="Add")
            return raw.Mul(x=raw.Mul(x=x, y=0.5, name="Half"), y=shifted, name="Mul")
        if op.function == "softplus":
            return raw.Softplus(features=x, name="Softplus")
        return raw.Softmax(logits=x, name="Softmax")

    @staticmethod
    def _argument(function: str) -> str:
        return "features" if function in ("relu", "relu6", "elu") else "x"

    @staticmethod
    def _reduce(function: Callable[..., Any], values: Sequence[Any]) -> Any:
        total = values[0]
        for value in values[1:]:
            total = function(x=total, y=value, name=function.__name__.removesuffix("V2").capitalize())
        return total

    def _global_pool(self, op: ir.GlobalPool, inputs: Sequence[Any]) -> Any:
        x = inputs[0]
        if op.function == "mean":
            return self.tf.reduce_mean(x, axis=(1, 2), keepdims=op.keepdims, name="Mean")
        # Not as a reduction, which ai-edge-quantizer leaves in float and NPUs to the CPU.
        x = self.tf.nn.max_pool2d(x, x.shape[1:3], 1, "VALID", name="MaxPool")
        return x if op.keepdims else self.tf.reshape(x, [1, x.shape[3]], name="Reshape")

    def _reshape(self, op: ir.Reshape, inputs: Sequence[Any]) -> Any:
        x = inputs[0]
        size = math.prod(x.shape[1:])
        known = math.prod(n for n in op.shape if n != -1)
        shape = [1, *(size // known if n == -1 else n for n in op.shape)]
        return x if shape == list(x.shape) else self.tf.reshape(x, shape, name="Reshape")


def _same_padding(
    size: Sequence[int], op: ir.Conv | ir.DepthwiseConv
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The zeros that "SAME" padding adds, as TensorFlow defines it (tf.nn.convolution)."""

    def one(length: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
        total = max((math.ceil(length / stride) - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
        return total // 2, total - total // 2

    vertical, horizontal = (
        one(*values) for values in zip(size, op.kernel.shape, op.strides, op.dilation, strict=False)
    )
    return vertical, horizontal


def describe(node: Node, shape: tuple[int, ...]) -> LayerInfo:
    """Return what is known of a layer whose output has a shape, -1 where a size is not known."""
    op = node.op
    parameters = macs = 0
    if isinstance(op, ir.Conv | ir.DepthwiseConv | ir.Dense):
        parameters = op.kernel.size + (0 if op.bias is None else op.bias.size)
        # Each output element costs one multiply-accumulate per kernel element that it sees.
        per_output = (
            op.kernel[:, :, 0, 0].size if isinstance(op, ir.DepthwiseConv) else op.kernel[..., 0].size
        )
        macs = math.prod(shape) * per_output
    elif isinstance(op, ir.Affine):
        parameters = op.scale.size + op.offset.size
    elif isinstance(op, ir.Opaque):
        parameters = op.parameters
    return LayerInfo(name=node.name, kind=node.kind, output_shape=shape, parameters=parameters, macs=macs)
