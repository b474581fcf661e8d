"""One artifact at a time: converted and measured.

A candidate's files come and go in one order. Converted or recalled, it is a value that no file need belong
to (`ArtifactBuilder.convert`). Where a step has to open the files, they lie in a staging folder of their own
(`files`), made or fetched from the cache. Where the target is an NPU, a compiler makes another file of them
(`compile`). Then they are given their metadata and published, which gives a candidate whose files are in the
output folder (`publish`), or they are removed (`discard`), after which the candidate is of no use.
"""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx import compilers, runtimes
from edgefx.cache import keys
from edgefx.cache.entry import Json, Key
from edgefx.compilers.protocol import Interpreting
from edgefx.pipeline import compiled, ends, finish, parity
from edgefx.pipeline.demands import require_integer
from edgefx.pipeline.evaluator import Evaluator
from edgefx.pipeline.finish import Files
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.output import OutputFolder
from edgefx.pipeline.plan import PlannedTarget
from edgefx.pipeline.pruning import Graphs
from edgefx.pipeline.records import CompiledRecord, ConversionRecord, FinishedFiles, Measured, Ranking
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.pipeline.training import Training
from edgefx.protocols import Session
from edgefx.quantization import UNCOMPRESSED, QuantScheme, WeightCompression
from edgefx.quantize.selection import select
from edgefx.results import LayerSensitivity
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.system.blas import one_thread
from edgefx.targets import TargetRow
from edgefx.training import TrainingEffect
from edgefx.types import Artifact, FrozenGraph, ImageSet, IoDtype, Precision
from edgefx.vocabulary import Ending, StageKind, TargetKind

# Calibration images that rank the layers. On B0, 32 of 100 images name 7 or 8 of the same 8 worst layers, in
# a third of the time.
_RANKED_ON = 32


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A converted artifact.

    Attributes:
        target: What it is for.
        scheme: How it was converted.
        stage: Its conversion.
        record: What that gave: its files as they were converted.
        trained: Whether its weights and ranges were trained.
        compiled: What a compiler made of it, where the target is an NPU; that is what is published then.
        published: The folder that its files were published into, if they were.
        finished: Its published files, which have the metadata in them.
    """

    target: PlannedTarget
    scheme: QuantScheme
    stage: Stage[ConversionRecord, Files]
    record: ConversionRecord
    trained: bool = False
    compiled: CompiledRecord | None = None
    published: Path | None = None
    finished: FinishedFiles | None = None

    @property
    def artifact(self) -> Artifact:
        """Its description; until it is published, paths are bare names, and files have no metadata."""
        artifact = self._product
        if self.published is None:
            return artifact
        assert self.finished is not None
        return _placed(replace(artifact, files=self.finished.files), self.published)

    @property
    def content(self) -> tuple[str, ...]:
        """SHA-256 of each file without metadata: what the artifact answers depends on nothing else."""
        return tuple(file.sha256 for file in self._product.files)

    @property
    def _product(self) -> Artifact:
        return self.compiled.artifact if self.compiled is not None else self.record.artifact


class ArtifactBuilder:
    """Makes artifacts and measures them.

    Args:
        inputs: What they are made from and measured on.
        memo: Recalls, computes and keeps.
        threads: Intra-op threads for evaluation.
        seed: The seed of everything that is sampled.
        training: Where INT8 artifacts are trained.

    Attributes:
        graphs: What they are made of: the model's graph, or one with fewer channels.
    """

    def __init__(
        self, *, inputs: Inputs, memo: Memo, threads: int, seed: int, training: Training | None = None
    ) -> None:
        self._inputs = inputs
        self._memo = memo
        self._threads = threads
        self._seed = seed
        self._training = training
        self.graphs = Graphs(inputs, memo, seed=seed)

    @property
    def evaluates(self) -> bool:
        """Whether there are images to measure accuracy on."""
        return self._inputs.evaluation is not None

    # ---------------------------------------- conversion

    def scheme(self, target: PlannedTarget) -> QuantScheme:
        """Return what is asked of a target's conversion.

        Raises:
            UnknownNameError: A layer to be kept in float does not exist.
        """
        output_dtype, outputs = ends.of_outputs(target, self._inputs.source.spec)
        return QuantScheme(
            precision=target.row.precision,
            io_dtype=target.io_dtype,
            output_dtype=output_dtype,
            outputs=outputs,
            seed=self._seed,
            effort=target.effort,
            ranges=target.ranges,
            keep_float=select(target.keep_float, self._inputs.source.record.layers),
            hardware=target.hardware,
            profile=target.profile,
            integer_only=target.integer_only,
            ends=target.ends,
            compression=target.applied.of_integers,
        )

    def convert(
        self, target: PlannedTarget, scheme: QuantScheme, *, label: str, trained: bool = False
    ) -> Candidate:
        """Find or make an artifact.

        Args:
            target: What it is for.
            scheme: How to convert.
            label: What it is called while it is made.
            trained: Whether to write what was trained.

        Raises:
            EdgefxError: It cannot be made, or computes in float against the target's wish.
        """
        stage = self._conversion(target.row, scheme, label=label, trained=trained, compression=target.applied)
        record = self._memo.get(stage)
        if target.integer_only:
            require_integer(record.artifact)
        return Candidate(target=target, scheme=scheme, stage=stage, record=record, trained=trained)

    def reference(self, row: TargetRow, compression: WeightCompression = UNCOMPRESSED) -> Candidate:
        """Find or make a float artifact to compare with; it is no output of the run.

        Args:
            row: Its target.
            compression: Which channels it is without.
        """
        target = PlannedTarget(row=row, io_dtype=IoDtype.FLOAT32, compression=compression.of_graph)
        scheme = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32, seed=self._seed)
        return self.convert(target, scheme, label=f"convert {row.name} to compare with")

    def files(self, candidate: Candidate) -> Files:
        """Return a candidate's files as converted, the main one first.

        They are made or fetched from the cache if need be. Those that are published have metadata as well.
        """
        if candidate.published is not None and candidate.compiled is None:
            return tuple(file.path for file in candidate.artifact.files)
        return self._memo.open(candidate.stage)

    def publish(self, candidate: Candidate, out: OutputFolder) -> Candidate:
        """Write metadata into a candidate's files and move them to the output folder.

        Where an earlier run has left the same files there, nothing is done.
        """
        made = self._compilation(candidate) if candidate.compiled is not None else candidate.stage
        metadata = finish.metadata(candidate.target.name, candidate.artifact, self._inputs)
        stage = finish.stage(
            candidate.target.row, candidate.content, metadata, files=lambda: self._memo.open(made)
        )
        known = self._memo.peek(stage)
        if known is None or not out.holds({file.path.name: file.sha256 for file in known.files}):
            out.publish(self._memo.open(stage))
            self._memo.close(stage)
            self._memo.close(made)
        return replace(
            candidate,
            # Files that were damaged in the cache have been made again.
            record=self._memo.get(candidate.stage),
            published=out.path,
            finished=self._memo.get(stage),
        )

    def compile(self, candidate: Candidate) -> Candidate:
        """Compile a candidate for the NPU that it is for; one for a runtime is returned as it is.

        Raises:
            EdgefxError: The compiler refused it.
        """
        if not candidate.target.row.is_compiled:
            return candidate
        return replace(candidate, compiled=self._memo.get(self._compilation(candidate)))

    def _compilation(self, candidate: Candidate) -> Stage[CompiledRecord, Files]:
        name = self._inputs.source.record.spec.name
        # Several candidates of a target may be compiled, and each has files of its own.
        own = f"{candidate.target.name}-compiled-{candidate.record.artifact.files[0].sha256[:12]}"
        return compiled.stage(
            candidate.target,
            candidate.record.artifact,
            name=name,
            folder=lambda: self._memo.workspace.staging / own,
            files=lambda: self.files(candidate),
        )

    def discard(self, candidate: Candidate) -> None:
        """Remove a candidate's files."""
        files = self._memo.close(candidate.stage)
        if files:
            shutil.rmtree(files[0].parent, ignore_errors=True)

    def _conversion(
        self,
        row: TargetRow,
        scheme: QuantScheme,
        *,
        label: str,
        trained: bool,
        compression: WeightCompression,
    ) -> Stage[ConversionRecord, Files]:
        record = self.graphs.record(compression)
        training = self._training if trained else None
        stage: Stage[ConversionRecord, Files] = Stage(
            kind=StageKind.CONVERT,
            key=keys.conversion(
                row,
                scheme,
                name=self._inputs.source.record.spec.name,
                graph_sha256=record.sha256,
                images=self._calibration_identity(row),
                training=training.stage.key if training else None,
            ),
            result=ConversionRecord,
            compute=lambda: self._converted(
                row, scheme, self._staging(stage), training, graph=self.graphs.graph(compression)
            ),
            restore=lambda kept, files: self._fetched(kept, files, self._staging(stage)),
            target=row.name,
            what=label,
            clock=row.name,
            label=label,
        )
        return stage

    def _staging(self, stage: Stage[ConversionRecord, Files]) -> Path:
        return self._memo.workspace.staging / f"{stage.target}-{stage.key.digest[:12]}"

    def _converted(
        self,
        row: TargetRow,
        scheme: QuantScheme,
        folder: Path,
        training: Training | None,
        *,
        graph: FrozenGraph,
    ) -> Computed[ConversionRecord, Files]:
        if scheme.ends is Ending.LOGITS:
            from edgefx.models.graph.cut import before_scores

            graph = before_scores(graph)
            layers = {layer.name for layer in graph.layers}
            scheme = replace(scheme, keep_float=scheme.keep_float & layers)
        images = self._calibration(row)
        runtime = runtimes.load(row)
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        quantization = None
        if training is not None:
            assert images is not None
            quantization = training.quantization(row, graph, images)
        request = ConversionRequest(graph=graph, scheme=scheme, calibration=images, trained=quantization)
        out = folder / f"{graph.spec.name}-{row.precision}{row.suffix}"
        with one_thread():
            files = runtime.convert(request, out, self._memo.progress)
        artifact = replace(runtime.describe(files[0]), target=row.name)
        named = replace(
            artifact, files=tuple(replace(file, path=Path(file.path.name)) for file in artifact.files)
        )
        paths = tuple(file.path for file in artifact.files)
        return Computed(
            value=ConversionRecord(artifact=named, convert_s=time.perf_counter() - begun),
            opened=paths,
            files={path.name: path for path in paths},
        )

    def _fetched(self, record: ConversionRecord, files: KeptFiles, folder: Path) -> Files:
        files.copy(folder, {file.path.name: file.sha256 for file in record.artifact.files})
        return tuple(file.path for file in _placed(record.artifact, folder).files)

    def _calibration(self, row: TargetRow) -> ImageSet | None:
        images = self._inputs.calibration
        return images.get() if images is not None and row.needs_calibration else None

    def _calibration_identity(self, row: TargetRow) -> Json:
        images = self._inputs.calibration
        return images.identity if images is not None and row.needs_calibration else None

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
        training, row = self._training, after.target.row

        def compute() -> Computed[TrainingEffect, None]:
            paths = self.files(before)[0], self.files(after)[0]
            return Computed(value=training.effect(row, *paths, threads=self._threads), opened=None)

        stage = Stage(
            kind=StageKind.QUANTIZE,
            key=keys.training_effect(row, before.artifact, after.artifact, training=training.stage.key),
            result=TrainingEffect,
            compute=compute,
            target=row.name,
            what="effect of training",
            clock=row.name,
            label=f"effect of training on {row.name}",
        )
        return replace(self._memo.get(stage), insisted=training.insists)

    # ---------------------------------------- measurement

    def measure(self, candidate: Candidate, label: str) -> Measured:
        """Measure an artifact on the evaluation images.

        Raises:
            EdgefxError: It cannot be run, or its scores are not finite.
        """
        row, sample = candidate.target.row, self._sample(candidate.target)
        stage = Stage(
            kind=StageKind.EVALUATE,
            key=self.evaluation_key(candidate),
            result=Measured,
            compute=lambda: self._measured(candidate, label, sample),
            target=row.name,
            what=label,
            clock=row.name,
        )
        return self._memo.get(stage)

    def evaluation_key(self, candidate: Candidate) -> Key:
        """Return what determines the answers of an artifact to the evaluation images."""
        images = self._inputs.evaluation
        assert images is not None
        return keys.evaluation(
            candidate.target.row,
            candidate.record.artifact,
            images_sha256=images.sha256,
            skip_bad=images.skip_bad,
            sample=self._sample(candidate.target),
            baseline=self._inputs.baseline_stage.key,
            threads=self._threads,
        )

    def evaluator(self, target: PlannedTarget) -> Evaluator:
        """Return the images that a target's artifact is judged by; there must be some."""
        return Evaluator.of(self._inputs, self._sample(target))

    def _sample(self, target: PlannedTarget) -> tuple[int, ...] | None:
        assert self._inputs.evaluation is not None
        return self._inputs.evaluation.sample(target.eval_limit, seed=self._seed)

    def _measured(
        self, candidate: Candidate, label: str, sample: tuple[int, ...] | None
    ) -> Computed[Measured, None]:
        row, evaluator = candidate.target.row, Evaluator.of(self._inputs, sample)
        path, outputs = self.files(candidate)[0], candidate.record.artifact.outputs
        with (
            self._memo.progress.task(f"evaluate {label}", len(evaluator.places)) as task,
            self.opened(candidate) as session,
        ):
            accuracy, answers = evaluator.judge(session, outputs, task)
        top1, confidence = evaluator.best(answers)
        found = Measured(
            accuracy=accuracy,
            top1=top1,
            confidence=confidence,
            warnings=evaluator.told(answers),
            parity=parity.of(
                row,
                path,
                answers.scores,
                evaluator.pixels,
                output=outputs[0],
                threads=self._threads,
                progress=self._memo.progress,
            )
            if row.kind is TargetKind.MCU
            else None,
        )
        return Computed(value=found, opened=None)

    def opened(self, candidate: Candidate) -> AbstractContextManager[Session]:
        """Open an artifact in what it is for, if that runs here; else in its runtime."""
        row, path, described = candidate.target.row, self.files(candidate)[0], candidate.record.artifact
        compiler = compilers.load(row) if row.is_compiled else None
        if isinstance(compiler, Interpreting):
            return compiler.open_session(path, described)
        return runtimes.load(row).open_session(path, threads=self._threads, precision=row.precision)

    def rank(self, candidate: Candidate) -> tuple[LayerSensitivity, ...]:
        """Measure each layer alone, on the calibration images: they are not what is reported on.

        Raises:
            EdgefxError: The layers cannot be told apart.
        """
        row = candidate.target.row
        stage = Stage(
            kind=StageKind.QUANTIZE,
            key=keys.sensitivity(
                row,
                candidate.artifact,
                graph_sha256=self.graphs.record(candidate.target.applied).sha256,
                images=[self._calibration_identity(row), _RANKED_ON],
            ),
            result=Ranking,
            compute=lambda: self._ranked(candidate),
            target=row.name,
            what="sensitivity of the layers",
            clock=row.name,
        )
        return self._memo.get(stage).layers

    def _ranked(self, candidate: Candidate) -> Computed[Ranking, None]:
        from edgefx.analysis.sensitivity import rank

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
        layers = rank(self.graphs.graph(candidate.target.applied), row, path, images, self._memo.progress)
        return Computed(value=Ranking(layers=tuple(layers)), opened=None)


def _placed(artifact: Artifact, folder: Path) -> Artifact:
    return replace(
        artifact, files=tuple(replace(file, path=folder / file.path.name) for file in artifact.files)
    )
