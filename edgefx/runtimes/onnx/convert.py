"""From the frozen TensorFlow graph to a tidy float32 ONNX model, made once per run.

tf2onnx does the translation; `edgefx.runtimes.onnx.graph` removes what it leaves behind. The result is the
``onnx-float32`` artifact, the start of the other three targets and the baseline of their latency.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ConversionError
from edgefx.models.graph import freeze
from edgefx.protocols import Progress
from edgefx.runtimes.onnx import tidy
from edgefx.storage.atomic import replacing
from edgefx.storage.disk import explained
from edgefx.types import FrozenGraph

if TYPE_CHECKING:
    import onnx

# Opset 17 (2022) has per-axis QuantizeLinear and all that EfficientNets need; newer ones brought no faster
# kernel for them in ONNX Runtime, and older runtimes on devices refuse newer files.
OPSET = 17
_SHARED_FLOAT = "float32.onnx"
_FLOAT = 1  # TensorFlow's number of float32


def float_model(graph: FrozenGraph, progress: Progress) -> onnx.ModelProto:
    """Return the float32 model of a frozen graph; converted once per workdir.

    Raises:
        ConversionError: The graph holds an operation without an ONNX counterpart, or the result is not a
            graph with one input and the outputs of the graph, of fixed shape.
    """
    import onnx

    shared = graph.workdir / _SHARED_FLOAT
    if not shared.exists():
        with progress.task("converting to ONNX"):
            save(_convert(graph), shared)
    return onnx.load(shared)


def save(model: onnx.ModelProto, path: Path, check: Callable[[Path], None] | None = None) -> None:
    """Write a model under a temporary name, `check` that file, then rename: complete and right, or absent.

    Raises:
        OutputError: The folder cannot be written.
        DiskFullError: No space left.
    """
    try:
        with replacing(path) as made:
            made.write_bytes(model.SerializeToString(deterministic=True))
            if check is not None:
                check(made)
    except OSError as error:
        raise explained(error, path) from error


def _convert(graph: FrozenGraph) -> onnx.ModelProto:
    import onnx

    translated = _translate(graph)
    model = tidy.simplify(_name_ends(translated, graph))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the ONNX graph of '{graph.spec.name}' is not valid: {error}",
            hint="please report this model: a valid TensorFlow graph became an invalid ONNX graph",
        ) from error
    if len(model.graph.input) != 1 or len(model.graph.output) != len(graph.output_names):
        names = [info.name for info in model.graph.input]
        raise ConversionError(
            f"the ONNX graph of '{graph.spec.name}' has inputs {names}, one image input was expected",
            hint="the model may depend on values that are not constants",
        )
    return model


def _translate(graph: FrozenGraph) -> onnx.ModelProto:
    """Run tf2onnx without its detours.

    `tf2onnx.convert.from_graph_def` opens a TF session to freeze what is frozen already and copies the whole
    graph before each of its optimizers, to be able to undo one that fails: half of its time. Its parts are
    called here directly; an optimizer that fails is an error, not a warning.
    """
    with _quiet_tf2onnx():
        from tf2onnx import optimizer, tfonnx

        try:
            with freeze.imported(_translatable(freeze.read(graph.path))).as_default() as tf_graph:
                translated = tfonnx.process_tf_graph(
                    tf_graph,
                    opset=OPSET,
                    input_names=[f"{graph.input_name}:0"],
                    output_names=[f"{name}:0" for name in graph.output_names],
                )
                optimized = optimizer.optimize_graph(translated, catch_errors=False, optimizers=_optimizers())
                model: onnx.ModelProto = optimized.make_model("edgefx")
        except Exception as error:  # tf2onnx raises whatever its handlers meet
            raise ConversionError(
                f"tf2onnx refused the graph of '{graph.spec.name}': {error}",
                hint="an operation of the model may have no ONNX counterpart; the log file has its name",
            ) from error
        missing = sorted({node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if missing:
        raise ConversionError(
            f"'{graph.spec.name}' holds operations that ONNX does not know: {', '.join(missing)}",
            hint="replace these layers, or choose another runtime's targets",
        )
    return model


def _translatable(definition: Any) -> Any:
    """Rewrite in a GraphDef what tf2onnx fails on; returns it.

    ``erfc(x)``, which a GELU of TensorFlow's own holds and ONNX does not have, becomes ``1 - erf(x)``. The
    one number of ``x + 3`` becomes a vector of one: tf2onnx takes it for a convolution's bias, and then for
    its length.
    """
    nodes = {node.name: node for node in definition.node}
    for node in list(definition.node):
        if node.op == "Erfc":
            inner = definition.node.add(name=f"{node.name}/erf", op="Erf", input=node.input)
            inner.attr["T"].type = node.attr["T"].type
            one = _number(definition, f"{node.name}/one", 1.0)
            node.op = "Sub"
            node.input[:] = [one.name, inner.name]
        elif node.op == "AddV2":
            for place, source in enumerate(node.input):
                scalar = nodes.get(source)
                if scalar is not None and scalar.op == "Const" and _is_scalar(scalar):
                    copy = definition.node.add()
                    copy.CopyFrom(scalar)
                    copy.name = f"{node.name}/number{place}"
                    copy.attr["value"].tensor.tensor_shape.dim.add(size=1)
                    node.input[place] = copy.name
    return definition


def _is_scalar(node: Any) -> bool:
    tensor = node.attr["value"].tensor
    return not tensor.tensor_shape.dim and not tensor.tensor_shape.unknown_rank


def _number(definition: Any, name: str, value: float) -> Any:
    node = definition.node.add(name=name, op="Const")
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = _FLOAT
    node.attr["value"].tensor.tensor_shape.SetInParent()
    node.attr["value"].tensor.float_val.append(value)
    return node


def _optimizers() -> dict[str, Any]:
    """Those of tf2onnx's optimizers that find something to do in an image classifier."""
    from tf2onnx import optimizer

    wanted = (
        "optimize_transpose",
        "fold_constants",
        "merge_duplication",
        "reshape_optimizer",
        "global_pool_optimizer",
        "remove_identity",
        "remove_back_to_back",
    )
    known = optimizer._get_optimizers()  # noqa: SLF001 - tf2onnx has no public list
    return {name: known[name] for name in wanted if name in known}


@contextmanager
def _quiet_tf2onnx() -> Iterator[None]:
    """Keep tf2onnx's warnings about its own choices off stderr."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _name_ends(model: onnx.ModelProto, graph: FrozenGraph) -> onnx.ModelProto:
    """Name input and outputs without TensorFlow's ``:0``, and put outputs in the graph's order."""
    table = {f"{name}:0": name for name in (graph.input_name, *graph.output_names)}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} & set(table.values())
    for node in model.graph.node:
        # An inner tensor may already bear the plain name; it gives way.
        for names in (node.input, node.output):
            names[:] = [f"{name}/inner" if name in taken else table.get(name, name) for name in names]
    for info in (*model.graph.input, *model.graph.output):
        info.name = table.get(info.name, info.name)
        info.doc_string = ""
    model.graph.output.sort(key=lambda info: graph.output_names.index(info.name))
    return model
