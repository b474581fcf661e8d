"""What of a plan is in the cache: `edgefx run --dry-run`. Nothing is computed, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgefx.cache.settings import CacheSettings, from_environment
from edgefx.errors import EdgefxError
from edgefx.pipeline import Latencies, latency_key, subjects_of, threads_of, training_of
from edgefx.plan import Plan
from edgefx.results import LayerSensitivity, TrainingEffect
from edgefx.run import candidates
from edgefx.run.inputs import Inputs
from edgefx.run.ledger import Ledger
from edgefx.run.output import OutputFolder
from edgefx.run.workshop import Candidate, Measured, Workshop
from edgefx.targets import TargetRow
from edgefx.types import Artifact, QuantScheme, Stage, Task

_NOWHERE = Path("nowhere")  # files stay in the cache, so that no folder is needed


def cached(plan: Plan, settings: CacheSettings | None = None) -> dict[tuple[Stage, str], bool]:
    """Say for each stage of each target ("" for shared stages) whether its result is in the cache.

    A stage whose inputs are not computed yet is absent: whether it is cached cannot be known.

    Args:
        plan: From `plan`.
        settings: Where results are kept; by default as the environment says.

    Raises:
        EdgefxError: The model does not exist, or the labels do not fit it.
    """
    chosen = settings if settings is not None else from_environment()
    silent = _Silent()
    ledger = Ledger(chosen.store(silent.warn), silent)
    with closing(chosen.hashes()) as hashes:
        inputs = Inputs(plan, ledger, hashes, _NOWHERE, silent)
        if not inputs.source.is_known:
            return {(Stage.LOAD, ""): False, (Stage.CANONICALIZE, ""): False}
        inputs.identify()
    found: dict[tuple[Stage, str], bool] = {}
    compared = _sets_are_known(inputs) and inputs.known_equality() is not None
    baseline = inputs.evaluation is None or inputs.known_baseline() is not None
    found[Stage.LOAD, ""] = compared and baseline
    found[Stage.CANONICALIZE, ""] = compared
    workshop = _Peeking(plan, inputs, ledger)
    if inputs.calibration is not None:
        found[Stage.QUANTIZE, ""] = inputs.known_checks() is not None and workshop.is_trained
    made: dict[str, Candidate] = {}
    for target in plan.targets:
        workshop.missed.clear()
        try:
            one = candidates.make(target, workshop, silent)
            if workshop.evaluates and one.measured is None:
                workshop.measure(one.candidate, target.name)
            made[target.name] = one.candidate
        except EdgefxError:
            workshop.missed.add(Stage.CONVERT if not workshop.missed else Stage.EVALUATE)
        found[Stage.CONVERT, target.name] = Stage.CONVERT not in workshop.missed
        if workshop.evaluates and found[Stage.CONVERT, target.name]:
            found[Stage.EVALUATE, target.name] = Stage.EVALUATE not in workshop.missed
    if plan.recipe.benchmark is not None and len(made) == len(plan.targets):
        try:
            subjects = subjects_of(made, workshop.reference)
        except EdgefxError:
            found[Stage.BENCHMARK, ""] = False
        else:
            key = latency_key(subjects, plan.recipe.benchmark, threads=threads_of(plan))
            found[Stage.BENCHMARK, ""] = ledger.recall(key, Latencies, Stage.BENCHMARK) is not None
    return found


def _sets_are_known(inputs: Inputs) -> bool:
    return all(images.is_known for images in inputs.image_sets)


class _Peeking(Workshop):
    """A workshop that only has what is in the cache.

    Attributes:
        missed: Stages that would have to be computed.
    """

    def __init__(self, plan: Plan, inputs: Inputs, ledger: Ledger) -> None:
        super().__init__(
            inputs=inputs,
            out=OutputFolder(_NOWHERE, _NOWHERE),
            threads=threads_of(plan),
            seed=plan.recipe.seed,
            ledger=ledger,
            progress=_Silent(),
            training=training_of(plan, inputs, _NOWHERE, ledger, _Silent()),
        )
        self.missed: set[Stage] = set()

    @property
    def is_trained(self) -> bool:
        """Whether there is nothing to train, or it is in the cache."""
        return self._training is None or self._training.result is not None

    def publish(self, candidate: Candidate) -> Artifact:
        return candidate.artifact

    def training_helped(self) -> bool:
        if not self.is_trained:
            raise self._miss(Stage.CONVERT, "training")
        return super().training_helped()

    def discard(self, candidate: Candidate) -> None:
        del candidate

    def _converted(
        self, row: TargetRow, scheme: QuantScheme, *, label: str, folder: Path, trained: bool
    ) -> tuple[Artifact, float]:
        del row, scheme, folder, trained
        raise self._miss(Stage.CONVERT, label)

    def _effect(self, before: Candidate, after: Candidate, label: str) -> TrainingEffect:
        del before, after
        raise self._miss(Stage.CONVERT, label)

    def _measured(self, candidate: Candidate, label: str) -> Measured:
        del candidate
        raise self._miss(Stage.EVALUATE, label)

    def _ranked(self, candidate: Candidate) -> tuple[LayerSensitivity, ...]:
        raise self._miss(Stage.CONVERT, candidate.label)

    def _miss(self, stage: Stage, label: str) -> EdgefxError:
        self.missed.add(stage)
        return EdgefxError(f"{label}: not in the cache")


class _Silent:
    """A `Progress` that says nothing: what is only looked at takes no time."""

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """Show nothing."""
        del label, total
        yield self

    def advance(self, steps: int = 1) -> None:
        """Count nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""
