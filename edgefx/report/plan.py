"""A plan as a tree: what a run would do, in the order of its stages, and what of it is cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from edgefx.plan import Plan, PlannedTarget
from edgefx.recipe.schema import NoneSection, QatSection
from edgefx.results import Gate, Metric
from edgefx.types import Precision, Ranges, Stage

# Whether a stage of a target ("" for those that all share) is in the cache; what is absent is unknown.
Cached = Mapping[tuple[Stage, str], bool]


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One stage of a plan.

    Attributes:
        stage: The stage.
        target: "" for stages that all targets share.
        what: What it would do.
        cached: Whether its result is in the cache; None where that is not known before the stage before it
            has run, and for stages that are never kept.
    """

    stage: Stage
    target: str
    what: str
    cached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """What a run would do.

    Attributes:
        name: Of the run in the matrix; "" without one.
        model: What is compiled.
        output: Where to.
        steps: In order.
    """

    name: str
    model: str
    output: str
    steps: tuple[PlanStep, ...]


def view(plan: Plan, *, name: str = "", cached: Cached | None = None) -> PlanView:
    """Return what carrying out `plan` would do.

    Args:
        plan: The plan.
        name: Of the run in the matrix.
        cached: What is in the cache.
    """
    known = cached or {}
    return PlanView(
        name=name,
        model=_model(plan),
        output=str(plan.recipe.output),
        steps=tuple(
            PlanStep(stage=stage, target=target, what=what, cached=known.get((stage, target)))
            for stage, target, what in _steps(plan)
        ),
    )


def render(shown: PlanView, console: Console) -> None:
    """Print a tree."""
    head = Text.assemble((shown.name or shown.model, "bold"), (f"  {shown.model}" if shown.name else ""))
    tree = Tree(Text.assemble(head, "  ->  ", shown.output), guide_style="dim", highlight=False)
    branches: dict[str, Tree] = {}
    for step in shown.steps:
        branch = tree
        if step.target:
            if step.target not in branches:
                branches[step.target] = tree.add(Text(step.target, style="bold"))
            branch = branches[step.target]
        state = {True: ("  cached", "green"), False: ("  to do", "yellow"), None: ("", "")}[step.cached]
        branch.add(Text.assemble((f"{step.stage}  ", "cyan"), step.what, state))
    console.print(tree, highlight=False, soft_wrap=True)


def _steps(plan: Plan) -> list[tuple[Stage, str, str]]:
    recipe = plan.recipe
    steps = [
        (Stage.LOAD, "", f"model {_model(plan)}"),
        (Stage.CANONICALIZE, "", "make the graph deployable, and hold it against the model"),
    ]
    if plan.calibration is not None:
        steps.append((Stage.QUANTIZE, "", f"check {plan.calibration_note}"))
    if isinstance(recipe.quantize, QatSection):
        training = recipe.quantize
        what = f"train: {training.mode}, {training.epochs} epochs on {training.train}"
        steps.append((Stage.QUANTIZE, "", what))
    for target in plan.targets:
        steps.append((Stage.CONVERT, target.name, _conversion(target, plan)))
        if plan.evaluation is not None:
            steps.append((Stage.EVALUATE, target.name, f"on {plan.evaluation_note}"))
        if target.gates:
            steps.append((Stage.GATE, target.name, ", ".join(map(_limit, target.gates))))
    if recipe.benchmark is not None:
        threads = recipe.benchmark.threads
        what = f"{recipe.benchmark.rounds} rounds on {recipe.benchmark.device}, "
        what += f"{threads} threads" if threads else "all cores"
        steps.append((Stage.BENCHMARK, "", f"{what}, at most {recipe.benchmark.seconds:g} s"))
    files = ["report.json", *(name for name in recipe.report.formats if name != "json")]
    steps.append((Stage.REPORT, "", ", ".join([*files, *map(str, recipe.report.files)])))
    return steps


def _conversion(target: PlannedTarget, plan: Plan) -> str:
    row = target.row
    parts = [str(row.precision), f"{target.io_dtype} input and output"]
    if row.needs_calibration and not isinstance(plan.recipe.quantize, NoneSection):
        parts.append(plan.recipe.quantize.method)
        if row.precision is Precision.INT8:
            parts.append(f"effort {target.effort}")
        if target.ranges is not Ranges.AUTO:
            parts.append(f"ranges {target.ranges}")
        if target.keep_float:
            parts.append(f"in float: {', '.join(target.keep_float)}")
        if target.integer_only:
            parts.append("integer only")
        if target.budget is not None:
            parts.append(f"searched for a drop of at most {target.budget}")
    return ", ".join(parts)


def _limit(gate: Gate) -> str:
    value = f"{gate.limit:.15g}"
    return {
        Metric.DROP_PP: f"drop <= {value} pp",
        Metric.DROP_PERCENT: f"drop <= {value} %",
        Metric.P95_MS: f"p95 <= {value} ms",
        Metric.SIZE_BYTES: f"size <= {value} B",
    }[gate.metric]


def _model(plan: Plan) -> str:
    model = plan.recipe.model
    details = [
        f"{key} {value}"
        for key, value in (
            ("weights", model.weights),
            ("classes", model.classes),
            ("input size", model.input_size),
        )
        if value is not None
    ]
    return f"{model.source} ({', '.join(details)})" if details else model.source
