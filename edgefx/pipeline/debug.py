"""`edgefx debug`: where between the model and the artifact accuracy is lost, and in which layer.

Stages, in order: loaded model -> canonical graph -> converted float -> quantized simulation -> artifact. Each
is compared with the one before it on the same images; then each layer is looked at in the artifact itself,
and quantized alone in the simulation (`edgefx.analysis.simulate`).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.analysis.diagnosis import (
    Cure,
    DebugReport,
    Diagnosis,
    Difference,
    FailedTarget,
    Step,
    StepFigures,
    advise,
    judge,
    was_changed_by_conversion,
)
from edgefx.errors import EdgefxError, UsageError
from edgefx.models.hints import NO_HINTS, Hints
from edgefx.models.zoo import brings_images
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.changed import Asked, BestClass, Explainer, asked, compared
from edgefx.pipeline.demands import check_explained
from edgefx.pipeline.execute import computing
from edgefx.pipeline.images import Images
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.plan import DEFAULT_SAMPLES, Plan, PlannedTarget, resolve
from edgefx.pipeline.search import failing_alone
from edgefx.protocols import Progress
from edgefx.recipe.schema import DataSection, ModelSection, PtqSection, Recipe, TargetSection
from edgefx.results import Failure, LayerSensitivity
from edgefx.scores import chosen, confidences, of_first
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import Artifact, Effort, ImageSet, ModelSpec, Precision, Resize
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.analysis.simulate import Simulation
    from edgefx.cache.settings import CacheSettings
    from edgefx.measured import Changes, Explanation
    from edgefx.protocols import Session
    from edgefx.storage.hashes import FileHashes
    from edgefx.types import Pixels, Scores

SCHEMA_VERSION = 1
DEFAULT_IMAGES = 50
_TAPPED = 16  # images whose values are looked at layer by layer; each holds millions of them
_MOST_BLAMED = 16
_CURED = 0.25  # of the KL left: the layers in float explain the damage


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to examine.

    Attributes:
        model: A zoo name or a path.
        rows: The targets.
        calib: Images that set ranges; None for `digits`.
        evaluation: Images that everything is measured on; None for those that set ranges.
        samples: How many of them set ranges; None for 100.
        images: How many of them to measure on.
        artifact: A file to examine instead of converting the model; for one target only.
        effort: What the conversion may spend on accuracy.
        resize: How files become the model's size.
        skip_bad_images: Leave corrupt files out.
        seed: Seed of everything that is sampled.
        threads: Intra-op threads of the runtimes.
        weights: For a zoo name.
        classes: For a zoo name.
        input_size: For a zoo name, or a model that takes any size.
        allow_unsafe: Load a model file that would be refused as unsafe.
        explain: Of how many images that change their class to find out what model and artifacts go by.
    """

    model: str
    rows: tuple[TargetRow, ...]
    calib: Path | None
    threads: int
    evaluation: Path | None = None
    samples: int | None = None
    images: int = DEFAULT_IMAGES
    artifact: Path | None = None
    effort: Effort = Effort.BALANCED
    resize: Resize = Resize.STRETCH
    skip_bad_images: bool = False
    seed: int = 0
    weights: str | None = None
    classes: int | None = None
    input_size: int | str | None = None
    hints: Hints = NO_HINTS
    allow_unsafe: bool = False
    explain: int = 0


def run(
    settings: Settings, progress: Progress, *, command: str, cache: CacheSettings | None = None
) -> DebugReport:
    """Examine the targets of `settings`.

    Args:
        settings: What to examine.
        progress: Where long work is reported.
        command: The command line, recorded in the report.
        cache: Where graphs and artifacts are kept; by default as the environment says.

    Raises:
        UsageError: No target, no images, an artifact that does not fit the target, a model without layers, or
            something to explain of a model that chooses no class.
        EdgefxError: Something that all targets share failed. A single target's failure is in the report.
    """
    for row in settings.rows:
        if row.is_compiled:
            raise UsageError(
                f"{row.name} cannot be run here, layer by layer or otherwise",
                hint=f"debug what it is compiled of: --target {row.source}",
            )
    plan = _planned(settings)
    for row in settings.rows:
        runtimes.load(row).check()
    with computing(cache, progress) as (memo, hashes):
        return _Run(settings, plan, memo, hashes).report(command)


def _planned(settings: Settings) -> Plan:
    """Check what can be checked before the model is loaded, and plan as for a compilation."""
    from edgefx.data import calibration, digits, labels

    if not settings.rows:
        raise UsageError("no target given", hint="name one with --target, e.g. --target tflite-int8")
    if settings.artifact is not None:
        if len(settings.rows) != 1 or settings.artifact.suffix != settings.rows[0].suffix:
            names = ", ".join(row.name for row in settings.rows)
            raise UsageError(
                f"--artifact {settings.artifact} goes with one target of its runtime, not with {names}",
                hint="name the one target that the file was made for with --target",
            )
        if not settings.artifact.is_file():
            raise UsageError(f"{settings.artifact}: no such file", hint="check the path")
    if settings.calib is None and not brings_images(settings.model):
        raise UsageError(
            "debug needs calibration images, to set ranges and to measure on",
            hint="give a folder of about 100 typical images with --calib DIR (labels are not needed)",
        )
    listed = labels.scan(settings.calib or digits.calibration_folder(), settings.hints.only_task)
    samples = settings.samples or min(DEFAULT_SAMPLES, len(listed.items))
    if samples > len(listed.items):
        raise UsageError(
            f"--samples {samples}: {listed.root} holds {len(listed.items)} images", hint="ask for fewer"
        )
    chosen, _ = calibration.split(listed, samples=samples, seed=settings.seed)
    recipe = Recipe(
        version=1,
        model=ModelSection(
            source=settings.model,
            weights=settings.weights,
            classes=settings.classes,
            input_size=settings.input_size,
            **settings.hints.section,
        ),
        targets=tuple(TargetSection(target=row.name) for row in settings.rows),
        quantize=PtqSection(effort=settings.effort),
        data=DataSection(resize=settings.resize, skip_bad_images=settings.skip_bad_images),
        seed=settings.seed,
    )
    note = f"{len(listed.items)} images, seed {settings.seed}"
    plan = Plan(
        recipe=recipe,
        targets=resolve(recipe),
        calibration=chosen,
        evaluation=None,
        calibration_note=note,
        allow_unsafe=settings.allow_unsafe,
    )
    if settings.evaluation is None:
        return plan
    others = labels.scan(settings.evaluation, settings.hints.only_task)
    count = min(settings.images, len(others.items))
    measured, _ = calibration.split(others, samples=count, seed=settings.seed)
    note = f"{count} of {len(others.items)} images of {settings.evaluation}, seed {settings.seed}"
    return replace(plan, evaluation=measured, evaluation_note=note)


class _Run:
    """One execution of the command."""

    def __init__(self, settings: Settings, plan: Plan, memo: Memo, hashes: FileHashes) -> None:
        self.settings = settings
        self.plan = plan
        self.memo = memo
        self.progress = memo.progress
        self.inputs = Inputs(plan, memo, hashes)
        self.builder = ArtifactBuilder(
            inputs=self.inputs, memo=memo, threads=settings.threads, seed=settings.seed
        )
        self.failures: list[FailedTarget] = []
        self.changes: dict[str, Changes] = {}
        self.asked: dict[str, Asked] = {}

    def report(self, command: str) -> DebugReport:
        from edgefx.system.host import environment

        loaded = self.inputs.source.loaded
        if not loaded.layered:
            raise UsageError(
                f"{loaded.spec.source} has no layers that edgefx can follow",
                hint="give the .keras or .h5 file that the SavedModel was exported from",
            )
        if self.settings.explain:
            check_explained(loaded.spec, "--explain")
        self.inputs.load()
        if self.inputs.evaluation is not None:
            self.loaded_scores = self.inputs.baseline
        else:
            with self.progress.task("run the model", len(self.measured)) as task:
                self.loaded_scores = loaded.predict(self.measured.pixels, task=task)
        found = []
        for target in self.plan.targets:
            with failing_alone(target.name, partial(self._fail, target.name)):
                found.append(self._examine(target))
        data = list(self.inputs.data)
        if self.inputs.evaluation is None:
            data = [replace(one, note=f"{one.images} of {one.note}") for one in data]
        return DebugReport(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            command=command,
            environment=environment(),
            model=self.inputs.named_spec,
            data=tuple(data),
            seed=self.settings.seed,
            effort=self.settings.effort,
            images=len(self.measured),
            tapped_images=min(len(self.measured), _TAPPED),
            measured_on="calibration" if self.inputs.evaluation is None else "evaluation",
            targets=tuple(found),
            failures=tuple(self.failures),
            explanations=self._explained(),
            warnings=tuple(self.memo.warnings),
        )

    @cached_property
    def measured(self) -> ImageSet:
        """The images that are measured on: drawn from all classes in turn, as all of them are."""
        from edgefx.data import calibration

        if self.inputs.evaluation is not None:
            return self.inputs.evaluation.get()
        images, listed = self._calibration.get(), self._calibration.dataset
        wanted = min(len(listed.items), self.settings.images)
        first, rest = calibration.split(listed, samples=wanted, seed=self.settings.seed)
        position = {path: number for number, path in enumerate(images.paths)}
        order = [position[item.path] for item in (*first.items, *rest.items) if item.path in position]
        chosen = order[: self.settings.images]
        return replace(
            images,
            pixels=images.pixels[chosen],
            labels=None if images.labels is None else images.labels[chosen],
            paths=tuple(images.paths[number] for number in chosen),
        )

    @property
    def _listed(self) -> Images:
        """Where `measured` comes from."""
        return self.inputs.evaluation or self._calibration

    @property
    def _calibration(self) -> Images:
        assert self.inputs.calibration is not None
        return self.inputs.calibration

    # ---------------------------------------- one target

    def _examine(self, target: PlannedTarget) -> Diagnosis:
        from edgefx.analysis.layers import first_changed, layer_figures
        from edgefx.analysis.sensitivity import measure
        from edgefx.analysis.simulate import Simulation

        begun = time.perf_counter()
        row, graph, pixels = target.row, self.inputs.source.graph, self.measured.pixels
        float_row = TARGETS[f"{row.runtime}-{Precision.FLOAT32}"]
        float_path = self._file(self.builder.reference(float_row))
        path = self.settings.artifact or self._file(
            self.builder.convert(target, self.builder.scheme(target), label=f"convert {row.name}")
        )
        module = runtimes.introspectable(row)
        with self.progress.task(f"read {row.name}"):
            simulation = Simulation(graph, module.read_quantization(path, graph))
        scores = {Step.LOADED: self.loaded_scores}
        with self.progress.task(f"run {row.name}, stage by stage"):
            scores[Step.CANONICAL] = simulation.scores(pixels, quantized=False)
            scores[Step.CONVERTED] = self._inferred(float_row, float_path, pixels)
            if simulation.layers:
                scores[Step.SIMULATED] = simulation.scores(pixels, quantized=True)
            scores[Step.ARTIFACT] = self._inferred(row, path, pixels)
        notes = self._compare(row, path, scores) if self.settings.explain else ()
        artifact = replace(runtimes.load(row).describe(path), target=row.name)
        floor = _floor(artifact)
        steps = _steps(scores, graph.spec, floor)
        groups = {layer: (layer,) for layer in simulation.layers}
        alone = measure(simulation, groups, self.measured, self.progress, floor=floor) if groups else ()
        with module.probes(path, graph, threads=self.settings.threads) as tapped:
            layers = layer_figures(simulation, tapped, pixels[:_TAPPED], alone, self.progress)
        # The output's own grid cannot be left out of an artifact with an integer output.
        blamable = tuple(
            one for one in alone if one.layer not in simulation.output_layers and one.mean_kl > 0
        )
        cure = self._cure(simulation, scores, pixels, blamable, floor=floor)
        first_bad = None
        if was_changed_by_conversion(steps):
            with module.probes(float_path, graph, threads=self.settings.threads) as tapped:
                first_bad = first_changed(simulation, tapped, pixels[:1])
        broken, verdict = judge(
            steps,
            precision=row.precision,
            cure=cure,
            worst=[one for one in alone if one.mean_kl > 0],
            first_bad=first_bad,
            images="calibration images" if self.inputs.evaluation is None else "evaluation images",
        )
        made_with = self.settings.effort if self.settings.artifact is None else None
        return Diagnosis(
            target=row.name,
            artifact=artifact,
            steps=steps,
            layers=layers,
            cure=cure,
            broken=broken,
            verdict=verdict,
            seconds=round(time.perf_counter() - begun, 2),
            graph=tuple(info.name for info in graph.layers),
            advice=advise(broken, cure, effort=made_with, precision=row.precision),
            notes=(*_notes(row, simulation), *self._accuracy(scores), *notes),
        )

    def _accuracy(self, scores: dict[Step, Scores]) -> tuple[str, ...]:
        """Say how many images are answered rightly, where there are labels that calibration has not used."""
        labels = self.measured.labels
        if self.inputs.evaluation is None or labels is None:
            return ()
        spec = self.inputs.source.spec
        before, after = (
            float((chosen(of_first(scores[step], spec), spec.output, spec.threshold) == labels).mean())
            for step in (Step.LOADED, Step.ARTIFACT)
        )
        return (f"top-1 on these {len(labels)} images: {before:.2%} -> {after:.2%}",)

    def _file(self, candidate: Candidate) -> Path:
        return self.builder.files(candidate)[0]

    def _inferred(self, row: TargetRow, path: Path, pixels: Pixels) -> Scores:
        with self._opened(row, path) as session:
            return session.infer(pixels)

    def _opened(self, row: TargetRow, path: Path) -> AbstractContextManager[Session]:
        threads = self.settings.threads
        return runtimes.load(row).open_session(path, threads=threads, precision=row.precision)

    def _compare(self, row: TargetRow, path: Path, scores: dict[Step, Scores]) -> tuple[str, ...]:
        """Note which images an artifact answers otherwise than the model as loaded; say if none."""
        labels, spec = self.measured.labels, self.inputs.source.spec
        before, after = (_answers(scores[step], spec) for step in (Step.LOADED, Step.ARTIFACT))
        found = compared(
            self._listed, self.measured.paths, None if labels is None else labels.tolist(), before, after
        )
        self.changes[row.name], self.asked[row.name] = found, asked(partial(self._opened, row, path))
        return () if found.flipped else ("no image changes its class: there is nothing to explain",)

    def _explained(self) -> tuple[Explanation, ...]:
        """Find out what the images that change their class are told by."""
        root, most = self._listed.dataset.root, self.settings.explain
        explainer = Explainer(self.inputs, lambda: self.measured, root, self.memo, most=most)
        return explainer.explain(self.changes, self.asked)

    def _cure(
        self,
        simulation: Simulation,
        scores: dict[Step, Scores],
        pixels: Pixels,
        alone: tuple[LayerSensitivity, ...],
        *,
        floor: float,
    ) -> Cure | None:
        """Find the fewest of the worst layers that explain the damage; None where there is none."""
        if Step.SIMULATED not in scores:
            return None
        spec, reference = simulation.graph.spec, scores[Step.CANONICAL]
        before = _difference(reference, scores[Step.SIMULATED], spec, floor)
        if not before.harmful:
            return None
        cure = None
        count = 1
        with self.progress.task("looking for the layers to blame"):
            while count <= min(_MOST_BLAMED, len(alone)):
                layers = tuple(one.layer for one in alone[:count])
                without = simulation.scores_without(pixels, layers)
                after = _difference(reference, without, spec, floor)
                if cure is None or after.mean_kl < cure.after.mean_kl:
                    cure = Cure(layers=layers, before=before, after=after)
                if after.mean_kl <= _CURED * before.mean_kl:
                    break
                count *= 2
        return cure

    def _fail(self, name: str, error: EdgefxError) -> None:
        """Record why a target cannot be examined; alone, its error is the command's."""
        if len(self.settings.rows) == 1:
            raise error
        failure = Failure(stage=StageKind.CONVERT, message=error.message, hint=error.hint)
        self.failures.append(FailedTarget(target=name, failure=failure))
        self.progress.warn(f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else ""))


def _answers(scores: Scores, spec: ModelSpec) -> list[BestClass]:
    deciding = of_first(scores, spec)
    best = chosen(deciding, spec.output, spec.threshold)
    return list(zip(best.tolist(), confidences(deciding, spec.output, best), strict=True))


def _steps(scores: dict[Step, Scores], spec: ModelSpec, floor: float) -> tuple[StepFigures, ...]:
    """Compare each stage with the one before it and with the first."""
    order = [step for step in Step if step in scores]
    return tuple(
        StepFigures(
            step=step,
            change=_difference(scores[before], scores[step], spec, floor),
            total=_difference(scores[Step.LOADED], scores[step], spec, floor),
        )
        for before, step in pairwise(order)
    )


def _difference(earlier: Scores, later: Scores, spec: ModelSpec, floor: float) -> Difference:
    from edgefx.evaluation.outputs import difference

    found = difference(earlier, later, spec, floor=floor)
    return Difference(max_abs_dp=found.max_abs_dp, mean_kl=found.mean_kl, agreement=found.agreement)


def _floor(artifact: Artifact) -> float:
    """Half a step of an integer output; of several, half the finest."""
    return min((one.scale / 2 for one in artifact.outputs if one.scale is not None), default=0.0)


def _notes(row: TargetRow, simulation: Simulation) -> tuple[str, ...]:
    notes = []
    if row.precision is Precision.DYNAMIC:
        notes.append("activations are quantized while the artifact runs; the simulation has its weights only")
    if any(grid.dynamic for grid in simulation.quantization.grids):
        notes.append("some grids span each image's own values: these have no fixed range")
    unmatched = simulation.quantization.unmatched
    if unmatched:
        notes.append(
            f"{len(unmatched)} quantized tensors have no counterpart in the graph and are not simulated:"
            f" {', '.join(unmatched[:5])}"
        )
    return tuple(notes)
