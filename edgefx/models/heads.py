"""What a model answers, told from how its graph ends, or from what the user says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgefx.errors import ModelError, UsageError
from edgefx.types import ModelTask, OutputKind

PASS_THROUGH = frozenset({"Identity", "IdentityN", "Cast", "Reshape", "Squeeze", "EnsureShape"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_CHOSEN = ("ArgMax", "ArgMin")
_SOFTMAX, _SIGMOID = "Softmax", "Sigmoid"
_WITH_VALUES = (ModelTask.REGRESSION, ModelTask.EMBEDDING, ModelTask.FEATURES)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a model answers, and how.

    Attributes:
        task: What it answers.
        output: What its scores are.
        classes: Number of classes, or of values where there are none.
    """

    task: ModelTask
    output: OutputKind
    classes: int


def find(
    graph_def: Any,
    output: str,
    shape: tuple[int, ...],
    *,
    task: ModelTask | None,
    source: str,
    option: str = "--task ",
) -> Head:
    """Tell what a model answers from the operation that it ends in and its output's shape.

    Softmax, and scores without one, are those of a classifier. One sigmoid is a binary classifier's. Several
    are taken for a classifier's, as they were trained by many, unless the user says "multilabel". One score
    without sigmoid may be a logit or a quantity: that must be said.

    Args:
        graph_def: A GraphDef, with its functions.
        output: Name of its output operation.
        shape: Of the output, without the batch.
        task: What the user says that it answers; None leaves it to the graph.
        source: The model, for messages.
        option: How a message says a task, up to its name.

    Raises:
        UsageError: The task must be said, or is not one that such an output can be.
        ModelError: The model keeps its scores to itself.
    """
    end = last_operation(graph_def, output)
    if end in _CHOSEN:
        raise ModelError(
            f"{source}: it answers the number of a class ({end}) and not how sure it is",
            hint="compile the model that ends in the scores in front of the argmax, made with"
            " keras.Model(input, output)",
        )
    values = math.prod(shape)
    if len(shape) == 3:
        if task not in (None, ModelTask.FEATURES):
            raise _misfit(
                task, source, "its output is a map [height, width, channels]", ("features",), option
            )
        return Head(task=ModelTask.FEATURES, output=OutputKind.VALUES, classes=values)
    if task is None:
        task = _recognised(end, values, source, option)
    _check(task, end, values, source, option)
    if task in _WITH_VALUES:
        return Head(task=task, output=OutputKind.VALUES, classes=values)
    is_normalised = end in (_SOFTMAX, _SIGMOID)
    return Head(
        task=task,
        output=OutputKind.PROBABILITIES if is_normalised else OutputKind.LOGITS,
        classes=2 if task is ModelTask.BINARY else values,
    )


def _recognised(end: str, values: int, source: str, option: str) -> ModelTask:
    if values > 1:
        return ModelTask.CLASSIFICATION
    if end == _SIGMOID:
        return ModelTask.BINARY
    raise UsageError(
        f"{source}: the model has a single output without a sigmoid, which may be a logit or a quantity",
        hint=f"say which: {option}binary for a logit, or {option}regression",
    )


def _check(task: ModelTask, end: str, values: int, source: str, option: str) -> None:
    """Refuse a task that such an output cannot be."""
    if task is ModelTask.FEATURES:
        raise _misfit(
            task, source, f"its output is a vector of {values}", ("embedding", "regression"), option
        )
    if task is ModelTask.BINARY and values != 1:
        raise _misfit(
            task, source, f"it has {values} outputs, not one", ("classification", "multilabel"), option
        )
    if task is ModelTask.CLASSIFICATION and values == 1:
        raise _misfit(task, source, "it has a single output", ("binary", "regression"), option)
    if task is ModelTask.MULTILABEL and end == _SOFTMAX:
        raise _misfit(task, source, "in a softmax one class excludes the others", ("classification",), option)


def _misfit(
    task: ModelTask | None, source: str, why: str, instead: tuple[str, ...], option: str
) -> UsageError:
    choices = " or ".join(f"{option}{name}" for name in instead)
    return UsageError(f"{option}{task}: the model {source} cannot be that: {why}", hint=f"try {choices}")


def threshold_of(task: ModelTask, threshold: float | None) -> float:
    """Return the probability above which a score counts as a yes: as the user says, or 0.5.

    Raises:
        UsageError: The task has none.
    """
    if threshold is not None and task not in (ModelTask.BINARY, ModelTask.MULTILABEL):
        raise UsageError(
            f"--threshold {threshold:g}: is for scores that stand alone, and the task is {task}",
            hint="leave it out, or say --task binary or --task multilabel",
        )
    return 0.5 if threshold is None else threshold


def last_operation(graph_def: Any, output: str) -> str:
    """Return the type of the operation that a graph's output comes from, past those that change nothing.

    Args:
        graph_def: A GraphDef, with its functions.
        output: Name of the output operation.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    nodes = {node.name: node for node in graph_def.node}
    name, place = output, 0  # of an operation, and which of its outputs
    while True:
        node = nodes.get(name)
        if node is None:
            return ""
        if node.op in _CALLS:
            function = functions[node.attr["f"].func.name]
            nodes = {inner.name: inner for inner in function.node_def}
            name, place = _tensor(function.ret[function.signature.output_arg[place].name])
        elif node.op in PASS_THROUGH:
            name, place = _tensor(node.input[0].lstrip("^"))
        else:
            return str(node.op)


def _tensor(source: str) -> tuple[str, int]:
    """Return the operation of ``name``, ``name:1`` or ``name:output:0``, and the number of its output.

    The last is how functions write it, whose calls of others number their outputs behind that name.
    """
    name, *place = source.split(":")
    return name, int(place[-1]) if place else 0
