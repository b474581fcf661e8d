"""Which SavedModels may be handed to TensorFlow: those whose loading and running only computes.

What TensorFlow runs of a SavedModel, read off ``tensorflow/python/saved_model/load.py`` (2.21):

* Loading one of TensorFlow 2 (with an object graph) calls the functions of its resources (create,
  initialize) and restores variables by operations of its own; the file's save and restore functions stay
  unused.
* Loading one of TensorFlow 1 imports the main graph, runs the restore operation that the saver names (with
  the model's own checkpoint as its argument), then the initializer.
* edgefx runs the signature, and the functions of the layers where Keras metadata is in the folder.

So the judged operations are those that can be reached from the signatures, the initializer, and every
function of the object graph: a little more than is run, since which of the functions are an initializer is
for the file to say. From the restore operation reading a checkpoint may be reached as well. Save functions,
with `SaveV2`, are in every SavedModel, and nothing reaches them.

Parsing is all that is done here: a `SavedModel` message is data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgefx.errors import ModelError
from edgefx.models.safety.bounds import limit
from edgefx.models.safety.configs import judge_config
from edgefx.models.safety.operations import PURE, RESTORE

# Collections of TensorFlow 1 whose operations are run after loading.
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "local_init_op", "table_initializer")
_LOCAL_VARIABLES = "local_variables"
_UNUSED = ("training_config",)  # of the metadata: edgefx loads without it


def judge_saved_model(folder: Path, *, source: Path) -> None:
    """Judge a SavedModel's graph, and the configurations of its Keras layers.

    Args:
        folder: The SavedModel.
        source: Its name, for messages.

    Raises:
        ModelError: It cannot be parsed, or something that it runs does more than compute.
        MissingDependencyError: TensorFlow is absent.
    """
    from edgefx.models.backend import import_tensorflow

    import_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    content = (folder / "saved_model.pb").read_bytes()
    model = _parsed(saved_model_pb2.SavedModel(), content, source, "saved_model.pb")
    metadata = folder / "keras_metadata.pb"
    if metadata.exists():
        _judge_metadata(metadata.read_bytes(), source)
    try:
        for graph in model.meta_graphs:
            _judge_graph(graph, source=source, allowed_constants=limit(len(content)))
    except DecodeError as error:
        raise _corrupt(source, "saved_model.pb", error) from error


def _parsed(message: Any, content: bytes, source: Path, name: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise _corrupt(source, name, error) from error
    return message


def _corrupt(source: Path, name: str, error: Exception) -> ModelError:
    reason = str(error) or type(error).__name__
    return ModelError(f"{source}: corrupt or truncated ({name}: {reason})", hint="copy or download it again")


def _judge_metadata(content: bytes, source: Path) -> None:
    from edgefx.models.backend import import_tf_keras

    import_tf_keras()
    from tf_keras.protobuf import saved_metadata_pb2

    for node in _parsed(saved_metadata_pb2.SavedMetadata(), content, source, "keras_metadata.pb").nodes:
        try:
            config = json.loads(node.metadata) if node.metadata else {}
        except (ValueError, RecursionError) as error:
            raise _corrupt(source, "keras_metadata.pb", error) from error
        if isinstance(config, dict):
            config = {key: value for key, value in config.items() if key not in _UNUSED}
        judge_config(config, source=source)


def _judge_graph(graph: Any, *, source: Path, allowed_constants: int) -> None:
    library = _Library(graph.graph_def)
    running = library.reached(fetched=_fetched(graph), called=graph.object_graph_def.concrete_functions)
    restoring = library.reached(fetched=[graph.saver_def.restore_op_name], called=())
    for reached, allowed in ((running, PURE), (restoring, PURE | RESTORE)):
        for function, node in reached:
            if node.op not in allowed and node.op not in library.functions:
                raise _refusal(node, function, source)
    bytes_left = allowed_constants
    for _, node in running:
        bytes_left -= _constant_bytes(node) if node.op == "Const" else 0
        if bytes_left < 0:
            raise ModelError(
                f"{source}: the constants of its graph take more than {allowed_constants >> 20} MiB, far "
                "more than its file",
                hint="if you know where it comes from, add --allow-unsafe",
            )


class _Library:
    """The operations of a graph and of its functions by name.

    Names should be unique. Where a file gives one twice, all of them are looked at.
    """

    def __init__(self, graph: Any) -> None:
        self.nodes: dict[str, list[Any]] = {}
        self.functions: dict[str, list[Any]] = {}
        for node in graph.node:
            self.nodes.setdefault(node.name, []).append(node)
        for function in graph.library.function:
            self.functions.setdefault(function.signature.name, []).extend(function.node_def)

    def reached(self, *, fetched: Iterable[str], called: Iterable[str]) -> list[tuple[str, Any]]:
        """List the operations that evaluating tensors of the main graph and calling functions can run.

        All operations of a function count: those with effects run though nothing uses their result.

        Args:
            fetched: Names of tensors or operations of the main graph.
            called: Names of functions.

        Returns:
            Operations, each with the name of its function, which is "" in the main graph.
        """
        found: list[tuple[str, Any]] = []
        to_fetch, to_call = list(fetched), list(called)
        seen: set[str] = set()
        entered: set[str] = set()
        while to_fetch or to_call:
            if to_fetch:
                name = to_fetch.pop().lstrip("^").partition(":")[0]
                new = [] if name in seen else self.nodes.get(name, [])
                seen.add(name)
                to_fetch += (source for node in new for source in node.input)
                function = ""
            else:
                function = to_call.pop()
                new = [] if function in entered else self.functions.get(function, [])
                entered.add(function)
            found += ((function, node) for node in new)
            to_call += (name for node in new for name in _called(node))
        return found


def _called(node: Any) -> Iterator[str]:
    """Yield the names of the functions that an operation may call: its attributes, or its own name."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        elif value.HasField("list"):
            yield from (function.name for function in value.list.func)


def _fetched(graph: Any) -> Iterator[str]:
    """Yield the tensors and operations of the main graph that loading and running the model evaluate."""
    for signature in graph.signature_def.values():
        for tensor in signature.outputs.values():
            yield tensor.name
            yield from (tensor.coo_sparse.values_tensor_name, tensor.coo_sparse.indices_tensor_name)
            yield from (part.name for part in tensor.composite_tensor.components)
    for key in _INITIALIZERS:
        yield from graph.collection_def[key].node_list.value if key in graph.collection_def else ()
    if _LOCAL_VARIABLES in graph.collection_def:
        from tensorflow.core.framework import variable_pb2

        for content in graph.collection_def[_LOCAL_VARIABLES].bytes_list.value:
            yield variable_pb2.VariableDef.FromString(content).initializer_name


def _constant_bytes(node: Any) -> int:
    """Return how much memory a constant takes; a message may repeat one value over any shape."""
    import tensorflow as tf

    tensor = node.attr["value"].tensor
    if tensor.tensor_shape.unknown_rank:
        return 0
    try:
        size = int(tf.dtypes.as_dtype(tensor.dtype).size)
    except TypeError:
        size = 1
    shape = [max(0, int(dimension.size)) for dimension in tensor.tensor_shape.dim]
    return math.prod(shape) * max(1, size)


def _refusal(node: Any, function: str, source: Path) -> ModelError:
    place = f"function '{function}'" if function else "its graph"
    return ModelError(
        f"{source}: operation '{node.name}' ({node.op}) in {place} is not on the list of those that only "
        "compute, and edgefx runs no others of a model",
        hint="export the model without it; if you know who made the model and trust them, add --allow-unsafe",
    )
