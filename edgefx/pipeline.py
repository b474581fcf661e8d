"""The pipeline: `edgefx.plan.plan(recipe)` checks what can be checked cheaply, `run(plan)` does the work.

Read this first. Stages, in order: load -> canonicalize -> (per target) quantize + convert -> evaluate ->
benchmark -> gate -> report. Data flows one way; a target that fails does not take the others down.

The room `edgefx.run` has the parts: `inputs` makes what all targets share, `workshop` and `candidates` one
target's artifact.
Every stage but the last two is kept in the cache (`edgefx.cache`) as soon as it is done: a run that was
interrupted goes on where it was, and one that repeats another only judges and reports.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgefx import targets, temporary
from edgefx.cache import keys
from edgefx.cache.settings import CacheSettings, from_environment
from edgefx.errors import EdgefxError
from edgefx.plan import Plan, PlannedTarget
from edgefx.provenance import lock, predictions
from edgefx.recipe.schema import QatSection
from edgefx.results import Failure, Latency, RunReport, TargetResult
from edgefx.run import candidates
from edgefx.run.candidates import Made, as_edgefx_errors
from edgefx.run.inputs import Inputs
from edgefx.run.ledger import Ledger
from edgefx.run.output import OutputFolder, disk_errors, opened
from edgefx.run.training import FOLDER, Training
from edgefx.run.workshop import Candidate, Measured, Workshop
from edgefx.types import IoDtype, ModelSpec, Precision, Progress, QuantScheme, Stage

if TYPE_CHECKING:
    from edgefx.cache.entry import Key
    from edgefx.recipe.schema import BenchmarkSection
    from edgefx.targets import TargetRow

SCHEMA_VERSION = 1
_WARMUP = 10  # untimed inferences before the timed ones


def run(
    plan: Plan,
    progress: Progress,
    *,
    command: str,
    cache: CacheSettings | None = None,
    threads: int | None = None,
    resume: bool = False,
) -> RunReport:
    """Compile, evaluate, benchmark and judge every target of `plan`; write artifacts and the report.

    Args:
        plan: From `plan`.
        progress: Told of long work.
        command: The command line, recorded in the report.
        cache: Where results are kept; by default as the environment says.
        threads: Intra-op threads; by default as the recipe says, else all cores.
        resume: Let training go on from the checkpoint in the output folder.

    Returns:
        The report that was also written to `report.json` in the output folder.

    Raises:
        EdgefxError: Something that all targets share failed. A single target's failure is in the report.
    """
    settings = cache if cache is not None else from_environment()
    with ExitStack() as stack:
        out = stack.enter_context(opened(plan.recipe.output))
        workdir = stack.enter_context(temporary.folder(Path(tempfile.gettempdir()), "edgefx-"))
        stack.enter_context(disk_errors(workdir))
        store = stack.enter_context(closing(settings.store(progress.warn)))
        hashes = stack.enter_context(closing(settings.hashes()))
        ledger = Ledger(store, progress)
        inputs = Inputs(plan, ledger, hashes, workdir, progress)
        return _Run(plan, inputs, out, ledger, progress, threads=threads, resume=resume).report(command)


Subjects: TypeAlias = dict[str, tuple[Candidate, str | None]]  # with what each is compared with


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """What a benchmark measured, by target, as the cache keeps it."""

    latencies: Mapping[str, Latency]


class _Run:
    """One execution of a plan: holds what the stages hand to each other."""

    def __init__(
        self,
        plan: Plan,
        inputs: Inputs,
        out: OutputFolder,
        ledger: Ledger,
        progress: Progress,
        *,
        threads: int | None,
        resume: bool,
    ) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.inputs = inputs
        self.out = out
        self.ledger = ledger
        self.progress = progress
        self.threads = threads or threads_of(plan)
        self.training = training_of(plan, inputs, out.path, ledger, progress, resume=resume)
        self.failures: dict[str, Failure] = {}
        self.made: dict[str, Made] = {}
        self.measured: dict[str, Measured] = {}
        self.latencies: Mapping[str, Latency] = {}

    def report(self, command: str) -> RunReport:
        """Run all stages and write the report."""
        from edgefx.benchmark.devices.host import environment
        from edgefx.report.json import write

        self.inputs.prepare()
        workshop = Workshop(
            inputs=self.inputs,
            out=self.out,
            threads=self.threads,
            seed=self.recipe.seed,
            ledger=self.ledger,
            progress=self.progress,
            training=self.training,
        )
        for target in self.plan.targets:
            self._make(target, workshop)
        if self.ledger.timings:  # else nothing was computed that could be freed
            gc.collect()
        if workshop.evaluates:
            for name in [name for name in self.made if name not in self.measured]:
                self._evaluate(name, workshop)
        if self.recipe.benchmark is not None and self.made:
            self._benchmark(workshop)
        first = next(iter(self.measured.values()), None)
        spec = self.inputs.source.record.spec
        report = RunReport(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            command=command,
            environment=environment(),
            model=spec,
            data=tuple(self.inputs.data),
            seed=self.recipe.seed,
            baseline_top1=first.accuracy.baseline_top1 if first else None,
            baseline_top5=first.accuracy.baseline_top5 if first else None,
            canonical_max_abs_dp=self.inputs.canonical_max_abs_dp,
            targets=tuple(self._result(target, spec) for target in self.plan.targets),
            timings=tuple(self.ledger.timings),
            warnings=tuple(self.ledger.warnings),
            effort=self.recipe.effort,
            integer_only=all(target.integer_only for target in self.plan.targets),
            checks=tuple(self.inputs.checks),
            training=self.training.result if self.training else None,
            cached=tuple(self.ledger.cached),
        )
        if self.inputs.evaluation is not None:
            predictions.write(
                self.out.path,
                images=self.inputs.evaluation,
                baseline=self.inputs.baseline_top1,
                targets={name: measured.top1 for name, measured in self.measured.items()},
            )
        else:
            predictions.remove(self.out.path)
        lock.write(lock.make(report, self.plan, self.inputs, threads=self.threads), self.out.path)
        write(report, self.out.path)
        return report

    # ---------------------------------------- per target

    def _make(self, target: PlannedTarget, workshop: Workshop) -> None:
        with self._failing_alone(target.name, Stage.CONVERT):
            made = candidates.make(target, workshop, self.progress)
            self.made[target.name] = made
            if made.measured is not None:
                self.measured[target.name] = made.measured

    def _evaluate(self, name: str, workshop: Workshop) -> None:
        with self._failing_alone(name, Stage.EVALUATE):
            self.measured[name] = workshop.measure(self.made[name].candidate, name)

    def _benchmark(self, workshop: Workshop) -> None:
        """Measure the latency of all artifacts in turn, or take all of it from the cache."""
        settings = self.recipe.benchmark
        assert settings is not None
        made = {name: one.candidate for name, one in self.made.items() if name not in self.failures}
        subjects = subjects_of(made, lambda row: self._float_reference(row, workshop))
        wanted = latency_key(subjects, settings, threads=self.threads)
        recalled = self.ledger.recall(wanted, Latencies, Stage.BENCHMARK, what="latency of all targets")
        if recalled is not None:
            self.latencies = recalled.value.latencies
            return
        from edgefx.benchmark.latency import Subject, measure

        failed: list[str] = []

        def on_failure(subject: Subject, error: EdgefxError) -> None:
            failed.append(subject.key)
            self._fail(subject.key, Stage.BENCHMARK, error)

        on_disk = [
            Subject(
                key=name,
                path=workshop.files(one)[0],
                precision=one.target.row.precision,
                float_key=compared,
            )
            for name, (one, compared) in subjects.items()
        ]
        with self.ledger.stage(Stage.BENCHMARK):
            measured = measure(
                on_disk,
                threads=self.threads,
                rounds=settings.rounds,
                warmup=_WARMUP,
                budget_s=settings.seconds,
                progress=self.progress,
                on_failure=on_failure,
            )
        self.latencies = {name: measured[name] for name in self.made if name in measured}
        if not failed:
            self.ledger.keep(wanted, Latencies(latencies=self.latencies))

    def _float_reference(self, row: TargetRow, workshop: Workshop) -> Candidate | None:
        """Find or make the float32 artifact that latency is compared with."""
        try:
            return workshop.reference(row)
        except EdgefxError as error:
            self.ledger.warn(f"no ratio to float for {row.runtime}: {error.message}")
            return None

    @contextmanager
    def _failing_alone(self, name: str, stage: Stage) -> Iterator[None]:
        """Let a target fail without taking the others down; the reason goes into the report."""
        try:
            with as_edgefx_errors(f"{name} in stage {stage}"):
                yield
        except EdgefxError as error:
            self._fail(name, stage, error)

    def _fail(self, name: str, stage: Stage, error: EdgefxError) -> None:
        """Record that `name` failed; a float reference that is no output of the run is only warned of."""
        text = f"{name} failed to {stage}: {error.message}" + (f" ({error.hint})" if error.hint else "")
        if name in {row.name for row in self.plan.rows}:
            self.failures[name] = Failure(stage=stage, message=error.message, hint=error.hint)
            self.progress.warn(text)
        else:
            self.ledger.warn(text)

    def _result(self, target: PlannedTarget, spec: ModelSpec) -> TargetResult:
        from edgefx.evaluate.gates import judge

        name = target.name
        made, measured, latency = self.made.get(name), self.measured.get(name), self.latencies.get(name)
        artifact = made.artifact if made else None
        accuracy = measured.accuracy if measured else None
        return TargetResult(
            target=name,
            artifact=artifact,
            accuracy=accuracy,
            latency=latency,
            size_ratio_to_float=artifact.size_bytes / (4 * spec.parameters) if artifact else None,
            gates=judge(target.gates, target=name, artifact=artifact, accuracy=accuracy, latency=latency),
            failure=self.failures.get(name),
            effort=made.effort if made else None,
            convert_s=made.convert_s if made else None,
            search=made.search if made else None,
            training=made.training if made else None,
        )


def subjects_of(
    made: Mapping[str, Candidate], reference: Callable[[TargetRow], Candidate | None]
) -> Subjects:
    """Return what is measured in turn, with the float artifact that each latency is compared with.

    Args:
        made: The run's artifacts by target.
        reference: Gives the float32 artifact of a runtime that the run has none of.
    """
    subjects: Subjects = {}
    for name, candidate in made.items():
        row = targets.TARGETS[f"{candidate.target.row.runtime}-{Precision.FLOAT32}"]
        if row.name not in made and row.name not in subjects:
            found = reference(row)
            if found is not None:
                subjects[row.name] = found, None
        subjects[name] = candidate, row.name
    return subjects


def latency_key(subjects: Subjects, settings: BenchmarkSection, *, threads: int) -> Key:
    """Return the key of the latencies of all subjects together."""
    return keys.benchmark(
        [(one.target.row, one.artifact, compared) for one, compared in subjects.values()],
        threads=threads,
        rounds=settings.rounds,
        seconds=settings.seconds,
        warmup=_WARMUP,
    )


def training_of(
    plan: Plan, inputs: Inputs, out: Path, ledger: Ledger, progress: Progress, *, resume: bool = False
) -> Training | None:
    """Return the training that a plan asks for."""
    quantize = plan.recipe.quantize
    if not isinstance(quantize, QatSection):
        return None
    scheme = QuantScheme(
        precision=Precision.INT8,
        io_dtype=IoDtype.INT8,
        seed=plan.recipe.seed,
        effort=quantize.effort,
        ranges=quantize.ranges,
    )
    return Training(
        quantize.settings(seed=plan.recipe.seed),
        scheme,
        inputs=inputs,
        folder=out / FOLDER,
        ledger=ledger,
        progress=progress,
        resume=resume,
        insists=quantize.keep == "trained",
    )


def threads_of(plan: Plan) -> int:
    """Return the intra-op threads for evaluation and latency: as asked, or all cores."""
    asked = plan.recipe.benchmark.threads if plan.recipe.benchmark else None
    return asked or _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
