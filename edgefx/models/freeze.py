"""From a traced function to a GraphDef without variables, and running such a GraphDef."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.models.ir import IMAGE

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores, Task


def freeze(function: Any, *, output: str, fold: bool) -> Any:
    """Return the GraphDef of a concrete function with its captured variables as constants.

    Args:
        function: A concrete function whose input placeholder is named ``image``.
        output: Name of the operation to keep, with all it needs.
        fold: Also fold constants, so that shapes computed at run time become constants.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    graph_def = frozen.graph.as_graph_def()
    if fold:
        graph_def = _fold_constants(graph_def, output)
    return _reachable(graph_def, output)


def _reachable(graph_def: Any, output: str) -> Any:
    """The nodes that `output` depends on, in their order, and the functions they call."""
    nodes = {node.name: node for node in graph_def.node}
    needed, todo = {IMAGE}, [output]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(source.lstrip("^").split(":")[0] for source in nodes[name].input)
    kept = type(graph_def)()
    kept.versions.CopyFrom(graph_def.versions)
    kept.node.extend(node for node in graph_def.node if node.name in needed)
    called = {attribute.func.name for node in kept.node for attribute in node.attr.values()}
    if called & {function.signature.name for function in graph_def.library.function}:
        kept.library.CopyFrom(graph_def.library)
    return kept


def _fold_constants(graph_def: Any, output: str) -> Any:
    """Grappler's constant folding, shapes included; no layout changes, which runtimes do themselves."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        meta = tf.compat.v1.train.export_meta_graph(
            graph=graph, graph_def=graph.as_graph_def(add_shapes=True)
        )
    fetch = meta.collection_def["train_op"]
    fetch.node_list.value.append(output)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    options.optimizers.extend(["function", "constfold", "dependency", "prune"])
    return tf_optimizer.OptimizeGraph(config, meta)


class GraphRunner:
    """Runs a frozen GraphDef image by image."""

    def __init__(self, path: Path, *, output: str) -> None:
        import tensorflow as tf

        graph_def = tf.compat.v1.GraphDef()
        graph_def.ParseFromString(path.read_bytes())
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
        self._tf = tf
        self._run = wrapped.prune(f"{IMAGE}:0", f"{output}:0")

    def infer(self, pixels: Pixels, *, task: Task | None = None) -> Scores:
        """Scores, float32 [N, classes], of raw RGB uint8 [N, H, W, 3]."""
        rows = []
        for image in pixels:
            rows.append(self._run(self._tf.constant(image[None].astype(np.float32))).numpy()[0])
            if task is not None:
                task.advance()
        return np.asarray(rows, np.float32)


def op_types(graph_def: Any) -> Iterable[str]:
    """The operation types of a GraphDef, its functions included."""
    yield from (node.op for node in graph_def.node)
    for function in graph_def.library.function:
        yield from (node.op for node in function.node_def)
