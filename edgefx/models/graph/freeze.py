"""From a traced function to a GraphDef without variables, and running such a GraphDef.

TensorFlow's own ``convert_variables_to_constants_v2`` refuses a graph in which any operation writes a
variable, even one that the output does not depend on: the seed of an augmentation layer, in every exported
Keras 3 model that has one. Here what the output does not depend on goes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.errors import ModelError
from edgefx.models.graph.ir import IMAGE
from edgefx.system.graphs import running
from edgefx.system.parallel import ordered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.protocols import Task
    from edgefx.types import Pixels, Scores

_LOOPS = ("Enter", "While", "StatelessWhile")
_BY_XLA = "_XlaMustCompile"
WEIGHTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul")  # operations whose second input is a kernel
_SCOPES = re.compile(
    r"^(ConstantFolding/|(Stateful)?PartitionedCall(_\d+)?/)+"
)  # inlined calls and Grappler's


def freeze(function: Any, *, outputs: Sequence[str], inline: bool) -> Any:
    """Return the GraphDef of a concrete function, with variables and captured tensors as constants.

    Args:
        function: A concrete function whose input placeholder is named ``image``.
        outputs: Names of the operations to keep, with all they need.
        inline: Also inline functions and fold constants, so that shapes computed at run time vanish.

    Raises:
        ModelError: The output is random, or a variable cannot be made a constant.
    """
    graph_def = function.graph.as_graph_def()
    if inline:
        _let_inline(graph_def)
        graph_def = _optimize(graph_def, outputs, ["function"])
    graph_def = reachable(graph_def, outputs)
    _check_deterministic(graph_def)  # before folding, which would turn a random draw into a constant
    _replace_captures(graph_def, function)
    if inline:
        graph_def = reachable(graph_def, outputs)
        _fix_shapes(graph_def)
        graph_def = _optimize(graph_def, outputs, ["constfold", "dependency"])
    graph_def = reachable(graph_def, outputs)
    if inline:
        _drop_scopes(graph_def)
    return graph_def


def _let_inline(graph_def: Any) -> None:
    """Drop the wish to be compiled by XLA, as Keras wants for grouped convolutions: it forbids inlining."""
    functions = graph_def.library.function
    for part in (*functions, *graph_def.node, *(node for one in functions for node in one.node_def)):
        if _BY_XLA in part.attr:
            del part.attr[_BY_XLA]
            part.attr.pop("_noinline", None)


def _optimize(graph_def: Any, outputs: Sequence[str], optimizers: Sequence[str]) -> Any:
    """Run the named optimizers of Grappler; layouts and fusing are left to the runtimes."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    graph = imported(graph_def)
    meta = tf.compat.v1.train.export_meta_graph(graph=graph, graph_def=graph.as_graph_def(add_shapes=True))
    meta.collection_def["train_op"].node_list.value.extend(outputs)  # what Grappler must keep
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    options.optimizers.extend(optimizers)
    return tf_optimizer.OptimizeGraph(config, meta)


def reachable(graph_def: Any, outputs: Sequence[str]) -> Any:
    """The nodes whose values `outputs` are computed from, in their order, and the functions they call.

    Control edges only order side effects, of which none is left, and are dropped.
    """
    nodes = {node.name: node for node in graph_def.node}
    needed, todo = {IMAGE}, list(outputs)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(_producer(source) for source in nodes[name].input if not source.startswith("^"))
    kept = type(graph_def)()
    kept.versions.CopyFrom(graph_def.versions)
    for node in graph_def.node:
        if node.name in needed:
            copy = kept.node.add()
            copy.CopyFrom(node)
            copy.attr.pop("_output_shapes", None)
            del copy.input[:]
            copy.input.extend(source for source in node.input if not source.startswith("^"))
    called = {attribute.func.name for node in kept.node for attribute in node.attr.values()}
    if called & {function.signature.name for function in graph_def.library.function}:
        kept.library.CopyFrom(graph_def.library)
    return kept


def _check_deterministic(graph_def: Any) -> None:
    nodes = [*graph_def.node, *(n for function in graph_def.library.function for n in function.node_def)]
    random = sorted({node.op for node in nodes if "Random" in node.op or node.op.endswith("Multinomial")})
    if random:
        raise ModelError(
            f"the model is random at inference ({', '.join(random)})",
            hint="a SavedModel exported by Keras keeps its augmentation layers active: compile the .keras or "
            ".h5 file instead, or export the model without them",
        )


def _replace_captures(graph_def: Any, function: Any) -> None:
    """Replace the reads of captured variables, and captured tensors, by constants."""
    import tensorflow as tf

    captured = {
        inner.op.name: outer
        for inner, outer in zip(function.graph.internal_captures, function.captured_inputs, strict=True)
    }
    nodes = {node.name: node for node in graph_def.node}

    def source(name: str) -> str:
        while nodes[name].op == "Identity":
            name = _producer(nodes[name].input[0])
        return name

    for node in graph_def.node:
        if node.op == "ReadVariableOp" and (origin := source(_producer(node.input[0]))) in captured:
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            _make_constant(
                node, tf.raw_ops.ReadVariableOp(resource=captured[origin], dtype=dtype).numpy(), dtype
            )
        elif node.op == "Placeholder" and node.name in captured:
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            if dtype not in (tf.resource, tf.variant):
                _make_constant(node, captured[node.name].numpy(), dtype)
    # The variables' placeholders are unreachable now, unless something else than a read uses one.
    for node in graph_def.node:
        if node.op not in ("Identity", "Placeholder") and any(
            _producer(name) in captured and nodes[_producer(name)].op == "Placeholder" for name in node.input
        ):
            if node.op in _LOOPS:
                raise ModelError(
                    f"operation '{node.name}' ({node.op}) is part of a loop, as recurrent layers have",
                    hint="build the layer with unroll=True and the same weights, and save the model again",
                )
            raise ModelError(
                f"operation '{node.name}' ({node.op}) uses a variable that cannot be made a constant",
                hint="let the model compute its output from weights and the image only",
            )


def _fix_shapes(graph_def: Any) -> None:
    """Replace questions for a shape that is known, now that the batch is fixed, by constants."""
    graph = imported(graph_def)
    for node in graph_def.node:
        if node.op == "Shape":
            op = graph.get_operation_by_name(node.name)
            if op.inputs[0].shape.is_fully_defined():
                dtype = op.outputs[0].dtype
                _make_constant(node, np.array(op.inputs[0].shape.as_list(), dtype.as_numpy_dtype), dtype)


def _make_constant(node: Any, value: Any, dtype: Any) -> None:
    import tensorflow as tf

    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype=dtype, shape=value.shape))


def _drop_scopes(graph_def: Any) -> None:
    """Shorten ``StatefulPartitionedCall/stem_conv/Conv2D`` to ``stem_conv/Conv2D`` if names stay unique."""
    short = {node.name: _SCOPES.sub("", node.name) for node in graph_def.node}
    if len(set(short.values())) != len(short):
        return
    for node in graph_def.node:
        node.name = short[node.name]
        for index, source in enumerate(node.input):
            name, colon, output = source.partition(":")
            node.input[index] = f"{short[name]}{colon}{output}"


def _producer(source: str) -> str:
    """Name of the node behind a node input such as ``name:1``."""
    return source.split(":", maxsplit=1)[0]


class GraphSession:
    """A frozen GraphDef to run as it is written: TensorFlow does not rewrite it first.

    For some dozens of images, that takes longer than it saves.
    """

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._graph = imported(read(path))
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)

    def callable(self, results: Sequence[str], given: Sequence[str]) -> Callable[..., list[Any]]:
        """Return a function that computes tensors of others.

        Args:
            results: Names of the tensors to compute, such as ``stem_conv/Conv2D:0``.
            given: Names of those that are given, in the order of the function's arguments.
        """
        wanted, fed = ([self._graph.get_tensor_by_name(name) for name in names] for names in (results, given))
        run: Callable[..., list[Any]] = self._session.make_callable(wanted, feed_list=fed)
        return run


class GraphRunner:
    """Runs a frozen GraphDef image by image, see `GraphSession`."""

    def __init__(self, path: Path, *, outputs: Sequence[str]) -> None:
        self._session = GraphSession(path)
        self._run = self._session.callable([f"{name}:0" for name in outputs], [f"{IMAGE}:0"])

    def infer(self, pixels: Pixels, *, task: Task | None = None) -> Scores:
        """The outputs, float32 [N, values], of raw RGB uint8 [N, H, W, 3]; of an image all in one row.

        Raises:
            ModelError: An operation fails on an image.
        """

        def scores(image: NDArray[np.uint8]) -> Scores:
            with running("the model's graph"):
                found = self._run(image[None].astype(np.float32))
            return np.concatenate([one.reshape(-1) for one in found])

        rows = []
        for row in ordered(scores, pixels):
            rows.append(row)
            if task is not None:
                task.advance()
        return np.asarray(rows, np.float32)


def channel_means(
    path: Path, layers: Sequence[str], pixels: Pixels, task: Task
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each channel that weighted layers read, [in], by layer.

    Args:
        path: A frozen canonical graph.
        layers: Convolutions and matrix products.
        pixels: Raw RGB uint8 [N, H, W, 3].
        task: Counts images.
    """
    import tensorflow as tf

    graph_def = read(path)
    inputs = {
        layer: node.input[0] if ":" in node.input[0] else f"{node.input[0]}:0"
        for node in graph_def.node
        if node.op in WEIGHTED and (layer := node.name.split("/", 1)[0]) in layers
    }
    tensors = sorted(set(inputs.values()))
    run = _function(graph_def, tensors)
    totals: dict[str, NDArray[np.float64]] = {}
    for image in pixels:
        values = run(tf.constant(image[None].astype(np.float32)))
        for tensor, value in zip(tensors, values, strict=True):
            mean = value.numpy().mean(axis=tuple(range(len(value.shape) - 1)), dtype=np.float64)
            totals[tensor] = totals.get(tensor, 0) + mean
        task.advance()
    return {layer: totals[tensor] / len(pixels) for layer, tensor in inputs.items()}


def read(path: Path) -> Any:
    """Return the ``GraphDef`` of a frozen graph's file."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    return graph_def


def imported(graph_def: Any) -> Any:
    """Return a ``GraphDef`` as a ``tf.Graph``, whose operations keep their names."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


def _function(graph_def: Any, outputs: str | list[str]) -> Any:
    """Return a function of the image, float32 [1, H, W, 3], that computes the named tensors."""
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    return wrapped.prune(f"{IMAGE}:0", outputs)


def count_macs(graph_def: Any) -> int:
    """Multiply-accumulates of the convolutions and matrix products in a frozen GraphDef with fixed shapes."""
    graph = imported(graph_def)
    total = 0
    for op in graph.get_operations():
        if op.type in WEIGHTED:
            kernel = op.inputs[1].shape
            if op.type == "Conv2D":
                per_output = kernel[:3].num_elements()
            elif op.type == "DepthwiseConv2dNative":
                per_output = kernel[:2].num_elements()
            else:
                per_output = kernel[1] if op.get_attr("transpose_b") else kernel[0]
            total += (op.outputs[0].shape.num_elements() or 0) * per_output
    return total
