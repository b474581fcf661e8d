"""From the frozen canonical graph on disk back to typed layers: the inverse of `to_tensorflow`.

Conversions start from the ``graph.pb`` of a `FrozenGraph`, which may come from a cache, so that training can
rely on nothing else either. Operations are grouped by the layer that their names begin with; a group that
`to_tensorflow` does not write for a known layer becomes an `Opaque` node, which runs the operations as they
are.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgefx.errors import ModelError
from edgefx.models.graph import ir
from edgefx.models.graph.freeze import WEIGHTED, reachable, read
from edgefx.models.graph.ir import IMAGE, Graph, Node, Ref
from edgefx.types import FrozenGraph

_ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Elu": "elu",
    "Softplus": "softplus",
    "Softmax": "softmax",
}
_MERGING: dict[str, Callable[[], ir.Op]] = {"AddV2": ir.Add, "Mul": ir.Multiply}


def from_tensorflow(graph: FrozenGraph) -> Graph:
    """Return the layers of a frozen canonical graph, with their weights.

    Raises:
        ModelError: The model has no layers (a SavedModel without Keras layers), or the graph is not one that
            `edgefx.models.graph.canonical` wrote.
    """
    return with_tensors(graph)[0]


def with_tensors(graph: FrozenGraph) -> tuple[Graph, dict[str, str]]:
    """Return the layers of a frozen canonical graph, and the first tensor that each puts out, by name.

    Raises:
        ModelError: As for `from_tensorflow`.
    """
    if not graph.layers:
        raise ModelError(
            f"{graph.spec.source} has no layers that could be trained",
            hint="a SavedModel exported without its Keras layers is only a function: give the .keras or .h5 "
            "file that it was exported from",
        )
    import tensorflow as tf

    reader = _Reader(tf, read(graph.path), graph)
    layers = reader.read()
    return layers, {ref.node: tensor for tensor, ref in reader.refs.items() if ref.output == 0}


def with_weights(
    graph: FrozenGraph,
    weights: Mapping[str, tuple[ir.Array, ir.Array]],
    workdir: Path,
    *,
    why: str = "trained",
) -> FrozenGraph:
    """Write a canonical graph with other weights as ``workdir/graph.pb``.

    Args:
        graph: The canonical graph.
        weights: Kernel and bias of each layer that changes; the bias is left out where the layer has none.
            Where they have other numbers of channels, the layers of the result still say the old ones.
        workdir: A folder of its own, which is emptied first: runtimes keep intermediates of a graph there.
        why: What the constants are called, behind the layer's name.
    """
    import tensorflow as tf

    definition = read(graph.path)
    nodes = {node.name: node for node in definition.node}
    for node in definition.node:
        layer = node.name.split("/", 1)[0]
        place = {**dict.fromkeys(WEIGHTED, 0), "BiasAdd": 1}.get(node.op)
        if layer not in weights or place is None:
            continue
        constant = nodes[_operation(node.input[1])]
        value = weights[layer][place]
        shape = tuple(size.size for size in constant.attr["value"].tensor.tensor_shape.dim)
        if value.size == math.prod(shape):
            value = value.reshape(shape)
        # A copy under a name of its own: Grappler may have merged equal constants of several layers.
        fresh = definition.node.add()
        fresh.CopyFrom(constant)
        fresh.name = f"{node.name}/{why}"
        fresh.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
        node.input[1] = fresh.name
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.mkdir(parents=True)
    path = workdir / "graph.pb"
    definition = reachable(definition, graph.output_names)  # without the former constants
    path.write_bytes(definition.SerializeToString(deterministic=True))
    return replace(graph, path=path, workdir=workdir)


class _Reader:
    """Holds the operations by name, and which layer each belongs to."""

    def __init__(self, tf: Any, definition: Any, graph: FrozenGraph) -> None:
        self.tf = tf
        self.definition = definition
        self.nodes = {node.name: node for node in definition.node}
        self.graph = graph
        self.layers = {layer.name: layer for layer in graph.layers}
        groups: dict[str, list[Any]] = {}
        for node in definition.node:
            if node.op not in ("Const", "Placeholder") and node.name not in graph.output_names:
                groups.setdefault(self._layer_of(node.name), []).append(node)
        # Grappler may have moved operations; the layers are in topological order.
        self.groups = {layer: groups[layer] for layer in self.layers if layer in groups}
        self.refs: dict[str, Ref] = {f"{IMAGE}:0": Ref(IMAGE)}  # what a tensor is outside its layer

    def _layer_of(self, name: str) -> str:
        layer = name.split("/", 1)[0]
        if layer not in self.layers:
            raise ModelError(
                f"{self.graph.path}: operation '{name}' belongs to no layer of the model",
                hint="delete the file; edgefx writes it again",
            )
        return layer

    def read(self) -> Graph:
        """Read the layers in the order of their first operation."""
        found = Graph()
        ends = [_tensor(self.nodes[name].input[0]) for name in self.graph.output_names]
        for layer, nodes in self.groups.items():
            outside = {
                _tensor(source) for name, others in self.groups.items() if name != layer for node in others
                for source in node.input
            }  # fmt: skip
            outside.update(ends)
            names = {node.name for node in nodes}
            outputs = sorted(tensor for tensor in outside if tensor.split(":", maxsplit=1)[0] in names)
            inputs = list(
                dict.fromkeys(
                    _tensor(source)
                    for node in nodes
                    for source in node.input
                    if _operation(source) not in names and not self._is_constant(source)
                )
            )
            op = self._known(nodes) if len(outputs) == 1 and _last_is(nodes, outputs[0]) else None
            if isinstance(op, ir.Add | ir.Multiply | ir.Concatenate):  # which may read one tensor twice
                inputs = [_tensor(s) for node in nodes for s in node.input if _operation(s) not in names]
                inputs = [tensor for tensor in inputs if not self._is_constant(tensor)]
            if op is None:
                op = self._opaque(inputs, outputs)
            refs = tuple(self.refs[tensor] for tensor in inputs)
            found.nodes.append(Node(name=layer, kind=self.layers[layer].kind, inputs=refs, op=op))
            self.refs.update({tensor: Ref(layer, number) for number, tensor in enumerate(outputs)})
        found.outputs = tuple(self.refs[tensor] for tensor in ends)
        return found

    # ---------------------------------------------------------------------------------------- known layers

    def _known(self, nodes: Sequence[Any]) -> ir.Op | None:  # noqa: PLR0911 - one return per layer
        """Return the operation that a layer's nodes make up, or None when no layer is written like that."""
        kinds = tuple(node.op for node in nodes)
        first = nodes[0]
        match kinds:
            case ("Conv2D",) | ("Conv2D", "BiasAdd"):
                return self._convolution(ir.Conv, nodes)
            case ("DepthwiseConv2dNative",) | ("DepthwiseConv2dNative", "BiasAdd"):
                return self._convolution(ir.DepthwiseConv, nodes)
            case ("MatMul",) | ("MatMul", "BiasAdd"):
                return self._dense(nodes)
            case ("Sigmoid", "Mul") if set(nodes[1].input) == {first.input[0], first.name}:
                return ir.Activation("silu")
            case (kind,) if kind in _ACTIVATIONS:
                return ir.Activation(_ACTIVATIONS[kind])
            case ("Mean",) | ("Max",):
                return self._global_pool(first)
            case ("MaxPool",) | ("AvgPool",):
                return self._pool(first)
            case ("Pad",):
                rows = self._constant(first.input[1])
                return None if rows is None or np.any(rows[[0, 3]]) else ir.Pad(_pairs(rows[1:3]))
            case ("Reshape",):
                shape = self._constant(first.input[1])
                return None if shape is None else ir.Reshape(tuple(int(size) for size in shape[1:]))
            case ("ConcatV2",):
                axis = self._constant(first.input[-1])
                return None if axis is None else ir.Concatenate(int(axis))
        if set(kinds) <= _MERGING.keys():
            if len(set(kinds)) == 1 and not any(self._is_constant(s) for n in nodes for s in n.input):
                return _MERGING[kinds[0]]() if _is_behind(nodes) else None
            return self._affine(nodes)
        return None

    def _convolution(self, kind: type[ir.Conv | ir.DepthwiseConv], nodes: Sequence[Any]) -> ir.Op | None:
        attributes = nodes[0].attr
        kernel, bias = self._constant(nodes[0].input[1]), self._bias(nodes)
        strides, dilation = (list(attributes[name].list.i) or [1] * 4 for name in ("strides", "dilations"))
        padding = attributes["padding"].s.decode()
        if kernel is None or padding not in ("SAME", "VALID") or not _is_behind(nodes):
            return None
        return kind(
            kernel=kernel,
            bias=bias,
            strides=(int(strides[1]), int(strides[2])),
            dilation=(int(dilation[1]), int(dilation[2])),
            padding=padding,
        )

    def _dense(self, nodes: Sequence[Any]) -> ir.Op | None:
        kernel = self._constant(nodes[0].input[1])
        transposed = nodes[0].attr["transpose_a"].b or nodes[0].attr["transpose_b"].b
        if kernel is None or transposed or not _is_behind(nodes):
            return None
        return ir.Dense(kernel=kernel, bias=self._bias(nodes))

    def _bias(self, nodes: Sequence[Any]) -> ir.Array | None:
        return self._constant(nodes[1].input[1]) if len(nodes) == 2 else None

    def _global_pool(self, node: Any) -> ir.Op | None:
        axes = self._constant(node.input[1])
        if axes is None or sorted(np.ravel(axes)) != [1, 2]:
            return None
        return ir.GlobalPool(node.op.lower(), keepdims=node.attr["keep_dims"].b)

    def _pool(self, node: Any) -> ir.Op | None:
        size, strides = (list(node.attr[name].list.i) for name in ("ksize", "strides"))
        return ir.Pool(
            node.op.removesuffix("Pool").upper(),
            (int(size[1]), int(size[2])),
            (int(strides[1]), int(strides[2])),
            node.attr["padding"].s.decode(),
        )

    def _affine(self, nodes: Sequence[Any]) -> ir.Op | None:
        """``x * scale + offset``, either part of which may be absent."""
        constants = [self._constant(node.input[1]) for node in nodes]
        if any(c is None or c.ndim > 1 for c in constants) or not _is_behind(nodes):
            return None
        values: dict[str, Any] = {
            node.op: np.atleast_1d(c).astype(np.float64)
            for node, c in zip(nodes, constants, strict=True)
            if c is not None
        }
        if [node.op for node in nodes] not in (["Mul", "AddV2"], ["Mul"], ["AddV2"]):
            return None
        scale, offset = np.broadcast_arrays(
            values.get("Mul", np.ones(1)), values.get("AddV2", np.zeros(1))
        )  # fmt: skip
        return ir.Affine(scale, offset)

    # -------------------------------------------------------------------------------------- unknown layers

    def _opaque(self, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Op:
        """The operations between some tensors, called as they are; their weights stay constants."""
        tf = self.tf
        part = type(self.definition)()
        part.versions.CopyFrom(self.definition.versions)
        part.library.CopyFrom(self.definition.library)
        fed = {_operation(name) for name in inputs}
        needed, todo = set(), [_operation(name) for name in outputs]
        while todo:
            name = todo.pop()
            if name not in needed:
                needed.add(name)
                todo += [_operation(s) for s in self.nodes[name].input if _operation(s) not in fed]
        part.node.extend(node for node in self.definition.node if node.name in needed)

        def call(tensors: Sequence[Any]) -> list[Any]:
            def operations(*values: Any) -> Any:
                table = dict(zip(inputs, values, strict=True))
                return tf.graph_util.import_graph_def(
                    part, input_map=table, return_elements=list(outputs), name=""
                )

            # Frozen for one image, and thus run image by image.
            signature = [tf.TensorSpec([1, *value.shape[1:]], value.dtype) for value in tensors]
            run = tf.compat.v1.wrap_function(operations, signature)
            kinds = tuple(output.dtype for output in run.outputs)
            found = tf.map_fn(
                lambda values: tuple(result[0] for result in run(*(value[None] for value in values))),
                tuple(tensors),
                fn_output_signature=kinds,
            )
            for value, output in zip(found, run.outputs, strict=True):
                value.set_shape([None, *output.shape[1:]])
            return list(found)

        return ir.Opaque(call)

    def _is_constant(self, source: str) -> bool:
        return bool(self.nodes[_operation(source)].op == "Const")

    def _constant(self, source: str) -> Any:
        """Return a constant's value, or None when an input is none."""
        node = self.nodes[_operation(source)]
        return self.tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None


def _tensor(source: str) -> str:
    return source if ":" in source else f"{source}:0"


def _operation(source: str) -> str:
    return source.split(":", maxsplit=1)[0]


def _last_is(nodes: Sequence[Any], output: str) -> bool:
    return _tensor(nodes[-1].name) == output


def _is_behind(nodes: Sequence[Any]) -> bool:
    """Whether each node reads the one before it as its first input."""
    pairs = itertools.pairwise(nodes)
    return all(_tensor(later.input[0]) == _tensor(earlier.name) for earlier, later in pairs)


def _pairs(rows: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    (top, bottom), (left, right) = rows
    return (int(top), int(bottom)), (int(left), int(right))
