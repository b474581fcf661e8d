"""Whether a model has what a plan asks of it, said before anything is made; and an artifact, once it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx.errors import ConversionError, UnknownNameError, UsageError
from edgefx.metrics import METRICS, Origin
from edgefx.recipe.schema import QatSection
from edgefx.types import Artifact, ModelSpec, ModelTask, OutputKind
from edgefx.verdicts import Gate
from edgefx.vocabulary import Ending, TargetKind

if TYPE_CHECKING:
    from edgefx.pipeline.plan import Plan


_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")  # between types: no computation


def check(plan: Plan, spec: ModelSpec) -> None:
    """Refuse what such a model cannot be asked for.

    Raises:
        UsageError: A limit on what is not measured of it, logits of values, maps of what no choice rests on,
            or something that is only done with one output.
    """
    for gate in dict.fromkeys(gate for target in plan.targets for gate in target.gates):
        if gate.output:
            _check_gate(gate, spec, plan.wording.name("gates.conditions"))
    _check_limits(plan, spec)
    for name in dict.fromkeys(name for target in plan.targets for name, _ in target.outputs):
        _check_end(name, spec, plan.wording.name("io_dtype"))
    if plan.recipe.report.explain:
        check_explained(spec, plan.wording.name("report.explain"))
    if spec.outputs:
        _check_several(plan, spec)
    asks_logits = any(target.ends is Ending.LOGITS for target in plan.targets)
    if asks_logits and spec.output is OutputKind.VALUES:
        raise UsageError(
            f"--ends logits: {spec.source} gives values, which no sigmoid or softmax makes of logits",
            hint="leave it out",
        )
    quantize = plan.recipe.quantize
    is_supervised = isinstance(quantize, QatSection) and quantize.mode == "supervised"
    if is_supervised and spec.task in (ModelTask.EMBEDDING, ModelTask.FEATURES):
        raise UsageError(
            f"{plan.wording.name('quantize.method')}: supervised training learns what is right for each"
            f" image, and no label says that of {spec.source}: its task is {spec.task}",
            hint="learn from the float model: --qat distill, or quantize.mode: distill",
        )


def check_explained(spec: ModelSpec, name: str) -> None:
    """Refuse to show what the choice of a class rests on where none is chosen.

    Args:
        spec: The model.
        name: What the user calls the option.

    Raises:
        UsageError: Its answers are no classes.
    """
    if not spec.task.classifies:
        raise UsageError(
            f"{name} shows what the choice of a class rests on, and {spec.source} chooses none: its task is"
            f" {spec.task}",
            hint="leave it out",
        )


def _check_limits(plan: Plan, spec: ModelSpec) -> None:
    """Refuse limits on what is not measured of such a model, of those that are not said of an output."""
    known = {f"gates.{row.gate}": row for row in METRICS.values() if row.gate and row.measures(spec.task)}
    drops = {"quantize.budget"} if "gates.max_drop" in known else set()
    plain = (
        replace(target, gates=tuple(gate for gate in target.gates if not gate.output))
        for target in plan.targets
    )
    for key in dict.fromkeys(key for target in plain for key in target.limits):
        if key in known or key in drops:
            continue
        others = [
            f"{one.name}.{row.id}"
            for one in spec.outputs
            for row in METRICS.values()
            if f"gates.{row.gate}" == key and row.measures(one.task)
        ]
        own = [name[6:] for name, row in known.items() if row.tasks and row.origin is Origin.ACCURACY]
        whose = f", output {spec.first.name}" if spec.first is not None else ""
        raise UsageError(
            f"{plan.wording.name(key)}: that is not measured of {spec.source}{whose}, whose task is"
            f" {spec.task}",
            hint=f"say of which output, with {plan.wording.name('gates.conditions')}: {', '.join(others)}"
            if others
            else f"in a recipe's section gates, limit one of: {', '.join(own)}",
        )


def _check_gate(gate: Gate, spec: ModelSpec, name: str) -> None:
    """Refuse a limit on what is not measured of an output."""
    output = next((one for one in spec.outputs if one.name == gate.output), None)
    if output is None:
        if spec.outputs:
            raise UnknownNameError("output", gate.output, [one.name for one in spec.outputs])
        raise UsageError(
            f"{name}: {gate.name}: {spec.source} has one output", hint=f"leave '{gate.output}.' out"
        )
    row = METRICS[gate.metric]
    if row.origin is not Origin.ACCURACY or not row.measures(output.task):
        limited = (row for row in METRICS.values() if row.gate and row.origin is Origin.ACCURACY)
        measured = [f"{output.name}.{row.id}" for row in limited if row.measures(output.task)]
        raise UsageError(
            f"{name}: {gate.metric} is not measured of output {output.name}, whose task is {output.task}",
            hint=f"limit one of: {', '.join(measured)}",
        )


def _check_end(name: str, spec: ModelSpec, option: str) -> None:
    """Refuse the type of an end that is none."""
    if not spec.outputs:
        raise UsageError(
            f"{option}: {spec.source} has no end called {name}", hint="its ends are called input and output"
        )
    names = [one.name for one in spec.outputs]
    if name not in names:
        raise UnknownNameError("end", name, ["input", "output", *names])


def _check_several(plan: Plan, spec: ModelSpec) -> None:
    """Refuse what is only done with one output."""
    for what in _only_of_one(plan):
        names = [one.name for one in spec.outputs]
        raise UsageError(
            f"{what} is for models with one output, and {spec.source} has {len(names)}: {', '.join(names)}",
            hint=f"leave it out, or compile one of them: --head {names[0]}",
        )


def _only_of_one(plan: Plan) -> Iterator[str]:
    if isinstance(plan.recipe.quantize, QatSection):
        yield plan.wording.name("quantize.method")
    if any(target.ends is Ending.LOGITS for target in plan.targets):
        yield plan.wording.name("ends")
    for target in plan.targets:
        if target.row.kind is TargetKind.NATIVE:
            yield f"target {target.name}"


def require_integer(artifact: Artifact) -> None:
    """Refuse an artifact that computes in float.

    Raises:
        ConversionError: Names the operations.
    """
    if not artifact.compute_float:
        return
    names = [
        f"{entry.op} x {entry.count}"
        for entry in artifact.ops
        if entry.dtype.startswith(("float", "bfloat")) and entry.op.upper() not in _CONVERSIONS
    ]
    raise ConversionError(
        f"--integer-only, but {artifact.compute_float} operations of the artifact compute in float:"
        f" {', '.join(names)}",
        hint="leave --integer-only out, or change these layers of the model",
    )
