"""Write quantized forms of single nodes of an ONNX graph: Q/DQ pairs, compressed weights, integer ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgefx.errors import ConversionError
from edgefx.quantize.ranges import Range
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.graph import OnnxGraph
from edgefx.types import IoDtype

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

MICROSOFT = "com.microsoft"


def activation_parameters(limits: Range) -> tuple[np.float32, np.uint8]:
    """Return scale and zero point of an asymmetric uint8 grid over a range, widened to hold zero."""
    import numpy as np

    low, high = min(limits.low, 0.0), max(limits.high, 0.0)
    scale = np.float32(max((high - low) / 255, 1e-12))
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))


@dataclass(frozen=True, eq=False)
class ChannelRanges:
    """The values that each channel of a tensor spans, [C] each; zero lies within."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def parameters(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return scales and zero points of asymmetric uint8 grids, [C]."""
        import numpy as np

        scale = np.maximum((self.high - self.low) / 255, 1e-12).astype(np.float32)
        return scale, np.clip(np.round(-self.low / scale), 0, 255).astype(np.uint8)


def weight_parameters(
    weight: NDArray[np.float32], axis: int, *, least: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize weights symmetrically per channel of `axis`; returns codes in [-127, 127] and scales.

    Args:
        weight: Any shape.
        axis: The output channels.
        least: Smallest scale allowed per channel, so that an INT32 bias can hold its value.
    """
    import numpy as np

    others = tuple(position for position in range(weight.ndim) if position != axis)
    scale = np.abs(weight).max(axis=others).astype(np.float64) / 127
    scale = np.maximum(scale, 1e-12 if least is None else np.maximum(least, 1e-12))
    scale32 = scale.astype(np.float32)
    codes = np.round(weight / _along(scale32, weight.ndim, axis))
    return np.clip(codes, -127, 127).astype(np.int8), scale32


def _along(vector: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


# ------------------------------------------------------------------------------------------------- writer


class Writer:
    """Builds the new node list of a graph and the constants that go with it.

    Args:
        graph: The float graph.
        unsigned: Store the weights that integer kernels read as uint8 with zero point 128, not as int8. The
            values are the same; ONNX Runtime's kernels for two unsigned operands widen before they add, where
            those for uint8 by int8 saturate (`Hardware.saturates_pairs`).
    """

    def __init__(self, graph: OnnxGraph, *, unsigned: bool = False) -> None:
        self.graph = graph
        self._unsigned = unsigned
        self.nodes: list[onnx.NodeProto] = []
        self._scales: dict[str, np.float32] = {}
        self._infos: list[onnx.ValueInfoProto] = []
        self._notes: dict[str, str] = {}
        self._taken: set[str] = set()  # constants that were already rewritten for a node
        self._microsoft = False

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Append a node that is named like its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def note(self, key: str, value: str) -> None:
        """Write an entry into the file's metadata."""
        self._notes[key] = value

    def constant(self, name: str, value: object) -> str:
        """Add an initializer."""
        import numpy as np

        self.graph.constants[name] = np.asarray(value)
        return name

    def _codes(self, name: str, codes: NDArray[np.int8]) -> str:
        """Add weights that an integer kernel reads; returns their name."""
        import numpy as np

        if not self._unsigned:
            return self.constant(f"{name}/int8", codes)
        return self.constant(f"{name}/uint8", (codes.astype(np.int16) + 128).astype(np.uint8))

    def _zero_points(self, name: str, channels: int) -> str:
        """Add the zero points that belong to `_codes`; returns their name."""
        import numpy as np

        zero = np.full(channels, 128, np.uint8) if self._unsigned else np.zeros(channels, np.int8)
        return self.constant(f"{name}/zero_point", zero)

    def _name_for(self, node: onnx.NodeProto, index: int) -> str:
        """Return the name that the stored forms of a node's weights (input 1) or bias (input 2) start with.

        It is the constant's own name for the first node that asks. tf2onnx keeps constants of equal content
        once (all biases are zero in an untrained network), but each node stores them on a grid of its own:
        further readers get names made from their own.
        """
        own = f"{node.name}/{'weight' if index == 1 else 'bias'}"
        name = node.input[index] if index < len(node.input) else own
        if name in self._taken:
            name = own
        self._taken.add(name)
        return name

    def activation(self, tensor: str, limits: Range) -> np.float32:
        """Append Q and DQ behind an activation, once; returns the scale."""
        if tensor not in self._scales:
            scale, zero_point = activation_parameters(limits)
            ends = [
                self.constant(f"{tensor}/scale", scale),
                self.constant(f"{tensor}/zero_point", zero_point),
            ]
            self.add("QuantizeLinear", [tensor, *ends], f"{tensor}/quantized")
            self.add("DequantizeLinear", [f"{tensor}/quantized", *ends], f"{tensor}/dequantized")
            self._scales[tensor] = scale
        return self._scales[tensor]

    def store_convolution(
        self,
        node: onnx.NodeProto,
        input_scale: np.float32,
        codes: NDArray[np.int8] | None = None,
        *,
        output: ChannelRanges | None = None,
    ) -> None:
        """Give a convolution INT8 weights and an INT32 bias, with the DQ that Q/DQ fusion looks for.

        Args:
            node: The convolution.
            input_scale: Of what it reads.
            codes: The weights where they are not just rounded, in the steps of `weight_parameters`.
            output: Grids of the channels of what it makes. As the kernel has one output scale only, the
                convolution then makes the codes themselves: scales are in its weights, zero points in its
                bias.
        """
        import numpy as np

        weight = self.graph.constants[node.input[1]].astype(np.float32)
        bias = np.zeros(len(weight)) if len(node.input) < 3 else self.graph.constants[node.input[2]]
        bias = bias.astype(np.float64)
        unit = np.ones(len(weight), np.float32)
        if output is not None:
            unit, zero_points = output.parameters()
            bias = bias + zero_points * unit.astype(np.float64)
        nearest, scale = weight_parameters(weight, 0, least=np.abs(bias) / float(input_scale) / 2.0**30)
        if codes is not None:
            # Where the bias needs a larger step, the codes are for another one.
            same = (scale == weight_parameters(weight, 0)[1]).reshape(-1, *(1,) * (weight.ndim - 1))
            nearest = np.where(same, codes, nearest)
        weights = self._name_for(node, 1)
        stored = [
            self._codes(weights, nearest),
            self.constant(f"{weights}/scale", (scale / unit).astype(np.float32)),
            self._zero_points(weights, len(scale)),
        ]
        self.add("DequantizeLinear", stored, f"{weights}/dequantized", axis=0)
        name = self._name_for(node, 2)
        bias_scale = scale.astype(np.float64) * float(input_scale)
        stored = [
            self.constant(f"{name}/int32", np.round(bias / bias_scale).astype(np.int32)),
            self.constant(f"{name}/scale", (bias_scale / unit).astype(np.float32)),
            self.constant(f"{name}/zero_point", np.zeros(len(scale), np.int32)),
        ]
        self.add("DequantizeLinear", stored, f"{name}/dequantized", axis=0)
        node.input[1:] = [f"{weights}/dequantized", f"{name}/dequantized"]

    def channel_output(self, tensor: str, limits: ChannelRanges) -> None:
        """Append Q and DQ behind a convolution that makes the codes of its channels' grids."""
        import numpy as np

        ends = [
            self.constant(f"{tensor}/one", np.float32(1)),
            self.constant(f"{tensor}/zero", np.uint8(0)),
        ]
        self.add("QuantizeLinear", [tensor, *ends], f"{tensor}/quantized")
        scales, zero_points = limits.parameters()
        grids = [
            self.constant(f"{tensor}/scale", scales),
            self.constant(f"{tensor}/zero_point", zero_points),
        ]
        self.add("DequantizeLinear", [f"{tensor}/quantized", *grids], f"{tensor}/dequantized", axis=1)

    def dynamic_convolution(
        self, node: onnx.NodeProto, limits: Range, codes: NDArray[np.int8] | None = None
    ) -> None:
        """Write a convolution without bias whose input takes its range from the image at hand.

        Q/DQ cannot say this; QLinearConv can, as its scales are ordinary inputs.

        Args:
            node: The convolution.
            limits: The range of its output.
            codes: The weights where they are not just rounded, in the steps of `weight_parameters`.
        """
        import numpy as np
        from onnx import helper

        name, result = self._name_for(node, 1), node.output[0]
        nearest, scale = weight_parameters(self.graph.constants[node.input[1]].astype(np.float32), 0)
        parts = [f"{node.input[0]}/{part}" for part in ("quantized", "scale", "zero_point")]
        self.nodes.append(
            helper.make_node(
                "DynamicQuantizeLinear", [node.input[0]], parts, name=f"{node.name}/DynamicQuantizeLinear"
            )
        )
        stored = [
            self._codes(name, nearest if codes is None else codes),
            self.constant(f"{name}/scale", scale),
            self._zero_points(name, len(scale)),
        ]
        out_scale, zero_point = activation_parameters(limits)
        ends = [
            self.constant(f"{result}/scale", out_scale),
            self.constant(f"{result}/zero_point", zero_point),
        ]
        convolution = helper.make_node(
            "QLinearConv", [*parts, *stored, *ends], [f"{result}/quantized"], name=node.name
        )
        convolution.attribute.extend(node.attribute)
        self.nodes.append(convolution)
        self.add("DequantizeLinear", [f"{result}/quantized", *ends], result)

    def store_int8(self, node: onnx.NodeProto, index: int, codes: NDArray[np.int8] | None = None) -> None:
        """Store float weights as INT8; Cast and Mul restore them, once, when a session loads.

        Args:
            node: Whose weights.
            index: Which of its inputs they are.
            codes: The weights where they are not just rounded, in the steps of `weight_parameters`.
        """
        from onnx import TensorProto

        name = self._name_for(node, index)
        weight = self.graph.constants[node.input[index]]
        axis = _output_axis(node)
        nearest, scale = weight_parameters(weight, axis)
        stored = self.constant(f"{name}/int8", nearest if codes is None else codes)
        self.add("Cast", [stored], f"{name}/cast", to=TensorProto.FLOAT)
        factor = self.constant(f"{name}/scale", _along(scale, weight.ndim, axis))
        self.add("Mul", [f"{name}/cast", factor], f"{name}/restored")
        node.input[index] = f"{name}/restored"

    def store_float16(self, node: onnx.NodeProto, index: int, *, large_as_float32: bool = False) -> None:
        """Store float weights as float16; a Cast restores them when a session loads.

        Args:
            node: Whose weights.
            index: Which of its inputs they are.
            large_as_float32: Leave weights alone that are too large for float16.

        Raises:
            ConversionError: A weight is too large for float16.
        """
        import numpy as np
        from onnx import TensorProto

        with np.errstate(over="ignore"):
            half = self.graph.constants[node.input[index]].astype(np.float16)
        if not np.isfinite(half).all():
            if large_as_float32:
                return
            raise ConversionError(
                f"weights of '{node.name}' exceed the range of float16 (65504)", hint="use onnx-float32"
            )
        name = self._name_for(node, index)
        stored = self.constant(f"{name}/float16", half)
        self.add("Cast", [stored], f"{name}/restored", to=TensorProto.FLOAT)
        node.input[index] = f"{name}/restored"

    def keep_float(self, node: onnx.NodeProto) -> None:
        """Put an operation behind the last node that changes nothing, but keeps it from being quantized.

        ONNX Runtime gives a float convolution between a DequantizeLinear and a QuantizeLinear INT8 weights by
        itself (`WeightBiasQuantization`), with one scale for all channels: on the depthwise convolutions of a
        MobileNetV2 that costs 8 dB at the logits.
        """
        import numpy as np
        from onnx import helper

        result = node.output[0]
        node.output[0] = f"{result}/float"
        least = self.constant(f"{result}/least", np.finfo(np.float32).min)
        self.nodes.append(helper.make_node("Max", [node.output[0], least], [result], name=f"{result}/kept"))

    def dynamic_gemm(self, node: onnx.NodeProto) -> None:
        """Write a dense layer as DynamicQuantizeLinear and MatMulInteger with INT8 weights."""
        import numpy as np
        from onnx import TensorProto, helper

        source, name = node.input[0], self._name_for(node, 1)
        codes, scale = weight_parameters(self.graph.constants[node.input[1]], 1)
        parts = [f"{node.name}/{part}" for part in ("quantized", "input_scale", "input_zero_point")]
        self.nodes.append(
            helper.make_node(
                "DynamicQuantizeLinear", [source], parts, name=f"{node.name}/DynamicQuantizeLinear"
            )
        )
        stored = [self._codes(name, codes)]
        if self._unsigned:
            stored.append(self.constant(f"{name}/zero_point", np.uint8(128)))
        self.add("MatMulInteger", [parts[0], stored[0], parts[2], *stored[1:]], f"{node.name}/int32")
        self.add("Cast", [f"{node.name}/int32"], f"{node.name}/float", to=TensorProto.FLOAT)
        self.add("Mul", [parts[1], self.constant(f"{name}/scale", scale)], f"{node.name}/scale")
        result = node.output[0] if len(node.input) < 3 else f"{node.name}/scaled"
        self.add("Mul", [f"{node.name}/float", f"{node.name}/scale"], result)
        if len(node.input) > 2:
            self.add("Add", [result, node.input[2]], node.output[0])

    def quick_gelu(self, sigmoid: onnx.NodeProto, mul: onnx.NodeProto, shape: tuple[int, ...]) -> None:
        """Write swish as one node, and its shape, which ONNX's own shape inference does not know."""
        from onnx import TensorProto, helper

        node = helper.make_node(
            "QuickGelu",
            [sigmoid.input[0]],
            [mul.output[0]],
            name=f"{mul.output[0]}/QuickGelu",
            domain=MICROSOFT,
            alpha=1.0,
        )
        self.nodes.append(node)
        self._infos.append(helper.make_tensor_value_info(mul.output[0], TensorProto.FLOAT, shape))
        self._microsoft = True

    def integer_input(self, dtype: IoDtype) -> None:
        """Give the graph an integer input: raw pixels; pixel - 128 for int8."""
        import numpy as np

        integer, element, offset = _integers(dtype)
        source = self.graph.inputs[0]
        body, self.nodes = self.nodes, []
        one = self.constant(f"{source.name}/scale", np.float32(1))
        zero = self.constant(f"{source.name}/zero_point", integer(offset))
        self.add("DequantizeLinear", [source.name, one, zero], f"{source.name}/dequantized")
        for node in body:
            node.input[:] = [f"{name}/dequantized" if name == source.name else name for name in node.input]
        self.nodes += body
        source.type.tensor_type.elem_type = element

    def integer_output(self, result: onnx.ValueInfoProto, dtype: IoDtype, limits: Range) -> None:
        """Make one of the graph's outputs integers, whose levels span the limits."""
        integer, element, offset = _integers(dtype)
        for node in self.nodes:
            node.input[:] = [f"{name}/float" if name == result.name else name for name in node.input]
            node.output[:] = [f"{name}/float" if name == result.name else name for name in node.output]
        scale, zero_point = activation_parameters(limits)
        ends = [
            self.constant(f"{result.name}/scale", scale),
            self.constant(f"{result.name}/zero_point", integer(int(zero_point) + offset)),
        ]
        self.add("QuantizeLinear", [f"{result.name}/float", *ends], result.name)
        result.type.tensor_type.elem_type = element

    def finish(self) -> onnx.ModelProto:
        """Assemble the model and check it."""
        import onnx
        from onnx import helper

        self.graph.nodes = self.nodes
        self.graph.drop_unused()
        model = self.graph.model()
        model.graph.value_info.extend(self._infos)
        if self._microsoft:
            model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        if self._notes:
            helper.set_model_props(model, self._notes)
        onnx.checker.check_model(model, full_check=True)
        return model


def _integers(dtype: IoDtype) -> tuple[Any, int, int]:
    """Return NumPy's and ONNX's type, and what stands for the lowest value."""
    import numpy as np
    from onnx import TensorProto

    if dtype is IoDtype.INT8:
        return np.int8, TensorProto.INT8, -128
    return np.uint8, TensorProto.UINT8, 0


def _output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a node's weights that counts its output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and onnx_graph.attribute(node, "transB", 0)):
        return 0
    return 1
