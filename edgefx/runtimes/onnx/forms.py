"""Small ONNX models that hold one convolution in its usual surroundings, in float and in INT8.

In front of it is a convolution, behind it another one, both in float: what the form's INT8 costs in
conversions and changes of layout is then part of the time. What writes artifacts writes the INT8 model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.hardware import Form, Role
from edgefx.quantize.ranges import Consumer, Range
from edgefx.runtimes.onnx import gates, quantize
from edgefx.runtimes.onnx.convert import OPSET
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.runtimes.onnx.placement import Placement
from edgefx.runtimes.onnx.writer import ChannelRanges, Writer
from edgefx.vocabulary import Hardware

if TYPE_CHECKING:
    import onnx

_BEFORE, _FORM = "before", "form"
_IR_VERSION = 8  # that of the opset's year: devices may have older runtimes
_LIMITS = Range(-3.0, 3.0)  # of all values: time does not depend on them


def write(form: Form, folder: Path, hardware: Hardware) -> tuple[Path, Path]:
    """Write a form's models into a folder; returns the paths of the float and of the INT8 one."""
    model = _Chain(form).model()
    paths = folder / "form-float32.onnx", folder / "form-int8.onnx"
    paths[0].write_bytes(model.SerializeToString(deterministic=True))
    made = _quantized(model, form, unsigned=hardware.saturates_pairs)
    paths[1].write_bytes(made.SerializeToString(deterministic=True))
    return paths


class _Chain:
    """A classifier made of a form and its surroundings, node by node."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def model(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        form = self._form
        value = self._add("Transpose", ["image"], "planes", perm=[0, 3, 1, 2])
        value = self._convolution(_BEFORE, value, 3, form.inputs)
        if form.role is Role.GATED:
            gate = self._add("Sigmoid", [self._add("GlobalAveragePool", [value], "pooled")], "gate")
            value = self._add("Mul", [value, gate], "product")
        if form.role is not Role.CONVERSION:
            value = self._convolution(
                _FORM,
                value,
                form.inputs,
                form.outputs,
                kernel=form.kernel,
                stride=form.stride,
                groups=form.inputs if form.role is Role.DEPTHWISE else 1,
            )
        if form.role is Role.SWISH:
            value = self._add("Mul", [value, self._add("Sigmoid", [value], "sigmoid")], "swish")
        value = self._convolution("behind", value, form.outputs, form.outputs, kernel=3, groups=form.outputs)
        value = self._add("GlobalAveragePool", [value], "means")
        self._add("Flatten", [value], "scores")
        ends = [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, form.height, form.width, 3]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, form.outputs]),
        ]
        graph = helper.make_graph(self._nodes, "form", ends[:1], ends[1:], self._constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _convolution(
        self,
        name: str,
        source: str,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        from onnx import numpy_helper

        weights = self._random.standard_normal((outputs, inputs // groups, kernel, kernel))
        values = {"weight": weights / np.sqrt(weights[0].size), "bias": self._random.standard_normal(outputs)}
        for part, value in values.items():
            self._constants.append(numpy_helper.from_array(value.astype(np.float32), f"{name}/{part}"))
        before, behind = (kernel - 1) // 2, kernel // 2
        return self._add(
            "Conv",
            [source, f"{name}/weight", f"{name}/bias"],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, behind, behind],
            group=groups,
        )


def _quantized(model: onnx.ModelProto, form: Form, *, unsigned: bool) -> onnx.ModelProto:
    if form.role is Role.CONVERSION:
        return _converted(model)
    dynamic = frozenset(entry.convolution for entry in gates.find(OnnxGraph(model), [_FORM]))
    model = gates.split_biases(model, dynamic)
    node = next(node for node in model.graph.node if node.name == _FORM)
    result = node.output[0]
    behind = Consumer.SWISH if form.role is Role.SWISH else Consumer.LINEAR
    tensors = {result: behind} if dynamic else {node.input[0]: Consumer.GENERIC, result: behind}
    plan = Placement(convolutions=frozenset({_FORM}), tensors=tensors, dynamic=dynamic)
    ends = np.linspace(1, 3, form.outputs)
    channels = {result: ChannelRanges(low=-ends, high=ends)} if form.role is Role.SWISH else {}
    ranges = dict.fromkeys(tensors, _LIMITS)
    return quantize.static(model, plan, ranges, channels=channels, unsigned=unsigned)


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make one tensor integers and float again."""
    writer = Writer(OnnxGraph(model))
    for node in writer.graph.nodes:
        node.input[:] = [f"{_BEFORE}/dequantized" if name == _BEFORE else name for name in node.input]
        writer.nodes.append(node)
        if node.name == _BEFORE:
            writer.activation(_BEFORE, _LIMITS)
    return writer.finish()
