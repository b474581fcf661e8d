"""Quantization-aware training as a stage: one training serves all INT8 targets of a run.

It starts from the fully integer TFLite artifact of post-training quantization, and what it returns is never
worse than that on the validation images; see `edgefx.qat.train`. Its checkpoint lies in the output folder
until it is done, so that a run that was killed can go on (``--resume``).
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx import runtimes
from edgefx.cache import keys
from edgefx.errors import UsageError
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.pruning import Graphs
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.quantization import MOST_VALUES, UNCOMPRESSED, QatSettings, QuantScheme, WeightCompression
from edgefx.recipe.schema import QatSection
from edgefx.runtimes.protocol import ConversionRequest, QatTemplate, Trainable, TrainedQuantization
from edgefx.system.blas import one_thread
from edgefx.training import TrainingEffect, TrainingResult
from edgefx.types import FrozenGraph, ImageSet, IoDtype, Precision, QatMode
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.pipeline.plan import Plan
    from edgefx.qat.parameters import FakeQuantization
    from edgefx.qat.train import Trained
    from edgefx.targets import TargetRow
    from edgefx.types import Pixels, Scores

FOLDER = "training"  # in the output folder
_INTEGER, _FLOAT, _ARRAYS = "integer.tflite", "float.tflite", "trained.npz"


class Training:
    """The training of a run, recalled or carried out when an artifact first needs it.

    Args:
        section: How to train.
        inputs: Graph, calibration and training images.
        memo: Recalls, computes and keeps.
        seed: The seed of everything that is sampled.
        folder: Where checkpoint and TensorBoard's logs go.
        resume: Go on from the checkpoint in `folder`.
        compression: Which channels are removed before training, and how few values weights have in it; it
            then makes good what that lost.

    Attributes:
        insists: Whether other runtimes keep the trained artifact even where the post-training one is better.
    """

    def __init__(
        self,
        section: QatSection,
        *,
        inputs: Inputs,
        memo: Memo,
        seed: int,
        folder: Path,
        resume: bool,
        compression: WeightCompression = UNCOMPRESSED,
    ) -> None:
        self.insists = section.keep == "trained"
        self._settings = section.settings(seed=seed)
        self._scheme = QuantScheme(  # of the post-training artifact that training starts from
            precision=Precision.INT8,
            io_dtype=IoDtype.INT8,
            seed=seed,
            effort=section.effort,
            ranges=section.ranges,
            compression=compression.of_integers,
        )
        self._inputs = inputs
        self._memo = memo
        self._folder = folder
        self._resume = resume
        self._transferred: FrozenGraph | None = None
        self._graphs, self._compression = Graphs(inputs, memo, seed=seed), compression

    @cached_property
    def stage(self) -> Stage[TrainingResult, TrainedQuantization]:
        """What training brings, and what it found."""
        assert self._inputs.calibration is not None
        assert self._inputs.training is not None
        return Stage(
            kind=StageKind.QUANTIZE,
            key=keys.training(
                self._settings,
                self._scheme,
                graph_sha256=self._graphs.record(self._compression).sha256,
                teacher_sha256=self._inputs.source.record.sha256,
                calibration=self._inputs.calibration.identity,
                images=self._inputs.training.identity,
            ),
            result=TrainingResult,
            compute=self._trained,
            restore=self._restored,
            what="training",
            clock="training",
        )

    @property
    def result(self) -> TrainingResult | None:
        """What it brought; None while it is neither in the cache nor carried out."""
        return self._memo.peek(self.stage)

    def helped(self) -> bool:
        """Train if need be; say whether an epoch was better than the post-training artifact.

        Raises:
            EdgefxError: It failed; every target that needs it fails alike.
        """
        return self._memo.get(self.stage).helped

    def quantization(self, row: TargetRow, graph: FrozenGraph, calibration: ImageSet) -> TrainedQuantization:
        """Return what was trained, as the runtime of a target takes it.

        Args:
            row: An INT8 target.
            graph: The canonical graph, before training.
            calibration: Images for what the rounding of other runtimes than the trained one shifts.

        Raises:
            EdgefxError: Training failed.
        """
        finished = self._memo.open(self.stage)
        if isinstance(runtimes.load(row), Trainable):
            return finished
        if self._transferred is None:
            self._transferred = self._transfer(finished, graph, calibration)
        return replace(finished, graph=self._transferred)

    def _transfer(
        self, finished: TrainedQuantization, graph: FrozenGraph, calibration: ImageSet
    ) -> FrozenGraph:
        from edgefx.qat import transfer

        return transfer.transferred(
            finished.parameters,
            graph,
            graph.workdir / "trained",
            start=runtimes.trainable().read_template(finished.template, graph),
            calibration=calibration,
            imitates=self._settings.mode is QatMode.DISTILL and not self._compression.narrows,
            progress=self._memo.progress,
        )

    def effect(self, row: TargetRow, before: Path, after: Path, *, threads: int) -> TrainingEffect:
        """Run a post-training and a trained artifact over the images that chose the best epoch.

        Args:
            row: Their target.
            before: The post-training artifact.
            after: The trained one.
            threads: Intra-op threads.

        Raises:
            EdgefxError: One of them cannot be run, or its scores are not finite.
        """
        from edgefx.evaluation import accuracy, inference, tasks
        from edgefx.evaluation.outputs import difference

        pixels, right = self._validation
        spec = self._inputs.source.spec
        losses = []
        for path in (before, after):
            runtime = runtimes.load(row)
            with runtime.open_session(path, threads=threads, precision=row.precision) as session:
                scores = inference.run(session, pixels).scores
            if self._settings.mode is not QatMode.SUPERVISED:
                losses.append(difference(self._exact, scores, spec).mean_kl)
            elif spec.task.classifies:
                losses.append(accuracy.cross_entropy(scores, right, output=spec.output))
            else:
                losses.append(tasks.loss(scores, right, output=spec.output))
        return TrainingEffect(loss_before=losses[0], loss_after=losses[1], images=len(pixels))

    @cached_property
    def _validation(self) -> tuple[Pixels, Any]:
        """The images that chose the best epoch, and what is right for them, where that is known."""
        from edgefx.qat import schedule

        assert self._inputs.training is not None
        images = self._inputs.training.get()
        chosen = schedule.split(images, self._settings).validation
        right = images.labels if images.values is None else images.values
        return images.pixels[chosen], None if right is None else right[chosen]

    @cached_property
    def _exact(self) -> Scores:
        """The float graph's answers on these images; each runtime is compared with them."""
        from edgefx.models.graph.freeze import GraphRunner

        graph = self._inputs.source.graph
        return GraphRunner(graph.path, outputs=graph.output_names).infer(self._validation[0])

    # ---------------------------------------- the stage

    def _restored(self, result: TrainingResult, files: KeptFiles) -> TrainedQuantization:
        import numpy as np

        del result
        template = QatTemplate(quantized=files.read(_INTEGER), float_model=files.read(_FLOAT))
        graph = self._graphs.graph(self._compression)
        with np.load(io.BytesIO(files.read(_ARRAYS))) as content:
            trained = runtimes.trainable().read_template(template, graph).with_arrays(dict(content))
        return TrainedQuantization(template=template, parameters=trained)

    def _trained(self) -> Computed[TrainingResult, TrainedQuantization]:
        from edgefx.qat import checkpoint, train

        inputs, progress = self._inputs, self._memo.progress
        assert inputs.calibration is not None
        assert inputs.training is not None
        graph, calibration = self._graphs.graph(self._compression), inputs.calibration.get()
        images = inputs.training.get()
        runtime = runtimes.trainable()
        request = ConversionRequest(graph=graph, scheme=self._scheme, calibration=calibration)
        begun = time.perf_counter()
        with progress.task("quantizing after training, to start from"), one_thread():
            template = runtime.template(request, progress)
        trained = train.train(
            graph,
            images,
            self._settings,
            start=self._start(runtime.read_template(template, graph)),
            teacher=inputs.source.graph,
            workdir=self._folder,
            progress=progress,
            resume=self._resume,
        )
        (self._folder / checkpoint.NAME).unlink(missing_ok=True)
        if not trained.helped:
            self._memo.warn(
                trained.summary(),
                to_try="more images, or a smaller --learning-rate; --effort high needs no training",
            )
        result = _result(trained, self._settings, seconds=time.perf_counter() - begun)
        finished = TrainedQuantization(template=template, parameters=trained.quantization)
        return Computed(value=result, opened=finished, files=_files(finished))

    def _start(self, template: FakeQuantization) -> FakeQuantization:
        """Return what training starts from: weights that share a value go on sharing one, zeros stay zero."""
        asked = self._compression
        if asked.clusters:
            template = template.clustered(asked.values or MOST_VALUES)
        return template.pruned() if asked.prunes else template


def training_of(plan: Plan, inputs: Inputs, memo: Memo, *, resume: bool = False) -> Training | None:
    """Return the training that a plan asks for.

    Raises:
        UsageError: The targets that it serves are to be compressed in different ways.
    """
    section = plan.recipe.quantize
    if not isinstance(section, QatSection):
        return None
    folder = plan.recipe.output / FOLDER
    trained = {one.name: one.applied for one in plan.targets if one.row.precision is Precision.INT8}
    if len(set(trained.values())) > 1:
        raise UsageError(
            f"training makes one model for {', '.join(trained)}, and these are to be compressed differently",
            hint="compile them in runs of their own, or all with the same --cluster and --prune",
        )
    return Training(
        section,
        inputs=inputs,
        memo=memo,
        seed=plan.recipe.seed,
        folder=folder,
        resume=resume,
        compression=next(iter(trained.values()), UNCOMPRESSED),
    )


def _result(trained: Trained, settings: QatSettings, *, seconds: float) -> TrainingResult:
    return TrainingResult(
        mode=settings.mode,
        images=trained.images,
        validated=trained.validated,
        epochs=trained.epochs,
        best=trained.best,
        stopped=trained.stopped,
        summary=trained.summary(),
        seconds=seconds,
    )


def _files(finished: TrainedQuantization) -> Mapping[str, bytes]:
    import numpy as np

    arrays = io.BytesIO()
    np.savez(arrays, **finished.parameters.arrays())
    return {
        _INTEGER: finished.template.quantized,
        _FLOAT: finished.template.float_model,
        _ARRAYS: arrays.getvalue(),
    }
