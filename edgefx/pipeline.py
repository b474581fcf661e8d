"""The pipeline: `edgefx.plan.plan(recipe)` checks what can be checked cheaply, `run(plan)` does the work.

Read this first. Stages, in order: load -> canonicalize -> (per target) quantize + convert -> evaluate ->
benchmark -> gate -> report. Data flows one way; a target that fails does not take the others down.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import targets
from edgefx.candidates import Evaluation, Made, Workshop, as_edgefx_errors
from edgefx.errors import EdgefxError, ModelError
from edgefx.output import OutputFolder, disk_errors, opened
from edgefx.plan import Plan, PlannedTarget
from edgefx.results import Accuracy, Check, Failure, Latency, RunReport, StageTiming, TargetResult
from edgefx.types import (
    DataInfo,
    Dataset,
    FrozenGraph,
    ImageSet,
    IoDtype,
    ModelSpec,
    Precision,
    Progress,
    QuantScheme,
    Stage,
)

if TYPE_CHECKING:
    from edgefx.data.images import Loader
    from edgefx.models.load import LoadedModel
    from edgefx.types import Pixels, Scores

SCHEMA_VERSION = 1
CANONICAL_TOLERANCE = 1e-5  # largest |Δp| between the model as loaded and its canonical graph
_CHECK_IMAGES = 16
_WARMUP = 10  # untimed inferences before the timed ones
_CHUNK = 32  # images scored at once by the baseline


class _Clock:
    """Collects stage timings."""

    def __init__(self) -> None:
        self.timings: list[StageTiming] = []

    @contextmanager
    def stage(self, stage: Stage, target: str = "") -> Iterator[None]:
        """Time the block, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings.append(
                StageTiming(stage=stage, target=target, seconds=round(time.perf_counter() - start, 3))
            )


def run(plan: Plan, progress: Progress, *, command: str) -> RunReport:
    """Compile, evaluate, benchmark and judge every target of `plan`; write artifacts and the report.

    Args:
        plan: From `plan`.
        progress: Told of long work.
        command: The command line, recorded in the report.

    Returns:
        The report that was also written to `report.json` in the output folder.

    Raises:
        EdgefxError: Something that all targets share failed. A single target's failure is in the report.
    """
    with ExitStack() as stack:
        out = stack.enter_context(opened(plan.recipe.output))
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefx-")))
        stack.enter_context(disk_errors(workdir))
        return _Run(plan, progress, out, workdir).report(command)


class _Run:
    """One execution of a plan: holds what the stages hand to each other."""

    def __init__(self, plan: Plan, progress: Progress, out: OutputFolder, workdir: Path) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.progress = progress
        self.out = out
        self.workdir = workdir
        self.clock = _Clock()
        self.warnings: list[str] = []
        self.checks: list[Check] = []
        self.failures: dict[str, Failure] = {}
        self.made: dict[str, Made] = {}
        self.accuracies: dict[str, Accuracy] = {}
        self.latencies: dict[str, Latency] = {}
        self.data: list[DataInfo] = []

    def report(self, command: str) -> RunReport:
        """Run all stages and write the report."""
        from edgefx.benchmark.devices.host import environment
        from edgefx.report.json import write

        self._check(*self.plan.checks)
        graph, calibration, evaluation, baseline, canonical_dp = self._prepare()
        scored = None
        if evaluation is not None and baseline is not None:
            scored = Evaluation(images=evaluation, baseline=baseline)
        workshop = Workshop(
            graph=graph,
            calibration=calibration,
            evaluation=scored,
            out=self.out,
            threads=self.threads,
            seed=self.recipe.seed,
            progress=self.progress,
            stage=self.clock.stage,
        )
        for target in self.plan.targets:
            self._make(target, workshop)
        gc.collect()
        if scored is not None:
            for name in [name for name in self.made if name not in self.accuracies]:
                self._evaluate(name, workshop)
        if self.recipe.benchmark is not None and self.made:
            self._benchmark(graph)
        first = next(iter(self.accuracies.values()), None)
        report = RunReport(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            command=command,
            environment=environment(),
            model=graph.spec,
            data=tuple(self.data),
            seed=self.recipe.seed,
            baseline_top1=first.baseline_top1 if first else None,
            baseline_top5=first.baseline_top5 if first else None,
            canonical_max_abs_dp=canonical_dp,
            targets=tuple(self._result(target, graph.spec) for target in self.plan.targets),
            timings=tuple(self.clock.timings),
            warnings=tuple(self.warnings),
            effort=self.recipe.effort,
            integer_only=all(target.integer_only for target in self.plan.targets),
            checks=tuple(self.checks),
        )
        write(report, self.out.path)
        return report

    # ---------------------------------------- load, canonicalize

    def _prepare(self) -> tuple[FrozenGraph, ImageSet | None, ImageSet | None, Scores | None, float]:
        """Load the model, make its canonical graph, decode the images, score the baseline."""
        from edgefx.models.canonical import canonicalize, max_abs_dp

        with self.clock.stage(Stage.LOAD), self.progress.task("load model"):
            loaded = self._load()
        for note in loaded.notes:
            self._warn(f"{loaded.spec.source}: {note}")
        with self._decoding(self.plan.calibration, loaded.spec, role="calibration") as loader:
            calibration = self._decoded(loader, loaded.spec, role="calibration")
        # The evaluation images are decoded in the background while the graph is made and the baseline runs.
        with self._decoding(self.plan.evaluation, loaded.spec, role="evaluation") as loader:
            with self.clock.stage(Stage.CANONICALIZE), self.progress.task("make the graph deployable"):
                graph = canonicalize(loaded, self.workdir)
            baseline = None if loader is None else self._baseline(loaded, loader)
            evaluation = self._decoded(loader, loaded.spec, role="evaluation")
        checked = evaluation or calibration
        pixels = checked.pixels[:_CHECK_IMAGES] if checked else _noise(loaded.spec, self.recipe.seed)
        with self.clock.stage(Stage.CANONICALIZE):
            difference = max_abs_dp(loaded, graph, pixels)
        if not difference <= CANONICAL_TOLERANCE:
            raise ModelError(
                f"the deployable graph of {graph.spec.source} differs from the model as loaded:"
                f" max |Δp| = {difference:.2g}, allowed is {CANONICAL_TOLERANCE:g}",
                hint="this model uses a construct that edgefx does not preserve; please report it",
            )
        if calibration is not None:
            self._check_calibration(graph, calibration, evaluation)
        return graph, calibration, evaluation, baseline, difference

    def _load(self) -> LoadedModel:
        from edgefx.models.load import load

        model = self.recipe.model
        return load(
            model.source,
            weights=model.weights,
            classes=model.classes,
            input_size=model.input_size,
            seed=self.recipe.seed,
        )

    @contextmanager
    def _decoding(self, dataset: Dataset | None, spec: ModelSpec, *, role: str) -> Iterator[Loader | None]:
        """Decode `dataset` in the background while the block runs."""
        from edgefx.data import images

        if dataset is None:
            yield None
            return
        if role == "evaluation" and dataset.labelled:
            dataset = images.check_labels(dataset, spec.classes)
        with images.load(
            dataset,
            height=spec.height,
            width=spec.width,
            resize=self.recipe.data.resize,
            skip_bad=self.recipe.data.skip_bad_images,
            progress=self.progress,
            role=role,
            scratch=self.workdir,
        ) as loader:
            yield loader

    def _baseline(self, loaded: LoadedModel, loader: Loader) -> Scores:
        """Score the float Keras model while the images are still being decoded."""
        import numpy as np

        with (
            self.clock.stage(Stage.EVALUATE, "baseline"),
            self.progress.task("evaluate float baseline", len(loader)) as task,
        ):
            return np.concatenate([loaded.predict(chunk, task=task) for _, chunk in loader.chunks(_CHUNK)])

    def _decoded(self, loader: Loader | None, spec: ModelSpec, *, role: str) -> ImageSet | None:
        """Wait for a set to be decoded, check it and note it for the report."""
        from edgefx.data.images import INTERPOLATION, check_range

        dataset = self.plan.calibration if role == "calibration" else self.plan.evaluation
        if loader is None or dataset is None:
            return None
        images = loader.finish()
        check_range(images.pixels, spec.pixel_range, where=str(dataset.root))
        for path, reason in images.skipped:
            self._warn(f"{role}: skipped {path}: {reason}")
        self.data.append(
            DataInfo(
                role=role,
                root=str(dataset.root),
                images=len(images),
                classes=None if images.labels is None else len(set(images.labels.tolist())),
                sha256=images.sha256,
                resize=images.resize,
                interpolation=INTERPOLATION,
                seed=self.recipe.seed,
                skipped=len(images.skipped),
                note=self.plan.calibration_note if role == "calibration" else self.plan.evaluation_note,
            )
        )
        return images

    def _check_calibration(
        self, graph: FrozenGraph, calibration: ImageSet, evaluation: ImageSet | None
    ) -> None:
        """Say what is poor about the calibration images."""
        from edgefx.data import checks, stability

        low, high = graph.spec.pixel_range
        seen = (
            f"{calibration.pixels.min()} to {calibration.pixels.max()}, the model takes {low:g} to {high:g}"
        )
        self._check(Check(name="pixel range", passed=True, measured=seen))  # else `check_range` had refused
        self._check(*checks.pixel_checks(calibration, evaluation))
        if evaluation is not None:  # else the plan had refused, or left the copies out
            self._check(Check(name="overlap with the evaluation images", passed=True, measured="none"))
        sample = checks.spread(calibration.pixels)
        with (
            self.clock.stage(Stage.QUANTIZE),
            self.progress.task("check the calibration images", len(sample)) as task,
        ):
            self._check(checks.stability_check(stability.extremes(graph, sample, task=task)))

    # ---------------------------------------- per target

    def _make(self, target: PlannedTarget, workshop: Workshop) -> None:
        with self._failing_alone(target.name, Stage.CONVERT):
            made = workshop.make(target)
            self.made[target.name] = made
            if made.accuracy is not None:
                self.accuracies[target.name] = made.accuracy

    def _evaluate(self, name: str, workshop: Workshop) -> None:
        with self._failing_alone(name, Stage.EVALUATE):
            path = self.made[name].artifact.path
            self.accuracies[name] = workshop.measure(targets.TARGETS[name], path, name)

    def _benchmark(self, graph: FrozenGraph) -> None:
        from edgefx.benchmark.latency import Subject, measure

        settings = self.recipe.benchmark
        assert settings is not None
        subjects: list[Subject] = []
        with self.clock.stage(Stage.BENCHMARK):
            for name, made in self.made.items():
                if name in self.failures:
                    continue
                row = targets.TARGETS[name]
                float_name = f"{row.runtime}-{Precision.FLOAT32}"
                if float_name not in self.made and float_name not in {s.key for s in subjects}:
                    path = self._float_reference(float_name, graph)
                    if path is not None:
                        subjects.append(Subject(key=float_name, path=path, precision=Precision.FLOAT32))
                subjects.append(
                    Subject(key=name, path=made.artifact.path, precision=row.precision, float_key=float_name)
                )
            measured = measure(
                subjects,
                threads=self.threads,
                rounds=settings.rounds,
                warmup=_WARMUP,
                budget_s=settings.seconds,
                progress=self.progress,
                on_failure=lambda subject, error: self._fail(subject.key, Stage.BENCHMARK, error),
            )
        self.latencies = {name: measured[name] for name in self.made if name in measured}

    def _float_reference(self, name: str, graph: FrozenGraph) -> Path | None:
        """Make the float32 artifact that latency is compared with; it is not an output of the run."""
        row = targets.TARGETS[name]
        folder = self.workdir / "reference"
        folder.mkdir(exist_ok=True)
        scheme = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32, seed=self.recipe.seed)
        try:
            path = folder / f"{name}{row.suffix}"
            return targets.load(row).convert(graph, scheme, None, path, self.progress)[0]
        except EdgefxError as error:
            self._warn(f"no ratio to float for {row.runtime}: {error.message}")
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
            self._warn(text)

    def _result(self, target: PlannedTarget, spec: ModelSpec) -> TargetResult:
        from edgefx.evaluate.gates import judge

        name = target.name
        made, accuracy, latency = self.made.get(name), self.accuracies.get(name), self.latencies.get(name)
        artifact = made.artifact if made else None
        gates = judge(target.gates, target=name, artifact=artifact, accuracy=accuracy, latency=latency)
        return TargetResult(
            target=name,
            artifact=artifact,
            accuracy=accuracy,
            latency=latency,
            size_ratio_to_float=artifact.size_bytes / (4 * spec.parameters) if artifact else None,
            gates=gates,
            failure=self.failures.get(name),
            effort=made.effort if made else None,
            convert_s=made.convert_s if made else None,
            search=made.search if made else None,
        )

    # ---------------------------------------- small help

    @property
    def threads(self) -> int:
        """Intra-op threads for evaluation and latency."""
        import os

        asked = self.recipe.benchmark.threads if self.recipe.benchmark else None
        return asked or len(
            os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        )

    def _check(self, *checks: Check) -> None:
        self.checks += checks
        for check in checks:
            if not check.passed:
                self._warn(f"calibration images, {check.name}: {check.measured}; {check.advice}")

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.progress.warn(message)


def _noise(spec: ModelSpec, seed: int) -> Pixels:
    """Seeded noise, used only to check the canonical graph when no image was given."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)
