"""`edgefx debug`: where between the model and the artifact accuracy is lost, and in which layer.

Stages, in order: loaded model -> canonical graph -> converted float -> quantized simulation -> artifact. Each
is compared with the one before it on the same images; then each layer is looked at in the artifact itself,
and quantized alone in the simulation (`edgefx.quantize.simulate`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import targets
from edgefx.debug.diagnosis import (
    Cure,
    DebugReport,
    Diagnosis,
    Difference,
    FailedTarget,
    Step,
    StepFigures,
    judge,
    was_changed_by_conversion,
)
from edgefx.errors import EdgefxError, UsageError
from edgefx.results import Failure, LayerSensitivity
from edgefx.run.output import disk_errors, is_disk_full
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import (
    Artifact,
    DataInfo,
    Dataset,
    Effort,
    FrozenGraph,
    ImageSet,
    IoDtype,
    ModelSpec,
    Precision,
    Progress,
    QuantScheme,
    Resize,
    Stage,
)

if TYPE_CHECKING:
    from edgefx.models.load import LoadedModel
    from edgefx.quantize.simulate import Simulation
    from edgefx.types import Pixels, Scores

SCHEMA_VERSION = 1
DEFAULT_IMAGES = 50
_DEFAULT_SAMPLES = 100
_TAPPED = 16  # images whose values are looked at layer by layer; each holds millions of them
_MOST_BLAMED = 16
_CURED = 0.25  # of the KL left: the layers in float explain the damage


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to examine.

    Attributes:
        model: A zoo name or a path.
        rows: The targets.
        calib: Images that set ranges, and that everything is measured on; None for `digits`.
        samples: How many of them set ranges; None for 100.
        images: How many of them to measure on.
        artifact: A file to examine instead of converting the model; for one target only.
        effort: Of the conversion.
        resize: How files become the model's size.
        skip_bad_images: Leave corrupt files out.
        seed: Of everything that is sampled.
        threads: Intra-op threads of the runtimes.
        weights: For a zoo name.
        classes: For a zoo name.
        input_size: For a zoo name, or a model that takes any size.
    """

    model: str
    rows: tuple[TargetRow, ...]
    calib: Path | None
    threads: int
    samples: int | None = None
    images: int = DEFAULT_IMAGES
    artifact: Path | None = None
    effort: Effort = Effort.BALANCED
    resize: Resize = Resize.STRETCH
    skip_bad_images: bool = False
    seed: int = 0
    weights: str | None = None
    classes: int | None = None
    input_size: int | None = None


def run(settings: Settings, progress: Progress, *, command: str) -> DebugReport:
    """Examine the targets of `settings`.

    Args:
        settings: What to examine.
        progress: Told of long work.
        command: The command line, recorded in the report.

    Raises:
        UsageError: No target, no images, an artifact that does not fit the target, a model without layers.
        EdgefxError: Something that all targets share failed. A single target's failure is in the report.
    """
    listed = _listed(settings)
    for row in settings.rows:
        targets.load(row).check()
    with ExitStack() as stack:
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefx-")))
        stack.enter_context(disk_errors(workdir))
        return _Run(settings, progress, workdir, listed).report(command)


def _listed(settings: Settings) -> Dataset:
    """Check what can be checked before the model is loaded, and list the images."""
    from edgefx.data import digits, folders

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
    if settings.calib is None and settings.model != "digits":
        raise UsageError(
            "debug needs calibration images, to set ranges and to measure on",
            hint="give a folder of about 100 typical images with --calib DIR (labels are not needed)",
        )
    return folders.scan(settings.calib or digits.calibration_folder())


@dataclass
class _Shared:
    """What the targets share: the model and its graph, the images, and the float scores of both."""

    loaded: LoadedModel
    graph: FrozenGraph
    calibration: ImageSet
    pixels: Pixels
    loaded_scores: Scores
    converted: dict[str, Path] = field(default_factory=dict)  # float artifacts, by target


class _Run:
    """One execution of the command."""

    def __init__(self, settings: Settings, progress: Progress, workdir: Path, listed: Dataset) -> None:
        self.settings = settings
        self.progress = progress
        self.workdir = workdir
        self.listed = listed
        self.warnings: list[str] = []
        self.failures: list[FailedTarget] = []

    def report(self, command: str) -> DebugReport:
        from edgefx.benchmark.devices.host import environment

        shared = self._prepare()
        found = []
        for row in self.settings.rows:
            with self._failing_alone(row.name):
                found.append(self._examine(row, shared))
        return DebugReport(
            schema_version=SCHEMA_VERSION,
            created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            command=command,
            environment=environment(),
            model=shared.graph.spec,
            data=(self._data(shared.calibration),),
            seed=self.settings.seed,
            effort=self.settings.effort,
            images=len(shared.pixels),
            tapped_images=min(len(shared.pixels), _TAPPED),
            targets=tuple(found),
            failures=tuple(self.failures),
            warnings=tuple(self.warnings),
        )

    # ---------------------------------------- what all targets share

    def _prepare(self) -> _Shared:
        from edgefx.models.canonical import canonicalize
        from edgefx.models.load import load

        settings = self.settings
        with self.progress.task("load model"):
            loaded = load(
                settings.model,
                weights=settings.weights,
                classes=settings.classes,
                input_size=settings.input_size,
                seed=settings.seed,
            )
        for note in loaded.notes:
            self._warn(f"{loaded.spec.source}: {note}")
        if not loaded.layered:
            raise UsageError(
                f"{loaded.spec.source} has no layers that edgefx can follow",
                hint="give the .keras or .h5 file that the SavedModel was exported from",
            )
        calibration = self._images(loaded.spec)
        with self.progress.task("make the graph deployable"):
            graph = canonicalize(loaded, self.workdir)
        pixels = calibration.pixels[: settings.images]
        with self.progress.task("run the model", len(pixels)) as task:
            scores = loaded.predict(pixels, task=task)
        return _Shared(
            loaded=loaded, graph=graph, calibration=calibration, pixels=pixels, loaded_scores=scores
        )

    def _images(self, spec: ModelSpec) -> ImageSet:
        """Decode the calibration images, in the order of the draw: the first are as typical as all."""
        from edgefx.data import calibration, images

        samples = self.settings.samples or min(_DEFAULT_SAMPLES, len(self.listed.items))
        if samples > len(self.listed.items):
            raise UsageError(
                f"--samples {samples}: {self.listed.root} holds {len(self.listed.items)} images",
                hint="ask for fewer",
            )
        chosen, _ = calibration.split(self.listed, samples=samples, seed=self.settings.seed)
        # Drawn from all classes in turn: those that are measured on come first.
        first, rest = calibration.split(
            chosen, samples=min(samples, self.settings.images), seed=self.settings.seed
        )
        decoded = images.decode(
            replace(chosen, items=(*first.items, *rest.items)),
            height=spec.height,
            width=spec.width,
            resize=self.settings.resize,
            skip_bad=self.settings.skip_bad_images,
            progress=self.progress,
            role="calibration",
            scratch=self.workdir,
        )
        images.check_range(decoded.pixels, spec.pixel_range, where=str(self.listed.root))
        for path, reason in decoded.skipped:
            self._warn(f"calibration: skipped {path}: {reason}")
        return decoded

    def _data(self, images: ImageSet) -> DataInfo:
        from edgefx.data.images import INTERPOLATION

        return DataInfo(
            role="calibration",
            root=str(self.listed.root),
            images=len(images),
            classes=None if images.labels is None else len(set(images.labels.tolist())),
            sha256=images.sha256,
            resize=images.resize,
            interpolation=INTERPOLATION,
            seed=self.settings.seed,
            skipped=len(images.skipped),
            note=f"{len(images)} of {len(self.listed.items)} images, seed {self.settings.seed}",
        )

    # ---------------------------------------- one target

    def _examine(self, row: TargetRow, shared: _Shared) -> Diagnosis:
        from edgefx.debug.layers import first_changed, layer_figures
        from edgefx.quantize.sensitivity import measure
        from edgefx.quantize.simulate import Simulation
        from edgefx.targets import grids

        begun = time.perf_counter()
        graph, pixels = shared.graph, shared.pixels
        float_name = f"{row.runtime}-{Precision.FLOAT32}"
        float_path = self._converted(TARGETS[float_name], shared)
        path = self.settings.artifact or self._converted(row, shared)
        module = grids.load(row)
        with self.progress.task(f"read {row.name}"):
            simulation = Simulation(graph, module.quantization(path, graph))
        scores = {Step.LOADED: shared.loaded_scores}
        with self.progress.task(f"run {row.name}, stage by stage"):
            scores[Step.CANONICAL] = simulation.scores(pixels, quantized=False)
            scores[Step.CONVERTED] = self._inferred(TARGETS[float_name], float_path, pixels)
            if simulation.layers:
                scores[Step.SIMULATED] = simulation.scores(pixels, quantized=True)
            scores[Step.ARTIFACT] = self._inferred(row, path, pixels)
        artifact = replace(targets.load(row).describe(path), target=row.name)
        floor = _floor(artifact)
        steps = _steps(scores, graph.spec, floor)
        groups = {layer: (layer,) for layer in simulation.layers}
        images = replace(shared.calibration, pixels=pixels, paths=shared.calibration.paths[: len(pixels)])
        alone = measure(simulation, groups, images, self.progress, floor=floor) if groups else ()
        with module.tapped(path, graph, self.settings.threads) as tapped:
            layers = layer_figures(simulation, tapped, pixels[:_TAPPED], alone, self.progress)
        # The output's own grid cannot be left out of an artifact with an integer output.
        blamable = tuple(one for one in alone if one.layer != simulation.output_layer and one.mean_kl > 0)
        cure = self._cure(simulation, scores, pixels, blamable, floor=floor)
        first_bad = None
        if was_changed_by_conversion(steps):
            with module.tapped(float_path, graph, self.settings.threads) as tapped:
                first_bad = first_changed(simulation, tapped, pixels[:1])
        broken, verdict = judge(
            steps,
            precision=row.precision,
            cure=cure,
            worst=[one.layer for one in blamable],
            first_bad=first_bad,
        )
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
            notes=_notes(row, simulation),
        )

    def _converted(self, row: TargetRow, shared: _Shared) -> Path:
        """Return the artifact of a target, converted once."""
        if row.name not in shared.converted:
            scheme = QuantScheme(
                precision=row.precision,
                io_dtype=IoDtype.FLOAT32 if row.precision is Precision.FLOAT32 else row.io_dtypes[0],
                seed=self.settings.seed,
                effort=self.settings.effort,
            )
            folder = self.workdir / row.name
            folder.mkdir()
            with self.progress.task(f"convert {row.name}"):
                files = targets.load(row).convert(
                    shared.graph,
                    scheme,
                    shared.calibration if row.needs_calibration else None,
                    folder / f"{shared.graph.spec.name}-{row.precision}{row.suffix}",
                    self.progress,
                )
            shared.converted[row.name] = files[0]
        return shared.converted[row.name]

    def _inferred(self, row: TargetRow, path: Path, pixels: Pixels) -> Scores:
        with targets.load(row).open(path, self.settings.threads, row.precision) as session:
            return session.infer(pixels)

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

    # ---------------------------------------- small help

    @contextmanager
    def _failing_alone(self, name: str) -> Iterator[None]:
        """Let a target fail without taking the others down; alone, its error is the command's."""
        try:
            yield
        except EdgefxError as error:
            if len(self.settings.rows) == 1 or is_disk_full(error):
                raise
            failure = Failure(stage=Stage.CONVERT, message=error.message, hint=error.hint)
            self.failures.append(FailedTarget(target=name, failure=failure))
            self.progress.warn(f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else ""))

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.progress.warn(message)


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
    from edgefx.quantize.sensitivity import difference

    found = difference(earlier, later, spec.output, floor=floor)
    return Difference(max_abs_dp=found.max_abs_dp, mean_kl=found.mean_kl, agreement=found.agreement)


def _floor(artifact: Artifact) -> float:
    """Half a step of an integer output."""
    scale = artifact.outputs[0].scale
    return scale / 2 if scale is not None else 0.0


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
