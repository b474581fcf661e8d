"""A stage is an object: what it is called, what its result depends on, and how it is computed.

The stages of a run, in order: load -> canonicalize -> (quantize) -> convert -> evaluate -> benchmark -> gate
-> report. `edgefx.pipeline.memo.Memo` recalls, computes and keeps their results; `steps` lists what a plan
asks for, which is what `execute` does and what `edgefx run --dry-run` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from edgefx.evaluation import gates
from edgefx.pipeline import ends
from edgefx.pipeline.plan import images_for
from edgefx.recipe.schema import NoneSection, QatSection
from edgefx.types import Precision, Ranges
from edgefx.views import PlanStep, PlanView
from edgefx.vocabulary import HOST, Ending, StageKind, TargetKind

if TYPE_CHECKING:
    from edgefx.cache.entry import Entry, Key
    from edgefx.cache.store import Store
    from edgefx.pipeline.plan import Plan, PlannedTarget
    from edgefx.verdicts import Gate

T = TypeVar("T")
L = TypeVar("L")


class DamagedError(Exception):
    """A file of a cache entry is not what was kept; the entry is gone."""


class KeptFiles:
    """The files of a cache entry, each compared with its hash when it is read."""

    def __init__(self, store: Store, entry: Entry) -> None:
        self._store = store
        self._entry = entry

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            DamagedError: The file is damaged.
        """
        content = self._store.read(self._entry, name)
        if content is None:
            raise DamagedError
        return content

    def copy(self, folder: Path, expected: Mapping[str, str | None]) -> None:
        """Copy all files into `folder`.

        Args:
            folder: Where to.
            expected: The files that there must be, with their SHA-256 where the result says it.

        Raises:
            DamagedError: A file is damaged, or there are other files; nothing was left in `folder`.
            OSError: `folder` cannot be written.
        """
        held = {file.name: file.sha256 for file in self._entry.files}
        if held != {name: sha256 or held.get(name) for name, sha256 in expected.items()}:
            self._store.discard(self._entry, "it describes other files than it holds")
            raise DamagedError
        if not self._store.copy(self._entry, folder):
            raise DamagedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Computed(Generic[T, L]):
    """What a computation gives.

    Attributes:
        value: The result as the cache keeps it.
        opened: What later computations work with, such as pixels, scores or paths.
        files: What `Stage.restore` makes `opened` from in a later run: name to content, or to the file.
        lasting: Whether later runs may use the result.
    """

    value: T
    opened: L
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    lasting: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Generic[T, L]):
    """One piece of work whose result can be kept from run to run.

    Attributes:
        kind: The step of the compilation that it belongs to.
        key: Everything that determines the result.
        result: The dataclass that is kept.
        compute: Computes the result.
        restore: Makes `Computed.opened` from what was kept; None where no files are kept, so that it has to
            be computed again.
        target: The target, "" for what all targets share.
        what: Which of the step's results this is, for the report.
        clock: The name under which the report lists the time that it took; None where it is not listed.
        label: What a user sees while it is computed; "" where the computation itself shows its progress.
    """

    kind: StageKind
    key: Key
    result: type[T]
    compute: Callable[[], Computed[T, L]]
    restore: Callable[[T, KeptFiles], L] | None = None
    target: str = ""
    what: str = ""
    clock: str | None = ""
    label: str = ""


def steps(plan: Plan) -> tuple[PlanStep, ...]:
    """Return what a plan asks for, in the order in which it is carried out."""
    recipe = plan.recipe
    kinds: list[tuple[StageKind, str, str]] = [
        (StageKind.LOAD, "", f"model {_model(plan)}"),
        (StageKind.CANONICALIZE, "", "make the graph deployable, and hold it against the model"),
    ]
    if plan.calibration is not None:
        kinds.append((StageKind.QUANTIZE, "", _quantization(plan)))
    kinds += [(StageKind.CONVERT, target.name, _conversion(target, plan)) for target in plan.targets]
    if plan.evaluation is not None:
        kinds += [
            (StageKind.EVALUATE, target.name, _evaluation(target, plan, len(plan.evaluation.items)))
            for target in plan.targets
        ]
        if recipe.report.explain:
            most = recipe.report.explain
            kinds.append(
                (StageKind.EVALUATE, "", f"which parts of at most {most} changed images answers rest on")
            )
    if recipe.benchmark is not None and not all(row.is_compiled for row in plan.rows):
        threads = recipe.benchmark.threads
        what = f"{recipe.benchmark.rounds} rounds on {HOST}, "
        what += f"{threads} thread{'s' if threads > 1 else ''}" if threads else "all cores"
        if recipe.benchmark.is_on_host:
            kinds.append((StageKind.BENCHMARK, "", f"{what}, at most {recipe.benchmark.seconds:g} s"))
        if recipe.benchmark.others:
            measured = "answers, accuracy and latency" if plan.evaluation is not None else "latency"
            kinds.append((StageKind.DEVICE, "", f"{measured} on {', '.join(recipe.benchmark.others)}"))
    kinds += [
        (StageKind.GATE, target.name, _gates(target, images_for(target, plan)))
        for target in plan.targets
        if target.gates
    ]
    kinds += [(StageKind.GATE, "", _device_gate(gate)) for gate in plan.device_gates]
    files = ["report.json", *(name for name in recipe.report.formats if name != "json")]
    kinds.append((StageKind.REPORT, "", ", ".join([*files, *map(str, recipe.report.files)])))
    return tuple(PlanStep(stage=kind, target=target, what=what) for kind, target, what in kinds)


def foreseen(plan: Plan) -> Iterator[str]:
    """Say which limits cannot be shown to be kept with so few evaluation images, whatever is measured."""
    for target in plan.targets:
        yield from filter(None, (gates.foreseen(gate, images_for(target, plan)) for gate in target.gates))


def view(plan: Plan, found: tuple[PlanStep, ...] = (), *, name: str = "") -> PlanView:
    """Return what carrying out a plan would do.

    Args:
        plan: The plan.
        found: Its steps with what is cached of them; without them nothing is said of the cache.
        name: The name of the run in a matrix.
    """
    return PlanView(name=name, model=_model(plan), output=str(plan.recipe.output), steps=found or steps(plan))


def _quantization(plan: Plan) -> str:
    training = plan.recipe.quantize
    what = f"check {plan.calibration_note}"
    if isinstance(training, QatSection):
        what += f"; train: {training.mode}, {training.epochs} epochs on {training.train}"
    return what


def _conversion(target: PlannedTarget, plan: Plan) -> str:
    row = target.row
    both = f"{target.io_dtype} input and output"
    if target.last is not target.io_dtype or target.outputs:
        types = (("input", target.io_dtype), ("output", target.last), *target.outputs)
        both = ", ".join(f"{dtype} {end}" for end, dtype in types)
    if target.output_dtype is None and ends.may_be_float(target):
        both += " (sigmoids: float32)"
    parts = [str(row.precision), both]
    if target.ends is Ending.LOGITS:
        parts.append("ends in logits")
    if row.needs_calibration and not isinstance(plan.recipe.quantize, NoneSection):
        parts.append(plan.recipe.quantize.method)
        if row.precision is Precision.INT8:
            parts.append(f"effort {target.effort}")
        if target.ranges is not Ranges.AUTO:
            parts.append(f"ranges {target.ranges}")
        if target.keep_float:
            parts.append(f"in float: {', '.join(target.keep_float)}")
        if target.integer_only:
            parts.append("integer only between its ends" if target.has_float_ends else "integer only")
        if target.budget is not None:
            parts.append(f"searched for a drop of at most {target.budget}")
    if target.applied:
        parts.append(f"{target.applied}")
    if row.is_compiled:
        is_interpreted = row.kind is TargetKind.MCU
        parts.append("and what its interpreter needs" if is_interpreted else f"compiled for {row.name}")
    return ", ".join(parts)


def _evaluation(target: PlannedTarget, plan: Plan, images: int) -> str:
    limit = target.eval_limit
    sample = f"{limit} of " if limit is not None and limit < images else ""
    return f"on {sample}{plan.evaluation_note}"


def _device_gate(gate: Gate) -> str:
    targets = "" if gate.targets == ("*",) else f"{', '.join(gate.targets)} "
    return f"{targets}on {', '.join(gate.devices)}: {gates.limit_text(gate)}"


def _gates(target: PlannedTarget, images: int) -> str:
    limits = [gates.limit_text(gate) for gate in target.gates]
    return "; ".join(
        [", ".join(limits), *filter(None, (gates.foreseen(one, images) for one in target.gates))]
    )


def _model(plan: Plan) -> str:
    model = plan.recipe.model
    details = [
        f"{key} {value}"
        for key, value in (
            ("weights", model.weights),
            ("classes", model.classes),
            ("input size", model.input_size),
            ("task", model.task),
            ("output", model.head),
            ("pixels", model.pixels),
            ("custom objects", model.custom_objects),
            ("threshold", model.threshold),
        )
        if value is not None
    ]
    return f"{model.source} ({', '.join(details)})" if details else model.source
