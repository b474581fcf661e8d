"""What each output of a model answers, of a model with one output or with several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgefx.errors import ModelError, UnknownNameError, UsageError
from edgefx.models.backwards import Backwards
from edgefx.models.heads import Head, find, threshold_of
from edgefx.models.hints import Hints
from edgefx.types import ModelTask, OutputSpec

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")
_TAKEN = ("image",)  # what artifacts call their input


def describe(graph: Any, names: Sequence[str], hints: Hints, *, source: str) -> tuple[OutputSpec, ...]:
    """Return what a traced model's outputs are, in their order.

    Args:
        graph: A ``tf.Graph`` with these outputs.
        names: What the model calls them.
        hints: What the user says of it.
        source: The model, for messages.

    Raises:
        UsageError: A task must be said, does not fit, or is said of no output.
        ModelError: Two outputs are the same.
    """
    own = unique(names)
    _check_said(own, hints, source)
    _check_distinct(own, graph, source)
    backwards = Backwards(graph.as_graph_def(add_shapes=True), image=graph.inputs[0].op.name)
    several = len(own) > 1
    found = []
    for name, tensor in zip(own, graph.outputs, strict=True):
        shape = tuple(int(length) for length in tensor.shape[1:])
        head: Head = find(
            backwards.output(tensor.op.name),
            shape,
            task=_said(name, hints),
            source=f"{source}, output {name}" if several else source,
            option=f"--task {name}=" if several else "--task ",
        )
        found.append((name, shape, head))
    stands_alone = [head.task in (ModelTask.BINARY, ModelTask.MULTILABEL) for _, _, head in found]
    return tuple(
        OutputSpec(
            name=name,
            shape=shape,
            task=head.task,
            output=head.output,
            # Of several outputs it is for those that have one.
            threshold=threshold_of(head.task, hints.threshold if alone or not any(stands_alone) else None),
        )
        for (name, shape, head), alone in zip(found, stands_alone, strict=True)
    )


def unique(names: Sequence[str]) -> list[str]:
    """Return names that artifacts can give their outputs: each once, of letters, digits and ``_.-``."""
    taken = set(_TAKEN)
    result = []
    for name in names:
        base = _UNSAFE.sub("_", name)
        base = base if base[:1].isalnum() else f"output{base}"
        own, number = base, 0
        while own in taken:
            number += 1
            own = f"{base}_{number}"
        taken.add(own)
        result.append(own)
    return result


def _check_said(names: Sequence[str], hints: Hints, source: str) -> None:
    """Refuse tasks that are said of no output, or of which it is not clear which output they are of.

    Raises:
        UsageError: It is one for all of several outputs.
        UnknownNameError: There is no output of that name.
    """
    if isinstance(hints.task, Mapping):
        for name in hints.task:
            if name not in names:
                raise UnknownNameError("output", name, names)
    elif hints.task is not None and len(names) > 1:
        raise UsageError(
            f"--task {hints.task}: {source} has {len(names)} outputs: {', '.join(names)}",
            hint=f"say of which it is the task: --task {names[0]}={hints.task}",
        )


def _check_distinct(names: Sequence[str], graph: Any, source: str) -> None:
    """Refuse a tensor that is put out twice: runtimes know an output by its tensor.

    Raises:
        ModelError: There is one.
    """
    known: dict[str, str] = {}
    for name, tensor in zip(names, graph.outputs, strict=True):
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]  # noqa: PLW2901 - what it is the same as
        other = known.setdefault(tensor.name, name)
        if other != name:
            raise ModelError(
                f"{source}: its outputs {other} and {name} are the same tensor",
                hint=f"save keras.Model(model.input, [...]) without one of them, or take --head {other}",
            )


def _said(name: str, hints: Hints) -> ModelTask | None:
    return hints.task.get(name) if isinstance(hints.task, Mapping) else hints.task
