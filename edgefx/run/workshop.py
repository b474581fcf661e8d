"""One artifact at a time: converted, measured and published, each step from the cache where it is there.

An artifact whose conversion is cached stays in the cache until its files are needed: to be published, or
because a later step has to open them.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx import targets
from edgefx.cache import keys
from edgefx.cache.entry import Entry, Json, Key
from edgefx.errors import ConversionError
from edgefx.plan import PlannedTarget
from edgefx.quantize.selection import select
from edgefx.results import Accuracy, LayerSensitivity, TrainingEffect
from edgefx.run.inputs import Inputs
from edgefx.run.ledger import Ledger
from edgefx.run.output import OutputFolder
from edgefx.run.training import Training
from edgefx.targets import TargetRow
from edgefx.types import Artifact, ImageSet, IoDtype, Precision, Progress, QuantScheme, Stage

# Calibration images that rank the layers. On B0, 32 of 100 images name 7 or 8 of the same 8 worst layers, in
# a third of the time.
_RANKED_ON = 32
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")  # of types: no computation


@dataclass(frozen=True, kw_only=True)
class ConversionRecord:
    """A conversion as the cache keeps it; paths are names of files, `convert_s` was measured back then."""

    artifact: Artifact
    convert_s: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An artifact's answers on the evaluation images.

    Attributes:
        accuracy: Compared with the baseline.
        top1: The best class of each image; of equal scores the lower class.
    """

    accuracy: Accuracy
    top1: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Ranking:
    layers: tuple[LayerSensitivity, ...]


@dataclass(kw_only=True)
class Candidate:
    """A converted artifact that is not published yet.

    Attributes:
        target: What it is for.
        scheme: How it was converted.
        label: What it is called while it is made.
        folder: Where its files are, or will be.
        artifact: Described, with paths in `folder`.
        convert_s: Wall time of its conversion.
        trained: Whether its weights and ranges were trained.
        entry: Where its files are in the cache, while they are only there.
    """

    target: PlannedTarget
    scheme: QuantScheme
    label: str
    folder: Path
    artifact: Artifact
    convert_s: float
    trained: bool = False
    entry: Entry | None = None

    @property
    def content(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(file.sha256 for file in self.artifact.files)


class Workshop:
    """Makes artifacts and measures them.

    Args:
        inputs: What they are made from and measured on.
        out: Where they are published.
        threads: Intra-op threads for evaluation.
        seed: Of all that is sampled.
        ledger: Notes and cache.
        progress: Told of long work.
        training: Where INT8 artifacts are trained.
    """

    def __init__(
        self,
        *,
        inputs: Inputs,
        out: OutputFolder,
        threads: int,
        seed: int,
        ledger: Ledger,
        progress: Progress,
        training: Training | None = None,
    ) -> None:
        self.evaluates = inputs.evaluation is not None
        self._inputs = inputs
        self._out = out
        self._threads = threads
        self._seed = seed
        self._ledger = ledger
        self._progress = progress
        self._training = training

    # ---------------------------------------- conversion

    def scheme(self, target: PlannedTarget) -> QuantScheme:
        """Return what is asked of a target's conversion.

        Raises:
            UnknownNameError: A layer to be kept in float does not exist.
        """
        return QuantScheme(
            precision=target.row.precision,
            io_dtype=target.io_dtype,
            seed=self._seed,
            effort=target.effort,
            ranges=target.ranges,
            keep_float=select(target.keep_float, self._inputs.source.record.layers),
        )

    def convert(
        self,
        target: PlannedTarget,
        scheme: QuantScheme,
        *,
        label: str,
        number: int = 0,
        trained: bool = False,
    ) -> Candidate:
        """Find or make an artifact.

        Args:
            target: What it is for.
            scheme: How to convert.
            label: What it is called while it is made.
            number: Tells the candidates of one target apart.
            trained: Whether to write what was trained.

        Raises:
            EdgefxError: It cannot be made, or computes in float against the target's wish.
        """
        folder = self._out.staging / f"{target.name}-{number}"
        recalled = self._ledger.recall(
            self._conversion_key(target.row, scheme, trained=trained),
            ConversionRecord,
            Stage.CONVERT,
            target=target.name,
            what=label,
        )
        if recalled is None:
            artifact, seconds = self._converted(
                target.row, scheme, label=label, folder=folder, trained=trained
            )
        else:
            artifact, seconds = _moved(recalled.value.artifact, folder), recalled.value.convert_s
        if target.integer_only:
            _require_integer(artifact)
        return Candidate(
            target=target,
            scheme=scheme,
            label=label,
            folder=folder,
            artifact=artifact,
            convert_s=seconds,
            trained=trained,
            entry=recalled.entry if recalled else None,
        )

    def reference(self, row: TargetRow) -> Candidate:
        """Find or make the float artifact that latency is compared with; it is no output of the run."""
        target = PlannedTarget(row=row, io_dtype=IoDtype.FLOAT32)
        scheme = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32, seed=self._seed)
        return self.convert(target, scheme, label=f"convert {row.name} to compare with")

    def files(self, candidate: Candidate) -> tuple[Path, ...]:
        """Return a candidate's files, the main one first, fetched from the cache if need be."""
        entry, candidate.entry = candidate.entry, None
        if entry is not None and not self._ledger.store.copy(entry, candidate.folder):
            self._ledger.forget(entry.key)
            shutil.rmtree(candidate.folder, ignore_errors=True)
            candidate.artifact, candidate.convert_s = self._converted(
                candidate.target.row,
                candidate.scheme,
                label=candidate.label,
                folder=candidate.folder,
                trained=candidate.trained,
            )
        return tuple(file.path for file in candidate.artifact.files)

    def publish(self, candidate: Candidate) -> Artifact:
        """Move a candidate's files to the output folder; return its description with the final paths."""
        wanted = {file.path.name: file.sha256 for file in candidate.artifact.files}
        if candidate.entry is not None and self._out.holds(wanted):  # from an earlier run
            candidate.entry = None
        else:
            self._out.publish(self.files(candidate))
        candidate.folder = self._out.path
        candidate.artifact = _moved(candidate.artifact, candidate.folder)
        return candidate.artifact

    def discard(self, candidate: Candidate) -> None:
        """Remove a candidate's files."""
        shutil.rmtree(candidate.folder, ignore_errors=True)

    def _converted(
        self, row: TargetRow, scheme: QuantScheme, *, label: str, folder: Path, trained: bool
    ) -> tuple[Artifact, float]:
        folder.mkdir(parents=True)
        graph = self._inputs.source.graph
        images = self._calibration(row)
        target = targets.load(row)
        out = folder / f"{graph.spec.name}-{row.precision}{row.suffix}"
        begun = time.perf_counter()
        with self._ledger.stage(Stage.CONVERT, row.name), self._progress.task(label):
            if trained:
                assert self._training is not None
                assert images is not None
                files = self._training.convert(row, graph, scheme, images, out)
            else:
                files = target.convert(graph, scheme, images, out, self._progress)
            artifact = replace(target.describe(files[0]), target=row.name)
        seconds = time.perf_counter() - begun
        named = replace(
            artifact, files=tuple(replace(file, path=Path(file.path.name)) for file in artifact.files)
        )
        self._ledger.keep(
            self._conversion_key(row, scheme, trained=trained),
            ConversionRecord(artifact=named, convert_s=seconds),
            {file.path.name: file.path for file in artifact.files},
        )
        return artifact, seconds

    def _calibration(self, row: TargetRow) -> ImageSet | None:
        images = self._inputs.calibration
        return images.get() if images is not None and row.needs_calibration else None

    def _calibration_images(self, row: TargetRow) -> Json:
        if not row.needs_calibration or self._inputs.calibration is None:
            return None
        return [self._inputs.calibration.sha256, self._inputs.calibration.skip_bad]

    def _conversion_key(self, row: TargetRow, scheme: QuantScheme, *, trained: bool) -> Key:
        record = self._inputs.source.record
        training = self._training if trained else None
        return keys.conversion(
            row,
            scheme,
            name=record.spec.name,
            graph_sha256=record.sha256,
            images=self._calibration_images(row),
            training=training.key if training else None,
        )

    # ---------------------------------------- training

    def trains(self, row: TargetRow) -> bool:
        """Whether the run trains the artifacts of a target."""
        return self._training is not None and row.precision is Precision.INT8

    def training_helped(self) -> bool:
        """Train, unless it is done; say whether an epoch was better than the post-training artifact.

        Raises:
            EdgefxError: Training failed.
        """
        assert self._training is not None
        return self._training.helped()

    def training_effect(self, before: Candidate, after: Candidate) -> TrainingEffect:
        """Compare a post-training artifact with the trained one.

        Raises:
            EdgefxError: One of them cannot be run, or its scores are not finite.
        """
        assert self._training is not None
        row = after.target.row
        wanted = keys.training_effect(row, before.artifact, after.artifact, training=self._training.key)
        recalled = self._ledger.recall(
            wanted, TrainingEffect, Stage.QUANTIZE, target=row.name, what="effect of training"
        )
        if recalled is not None:
            effect = recalled.value
        else:
            effect = self._effect(before, after, f"effect of training on {row.name}")
            self._ledger.keep(wanted, effect)
        return replace(effect, insisted=self._training.insists)

    def _effect(self, before: Candidate, after: Candidate, label: str) -> TrainingEffect:
        assert self._training is not None
        row = after.target.row
        paths = self.files(before)[0], self.files(after)[0]
        with self._ledger.stage(Stage.QUANTIZE, row.name), self._progress.task(label):
            return self._training.effect(row, *paths, threads=self._threads)

    # ---------------------------------------- measurement

    def measure(self, candidate: Candidate, label: str) -> Measured:
        """Measure an artifact on the evaluation images.

        Raises:
            EdgefxError: It cannot be run, or its scores are not finite.
        """
        row, inputs = candidate.target.row, self._inputs
        assert inputs.evaluation is not None
        assert inputs.baseline_key is not None
        wanted = keys.evaluation(
            row,
            candidate.artifact,
            images_sha256=inputs.evaluation.sha256,
            skip_bad=inputs.evaluation.skip_bad,
            baseline=inputs.baseline_key,
            threads=self._threads,
        )
        recalled = self._ledger.recall(wanted, Measured, Stage.EVALUATE, target=row.name, what=label)
        if recalled is not None:
            return recalled.value
        measured = self._measured(candidate, label)
        self._ledger.keep(wanted, measured)
        return measured

    def _measured(self, candidate: Candidate, label: str) -> Measured:
        from edgefx.evaluate import accuracy

        row, inputs = candidate.target.row, self._inputs
        assert inputs.evaluation is not None
        images, baseline = inputs.evaluation.get(), inputs.baseline
        path = self.files(candidate)[0]
        with (
            self._ledger.stage(Stage.EVALUATE, row.name),
            self._progress.task(f"evaluate {label}", len(images)) as task,
            targets.load(row).open(path, self._threads, row.precision) as session,
        ):
            scores, images_per_s = accuracy.run(session, images.pixels, task=task)
            compared = accuracy.compare(
                baseline,
                scores,
                images.labels,
                output=inputs.source.spec.output,
                images_per_s=images_per_s,
            )
        return Measured(accuracy=compared, top1=tuple(scores.argmax(1).tolist()))

    def rank(self, candidate: Candidate) -> tuple[LayerSensitivity, ...]:
        """Measure each layer alone, on the calibration images: they are not what is reported on.

        Raises:
            EdgefxError: The layers cannot be told apart.
        """
        row = candidate.target.row
        wanted = keys.sensitivity(
            row,
            candidate.artifact,
            graph_sha256=self._inputs.source.record.sha256,
            images=[self._calibration_images(row), _RANKED_ON],
        )
        recalled = self._ledger.recall(
            wanted, _Ranking, Stage.QUANTIZE, target=row.name, what="sensitivity of the layers"
        )
        if recalled is not None:
            return recalled.value.layers
        ranked = self._ranked(candidate)
        self._ledger.keep(wanted, _Ranking(layers=ranked))
        return ranked

    def _ranked(self, candidate: Candidate) -> tuple[LayerSensitivity, ...]:
        from edgefx.quantize.sensitivity import rank

        row = candidate.target.row
        assert self._inputs.calibration is not None, "an INT8 artifact has been made"
        images = self._inputs.calibration.get()
        every = max(1, len(images) // _RANKED_ON)
        images = replace(
            images,
            pixels=images.pixels[::every],
            labels=None if images.labels is None else images.labels[::every],
            paths=images.paths[::every],
        )
        path = self.files(candidate)[0]
        with self._ledger.stage(Stage.QUANTIZE, row.name):
            return tuple(rank(self._inputs.source.graph, row, path, images, self._progress))


def _moved(artifact: Artifact, folder: Path) -> Artifact:
    return replace(
        artifact, files=tuple(replace(file, path=folder / file.path.name) for file in artifact.files)
    )


def _require_integer(artifact: Artifact) -> None:
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
