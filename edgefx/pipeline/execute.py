"""The pipeline: `plan.plan(recipe)` checks what can be checked cheaply, `run(plan)` does the work.

Read this first. `stages.steps(plan)` lists what is done, in order: load -> canonicalize -> quantize (checks
and training that all targets share) -> convert and evaluate every target -> benchmark -> gate -> report.
`Run.carry_out` does one step; `edgefx run --dry-run` (`forecast`) asks the same method, with a memo that
computes nothing. Data flows one way, and a target that fails does not take the others down.

`inputs` has what all targets share, `artifacts` and `search` one target's artifact. Every result but those of
the last two steps is a `stages.Stage`, which `memo` keeps as soon as it is computed: a run that was
interrupted goes on where it was, and one that repeats another only judges and reports.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache.settings import CacheSettings, from_environment
from edgefx.errors import DiskFullError, EdgefxError
from edgefx.measured import Explanation
from edgefx.metrics import Figures
from edgefx.pipeline import on_devices, record, search
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.changed import Explainer, asked_of, changes_of
from edgefx.pipeline.compression import Compressions
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.latency import latency_stage, subjects_of
from edgefx.pipeline.memo import Memo, Workspace
from edgefx.pipeline.output import OutputFolder, opened
from edgefx.pipeline.plan import Plan, PlannedTarget, threads_of
from edgefx.pipeline.search import BuiltTarget, failing_alone
from edgefx.pipeline.stages import foreseen, steps
from edgefx.pipeline.training import training_of
from edgefx.protocols import Progress
from edgefx.provenance import lock
from edgefx.results import Accuracy, Changes, DeviceResult, Failure, Latency, RunReport, TargetResult
from edgefx.storage import temporary
from edgefx.storage.disk import disk_errors
from edgefx.system import tracing
from edgefx.types import ModelSpec
from edgefx.verdicts import Doubt, on_device
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.pipeline.records import Measured
    from edgefx.storage.hashes import FileHashes
    from edgefx.targets import TargetRow

SCHEMA_VERSION = 1
_FLOAT_ENDS = (
    "integer only between its ends: it takes and gives float32, which its first and last operations convert;"
    " where nothing may be float, take tflite-int8"
)


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
        progress: Where long work is reported.
        command: The command line, recorded in the report.
        cache: Where results are kept; by default as the environment says.
        threads: Intra-op threads; by default as the recipe says, else all cores.
        resume: Let training go on from the checkpoint in the output folder.

    Returns:
        The report that was also written to `report.json` in the output folder.

    Raises:
        EdgefxError: Something that all targets share failed, such as a full disk. A single target's failure
            is in the report.
    """
    if lacking := tracing.lacking():
        progress.note(lacking)
    with ExitStack() as stack:
        trace = stack.enter_context(tracing.run("run", targets=len(plan.targets)))
        out = stack.enter_context(opened(plan.recipe.output))
        memo, hashes = stack.enter_context(computing(cache, progress, staging=out.staging))
        one = Run(plan, memo, hashes, out=out, threads=threads, resume=resume)
        on_devices.check(one.devices, [row for row in plan.rows if not row.is_compiled], progress)
        for line in dict.fromkeys(foreseen(plan)):
            progress.note(line)
        for kind, of_kind in groupby(steps(plan), key=attrgetter("stage")):
            for step in of_kind:
                one.carry_out(kind, step.target)
            if kind is StageKind.CONVERT and memo.timings:  # else nothing was computed that could be freed
                gc.collect()
        report = one.report(command, out.path)
        trace.set(model=report.model.name, model_sha256=report.model.sha256, exit_code=int(report.exit_code))
        for result in report:
            trace.event(
                "target",
                target=result.target,
                drop_pp=result.accuracy.drop_pp if result.accuracy else None,
                p50_ms=result.latency.p50_ms if result.latency else None,
                verdict=str(result.verdict) if result.verdict else None,
                failed=result.failure is not None,
            )
        return report


@contextmanager
def computing(
    cache: CacheSettings | None, progress: Progress, *, staging: Path | None = None
) -> Iterator[tuple[Memo, FileHashes]]:
    """Open the cache and a temporary folder; give a memo that computes, and the hashes of files.

    Args:
        cache: Where results are kept; by default as the environment says.
        progress: Where long work is reported.
        staging: Where artifacts are made; by default in the temporary folder.

    Raises:
        DiskFullError: No space is left in the temporary folder.
    """
    settings = cache if cache is not None else from_environment()
    with ExitStack() as stack:
        scratch = stack.enter_context(temporary.workspace())
        stack.enter_context(disk_errors(scratch))
        store = stack.enter_context(closing(settings.store(progress.warn)))
        hashes = stack.enter_context(closing(settings.hashes()))
        workspace = Workspace(scratch=scratch, staging=staging or scratch / "staging")
        yield Memo(store, progress, workspace), hashes


class Run:
    """One execution of a plan: holds what its steps hand to each other.

    Args:
        plan: From `plan`.
        memo: Recalls, computes and keeps; one that computes nothing finds out what is known.
        hashes: Hashes of files.
        out: Where artifacts are published; None leaves their files where they are.
        threads: Intra-op threads; by default as the recipe says, else all cores.
        resume: Let training go on from its checkpoint.

    Attributes:
        inputs: What all targets share.
        failures: Why targets have no result, by name.
    """

    def __init__(
        self,
        plan: Plan,
        memo: Memo,
        hashes: FileHashes,
        *,
        out: OutputFolder | None = None,
        threads: int | None = None,
        resume: bool = False,
    ) -> None:
        self.inputs = Inputs(plan, memo, hashes)
        self.failures: dict[str, Failure] = {}
        self._plan = plan
        self._memo = memo
        self._out = out
        self._threads = threads or threads_of(plan)
        self._training = training_of(plan, self.inputs, memo, resume=resume)
        self._builder = ArtifactBuilder(
            inputs=self.inputs,
            memo=memo,
            threads=self._threads,
            seed=plan.recipe.seed,
            training=self._training,
        )
        self._targets = {target.name: target for target in plan.targets}
        self._built: dict[str, BuiltTarget] = {}
        self._measured: dict[str, Measured] = {}
        self._compressions = Compressions(self._builder, memo)
        self._latencies: Mapping[str, Latency] = {}
        self._on_devices: tuple[DeviceResult, ...] = ()
        self._changes: dict[str, Changes | None] = {}
        self._explanations: tuple[Explanation, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that the artifacts are run on."""
        settings = self._plan.recipe.benchmark
        return settings.others if settings is not None else ()

    def is_ready(self, kind: StageKind, target: str) -> bool:
        """Whether the results that a step starts from are known."""
        if kind in (StageKind.LOAD, StageKind.CANONICALIZE):
            return True
        if kind in (StageKind.QUANTIZE, StageKind.CONVERT):
            return self.inputs.source.known is not None
        if kind is StageKind.EVALUATE:
            return target in self._built if target else len(self._measured) == len(self._targets)
        return kind is StageKind.BENCHMARK and len(self._built) == len(self._targets)

    def carry_out(self, kind: StageKind, target: str) -> None:
        """Do one of `stages.steps`; gates are judged with the report.

        Raises:
            NotKeptError: Something is not in the cache, and the memo computes nothing.
            EdgefxError: Something that all targets share failed.
        """
        if kind is StageKind.LOAD:
            self.inputs.load()
        elif kind is StageKind.CANONICALIZE:
            self.inputs.compare()
        elif kind is StageKind.QUANTIZE:
            self.inputs.check()
            self._train()
        elif kind is StageKind.CONVERT:
            with self._failing_alone(target, kind):
                self._build(self._targets[target])
        elif kind is StageKind.EVALUATE and not target:
            self._explain()
        elif kind is StageKind.EVALUATE and target in self._built and target not in self._measured:
            with self._failing_alone(target, kind):
                self._measured[target] = self._builder.measure(self._built[target].candidate, target)
        elif kind is StageKind.BENCHMARK and self._built:
            self._benchmark()
        elif kind is StageKind.DEVICE and self._left:
            self._measure_on_devices()

    def report(self, command: str, out: Path) -> RunReport:
        """Judge the targets; write the report, the lock file and the predictions."""
        from edgefx.evaluation import joint
        from edgefx.report import findings, write_report
        from edgefx.system.host import environment

        # Of the targets, those with slow kernels may have been measured on a sample only.
        first = max(self._measured.values(), key=lambda one: one.accuracy.images, default=None)
        doubts = self._doubts() if first else ()
        if first is not None:
            self._warn_of_training_images(first.accuracy)
        spec = self.inputs.named_spec
        report = RunReport(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            command=command,
            environment=environment(),
            model=spec,
            data=tuple(self.inputs.data),
            seed=self._plan.recipe.seed,
            baseline_top1=first.accuracy.baseline_top1 if first else None,
            baseline_top5=first.accuracy.baseline_top5 if first else None,
            canonical_max_abs_dp=self.inputs.canonical_max_abs_dp,
            targets=tuple(self._result(target, spec, doubts) for target in self._plan.targets),
            timings=tuple(self._memo.timings),
            warnings=tuple(self._memo.warnings),
            effort=self._plan.recipe.effort,
            integer_only=all(target.integer_only for target in self._plan.targets),
            checks=tuple(self.inputs.checks),
            training=self._training.result if self._training else None,
            cached=tuple(self._memo.cached),
            doubts=doubts,
            explanations=self._explanations,
        )
        report = replace(report, devices=on_devices.judged(self._on_devices, report, self._plan))
        there = [
            (on_device(one.target, device.device), one.gates)
            for device in report.devices
            for one in device.targets
        ]
        joined = joint.judge([*((result.target, result.gates) for result in report), *there])
        report = findings.complete(replace(report, joint=joined))
        if self.inputs.evaluation is not None and spec.task.classifies:
            record.write_predictions(
                out,
                images=self.inputs.evaluation,
                baseline=(self.inputs.baseline_top1, self.inputs.baseline_confidence),
                targets={name: (one.top1, one.confidence) for name, one in self._measured.items()},
            )
        else:
            record.remove_predictions(out)
        record.write_labels(out, spec)
        record.write_sources(report)
        contents = {name: built.candidate.content for name, built in self._built.items()}
        lock.write(
            record.lock_of(report, self._plan, self.inputs, contents=contents, threads=self._threads), out
        )
        write_report(report, out)
        if self._plan.recipe.bundle and any(result.artifact is not None for result in report):
            from edgefx.bundles import make

            self._memo.progress.note(f"bundle: {make.run(out).path}")
        return report

    # ---------------------------------------- steps

    def _train(self) -> None:
        """Train for all targets; where that fails, each of them that needs it fails alike."""
        if self._training is not None:
            with failing_alone(
                "training",
                lambda error: self._memo.warn(
                    f"training failed: {error.message}",
                    to_try=error.hint or "without --qat there are post-training artifacts",
                ),
            ):
                self._training.helped()

    def _build(self, target: PlannedTarget) -> None:
        built = search.make(target, self._builder, self._memo.progress, publish=self._publish)
        self._built[target.name] = built
        if built.measured is not None:
            self._measured[target.name] = built.measured

    def _publish(self, candidate: Candidate) -> Candidate:
        candidate = self._builder.compile(candidate)
        self._compressions.compare(candidate)
        return self._builder.publish(candidate, self._out) if self._out is not None else candidate

    def _changed(self, name: str) -> Changes | None:
        """Compare a target's answers with the float model's; None where there are none, or no classes."""
        if name not in self._changes and name in self._measured:
            self._changes[name] = changes_of(self._measured[name], self.inputs)
        return self._changes.get(name)

    def _explain(self) -> None:
        """Find out what the images that change their class are told by."""
        most = self._plan.recipe.report.explain
        explainer = Explainer.of(self.inputs, self._memo, most=most)
        found = {name: self._changed(name) for name in self._targets if name not in self.failures}
        changed = {name: one for name, one in found.items() if one is not None}
        self._explanations = explainer.explain(
            changed, {name: asked_of(self._builder, self._built[name].candidate) for name in changed}
        )

    def _benchmark(self) -> None:
        """Measure the latency of all artifacts in turn, or take all of it from the cache."""
        settings = self._plan.benchmark
        assert settings is not None
        stage = latency_stage(
            {**subjects_of(self._left, self._float_reference), **self._compressions.subjects(self._left)},
            settings,
            threads=self._threads,
            builder=self._builder,
            progress=self._memo.progress,
            on_failure=lambda name, error: self._fail(name, StageKind.BENCHMARK, error),
        )
        # The price is no part of what was measured, nor of the cache's key.
        self._latencies = {
            name: replace(found, price_per_hour=settings.price_per_hour)
            for name, found in self._memo.get(stage).latencies.items()
        }

    @property
    def _left(self) -> dict[str, Candidate]:
        """The artifacts that a runtime opens and that nothing has failed of so far."""
        return {
            name: built.candidate
            for name, built in self._built.items()
            if name not in self.failures and not built.candidate.target.row.is_compiled
        }

    def _measure_on_devices(self) -> None:
        settings, progress = self._plan.benchmark, self._memo.progress
        assert settings is not None
        with self._memo.timed(StageKind.DEVICE):
            todo = on_devices.work(
                subjects_of(self._left, self._float_reference),
                settings,
                reported=tuple(self._left),
                builder=self._builder,
                threads=self._threads,
                progress=progress,
            )
            self._on_devices = on_devices.measure(self.devices, todo, progress)

    def _float_reference(self, row: TargetRow) -> Candidate | None:
        """Find or make the float32 artifact that latency is compared with."""
        try:
            return self._builder.reference(row)
        except DiskFullError:
            raise
        except EdgefxError as error:
            self._memo.warn(
                f"no ratio to float for {row.runtime}: {error.message}",
                to_try=error.hint or f"to see why, make it alone: --target {row.name}",
            )
            return None

    # ---------------------------------------- failures and results

    def _failing_alone(self, name: str, kind: StageKind) -> AbstractContextManager[None]:
        """Let a target fail alone; the reason goes into the report."""
        return failing_alone(f"{name} in stage {kind}", lambda error: self._fail(name, kind, error))

    def _fail(self, name: str, kind: StageKind, error: EdgefxError) -> None:
        """Record that `name` failed; a float reference that is no output of the run is only warned of."""
        message, hint = (self._plan.wording.translated(text) for text in (error.message, error.hint))
        text = f"{name} failed to {kind}: {message}"
        if name in self._targets:
            self.failures[name] = Failure(stage=kind, message=message, hint=hint)
            self._memo.progress.warn(text + (f" ({hint})" if hint else ""))
        else:
            self._memo.warn(text, to_try=hint or f"to see why, make it alone: --target {name}")

    def _doubts(self) -> tuple[Doubt, ...]:
        """Return why no drop on these images means anything, whatever the artifact."""
        from edgefx.evaluation import trust

        images = self.inputs.evaluation
        assert images is not None
        if images.labels is None or not self.inputs.source.spec.task.classifies:
            return ()
        return (
            *trust.of_model(
                self.inputs.baseline_top1,
                images.labels,
                class_names=images.dataset.class_names,
                who="the float model",
            ),
            *self.inputs.doubts,
        )

    def _warn_of_training_images(self, accuracy: Accuracy) -> None:
        from edgefx.evaluation import trust

        if not self.inputs.source.spec.task.classifies:
            return

        reason = trust.training_images(
            accuracy.baseline_top1,
            accuracy.images,
            left_by_calibration=self._plan.evaluates_the_rest,
            judged=any(target.needs_labels for target in self._plan.targets),
        )
        if reason is not None:
            others = self._plan.wording.example("evaluate.images", "photos/test")
            self._memo.warn(
                f"{reason}: where the model was trained on these images, the drop looks smaller than it is",
                to_try=f"measure on others: {others}",
            )

    def _result(self, target: PlannedTarget, spec: ModelSpec, doubts: tuple[Doubt, ...]) -> TargetResult:
        from edgefx.evaluation import trust
        from edgefx.evaluation.gates import judge

        name = target.name
        built, measured, latency = self._built.get(name), self._measured.get(name), self._latencies.get(name)
        artifact = built.artifact if built else None
        accuracy = measured.accuracy if measured else None
        own: tuple[Doubt, ...] = ()
        if accuracy is not None:
            if spec.task.classifies:
                own = trust.of_artifact(accuracy)
            if target.needs_labels:
                own += trust.of_images(accuracy.images, fewest=target.min_images)
        result = TargetResult(
            target=name,
            artifact=artifact,
            accuracy=accuracy,
            latency=latency,
            # A SavedModel may have its weights in its graph, and then has no parameters.
            size_ratio_to_float=artifact.size_bytes / (4 * spec.parameters)
            if artifact and spec.parameters
            else None,
            failure=self.failures.get(name),
            warnings=(
                *((_FLOAT_ENDS,) if artifact and target.has_float_ends else ()),
                *(measured.warnings if measured else ()),
            ),
            effort=built.effort if built else None,
            convert_s=built.convert_s if built else None,
            search=built.search if built else None,
            training=built.training if built else None,
            compilation=built.candidate.compiled.compilation if built and built.candidate.compiled else None,
            hardware=target.hardware if built and target.row.follows_hardware else None,
            doubts=own,
            parity=measured.parity if measured else None,
            compression=self._compressions.effect(name, self._latencies),
            changes=self._changed(name),
        )
        gates = judge(target.gates, Figures.of(result), target=name)
        return replace(
            result, gates=trust.judged(gates, (*doubts, *own), accuracy, policy=target.on_inconclusive)
        )
