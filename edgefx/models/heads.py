"""What a model answers, told from how its graph ends, or from what the user says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgefx.errors import ModelError, UsageError
from edgefx.models.backwards import SUMS, EntangledError, Operation
from edgefx.models.vectors import is_embedding
from edgefx.types import ModelTask, OutputKind

_CHOSEN = ("ArgMax", "ArgMin")
_SOFTMAX, _SIGMOID = "Softmax", "Sigmoid"


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
    end: Operation,
    shape: tuple[int, ...],
    *,
    task: ModelTask | None,
    source: str,
    option: str = "--task ",
) -> Head:
    """Tell what a model answers from the operations that it ends in and its output's shape.

    Softmax, and scores without one, are those of a classifier. One sigmoid is a binary classifier's. Several
    are taken for a classifier's, as they were trained by many, unless the user says "multilabel". One score
    without sigmoid may be a logit or a quantity: that must be said. Vectors of length 1 and pooled features
    are embeddings (`edgefx.models.vectors`).

    Args:
        end: The operation that gives the output.
        shape: Of the output, without the batch.
        task: What the user says that it answers; None leaves it to the graph.
        source: The model, for messages.
        option: How a message says a task, up to its name.

    Raises:
        UsageError: The task must be said, or is not one that such an output can be.
        ModelError: The model keeps its scores to itself.
    """
    last = end.past()
    if last.type in _CHOSEN:
        raise ModelError(
            f"{source}: it answers the number of a class ({last.type}) and not how sure it is",
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
    function = _score_function(last)
    if function == _SOFTMAX and values == 1:
        raise ModelError(
            f"{source}: it ends in a softmax over a single value, which is 1 for every image",
            hint="train it with a sigmoid in its place, or with a softmax over two values",
        )
    if task is None:
        task = _recognised(last, function, values, source, option)
    _check(task, function, values, source, option)
    if task.gives_values:
        return Head(task=task, output=OutputKind.VALUES, classes=values)
    return Head(
        task=task,
        output=OutputKind.PROBABILITIES if function else OutputKind.LOGITS,
        classes=2 if task is ModelTask.BINARY else values,
    )


def _score_function(last: Operation) -> str:
    """Return of what function the outputs are scores, or means of scores, as an ensemble's; "" of none."""
    if last.type == "RealDiv" and _is_softmax(*last.inputs):
        return _SOFTMAX
    last.graph.begin()
    try:
        parts = list(_parts(last))
    except (EntangledError, RecursionError):  # sums of sums that no ensemble is
        return ""
    functions = {function for function, _ in parts}
    is_mean = math.isclose(sum(share for _, share in parts), 1, rel_tol=1e-3)
    return functions.pop() if is_mean and functions in ({_SOFTMAX}, {_SIGMOID}) else ""


def _is_softmax(powers: Operation, total: Operation) -> bool:
    """Whether powers over their sum are a softmax that somebody has written out."""
    powers, total = powers.past(), total.past()
    return powers.type == "Exp" and total.type == "Sum" and total.inputs[0].past() == powers


def _parts(op: Operation, share: float = 1.0) -> Iterator[tuple[str, float]]:
    """Yield the types of the operations that a tensor is a weighted sum of, with their weights."""
    op = op.past()
    inputs = op.inputs
    if op.type in SUMS:
        for one in inputs:
            yield from _parts(one, share)
    elif op.type == "Mean" and inputs[0].type == "Pack":
        for one in inputs[0].inputs:
            yield from _parts(one, share / len(inputs[0].inputs))
    elif op.type == "RealDiv" and inputs[1].number:
        yield from _parts(inputs[0], share / inputs[1].number)
    elif op.type == "Mul" and (numbers := [one.number for one in inputs]) and any(numbers):
        first, second = numbers
        yield from _parts(inputs[first is not None], share * (first or second or 0.0))
    else:
        yield op.type, share


def _recognised(last: Operation, function: str, values: int, source: str, option: str) -> ModelTask:
    if values > 1:
        return ModelTask.EMBEDDING if not function and is_embedding(last) else ModelTask.CLASSIFICATION
    if function == _SIGMOID:
        return ModelTask.BINARY
    raise UsageError(
        f"{source}: the model has a single output without a sigmoid, which may be a logit or a quantity",
        hint=f"say which: {option}binary for a logit, or {option}regression",
    )


def _check(task: ModelTask, function: str, values: int, source: str, option: str) -> None:
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
    if task is ModelTask.MULTILABEL and function == _SOFTMAX:
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
