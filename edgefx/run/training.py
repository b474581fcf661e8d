"""Quantization-aware training as a stage: one training serves all INT8 targets of a run.

It starts from the fully integer TFLite artifact of post-training quantization, and what it returns is never
worse than that on the validation images; see `edgefx.quantize.qat`. Its checkpoint lies in the output folder
until it is done, so that a run that was killed can go on (``--resume``).
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.cache.entry import Entry, Json, Key
from edgefx.errors import EdgefxError
from edgefx.results import TrainingEffect, TrainingResult
from edgefx.types import (
    FrozenGraph,
    ImageSet,
    Precision,
    Progress,
    QatMode,
    QatSettings,
    QuantScheme,
    Runtime,
    Stage,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.quantize.fakequant import FakeQuantization
    from edgefx.quantize.qat import Trained
    from edgefx.run.imageset import Images
    from edgefx.run.inputs import Inputs
    from edgefx.run.ledger import Ledger
    from edgefx.targets import TargetRow
    from edgefx.targets.tflite_trained import Template
    from edgefx.types import Pixels, Scores

FOLDER = "training"  # in the output folder
_INTEGER, _FLOAT, _ARRAYS = "integer.tflite", "float.tflite", "trained.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Finished:
    """What a training leaves: the artifact it started from, and what belongs into it."""

    template: Template
    quantization: FakeQuantization


class Training:
    """The training of a run, found in the cache or carried out when an artifact first needs it.

    Args:
        settings: How to train.
        scheme: Post-training quantization of the artifact that it starts from.
        inputs: Graph, calibration and training images.
        folder: Where checkpoint and TensorBoard's logs go.
        ledger: Notes and cache.
        progress: Told of each epoch.
        resume: Go on from the checkpoint in `folder`.
        insists: Whether other runtimes keep the trained artifact even where the post-training one is better.
    """

    def __init__(
        self,
        settings: QatSettings,
        scheme: QuantScheme,
        *,
        inputs: Inputs,
        folder: Path,
        ledger: Ledger,
        progress: Progress,
        resume: bool,
        insists: bool = False,
    ) -> None:
        assert scheme.precision is Precision.INT8
        self._settings = settings
        self._scheme = scheme
        self._inputs = inputs
        self._folder = folder
        self._ledger = ledger
        self._progress = progress
        self._resume = resume
        self.insists = insists
        self._finished: _Finished | None = None
        self._transferred: FrozenGraph | None = None
        self._result: TrainingResult | None = None
        self._error: EdgefxError | None = None

    @property
    def key(self) -> Key:
        """Of its result in the cache."""
        assert self._inputs.calibration is not None
        assert self._inputs.training is not None
        return keys.training(
            self._settings,
            self._scheme,
            graph_sha256=self._inputs.source.record.sha256,
            calibration=_identity(self._inputs.calibration),
            images=_identity(self._inputs.training),
        )

    @property
    def result(self) -> TrainingResult | None:
        """What it brought; None while it is neither in the cache nor carried out."""
        if self._result is None:
            self._recall()
        return self._result

    def helped(self) -> bool:
        """Train if need be; say whether an epoch was better than the post-training artifact.

        Raises:
            EdgefxError: It failed; every target that needs it fails alike.
        """
        if self.result is None:
            self._train()
        assert self._result is not None
        return self._result.helped

    def convert(
        self, row: TargetRow, graph: FrozenGraph, scheme: QuantScheme, calibration: ImageSet, out: Path
    ) -> tuple[Path, ...]:
        """Write what was trained as an artifact for one runtime, with the trained ranges.

        Args:
            row: An INT8 target.
            graph: The canonical graph, before training.
            scheme: The artifact's ends.
            calibration: Images for what the other runtimes' rounding shifts, and the few ranges that training
                did not know.
            out: The main file.

        Raises:
            EdgefxError: Training or conversion failed.
        """
        if self._finished is None:
            self._fetch(graph)
        assert self._finished is not None
        trained = self._finished.quantization
        if row.runtime is Runtime.TFLITE:
            from edgefx.targets import tflite_trained

            return tflite_trained.convert(self._finished.template, trained, graph, scheme, out)
        from edgefx.targets import onnx, openvino

        if self._transferred is None:
            self._transferred = self._transfer(graph, calibration)
        convert = {Runtime.ONNX: onnx.convert, Runtime.OPENVINO: openvino.convert}[row.runtime]
        return convert(self._transferred, scheme, calibration, out, self._progress, spans=trained.spans())

    def _transfer(self, graph: FrozenGraph, calibration: ImageSet) -> FrozenGraph:
        from edgefx.quantize import transfer
        from edgefx.targets import tflite_trained

        assert self._finished is not None
        return transfer.transferred(
            self._finished.quantization,
            graph,
            graph.workdir / "trained",
            start=tflite_trained.read(self._finished.template, graph),
            calibration=calibration,
            imitates=self._settings.mode is QatMode.DISTILL,
            progress=self._progress,
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
        from edgefx import targets
        from edgefx.evaluate import accuracy

        pixels, labels = self._validation
        output = self._inputs.source.spec.output
        losses = []
        for path in (before, after):
            with targets.load(row).open(path, threads, row.precision) as session:
                scores, speed = accuracy.run(session, pixels)
            if self._settings.mode is QatMode.SUPERVISED:
                assert labels is not None
                losses.append(accuracy.cross_entropy(scores, labels, output=output))
            else:
                compared = accuracy.compare(self._exact, scores, None, output=output, images_per_s=speed)
                losses.append(compared.mean_kl)
        return TrainingEffect(loss_before=losses[0], loss_after=losses[1], images=len(pixels))

    @cached_property
    def _validation(self) -> tuple[Pixels, NDArray[np.int64] | None]:
        """The images that chose the best epoch, and their labels."""
        from edgefx.quantize import qat_plan

        assert self._inputs.training is not None
        images = self._inputs.training.get()
        chosen = qat_plan.split(images, self._settings).validation
        return images.pixels[chosen], None if images.labels is None else images.labels[chosen]

    @cached_property
    def _exact(self) -> Scores:
        """The float graph's answers on these images; each runtime is compared with them."""
        from edgefx.models.freeze import GraphRunner

        graph = self._inputs.source.graph
        return GraphRunner(graph.path, output=graph.output_name).infer(self._validation[0])

    # ---------------------------------------- the cache

    def _recall(self) -> Entry | None:
        found = self._ledger.recall(self.key, TrainingResult, Stage.QUANTIZE, what="training")
        if found is None:
            return None
        self._result = found.value
        return found.entry

    def _fetch(self, graph: FrozenGraph) -> None:
        """Get what was trained from the cache, or train."""
        entry = self._recall()
        names = (_INTEGER, _FLOAT, _ARRAYS)
        files = [self._ledger.store.read(entry, name) if entry else None for name in names]
        integer, exact, arrays = files
        if integer is None or exact is None or arrays is None:
            if entry is not None:
                self._ledger.forget(self.key)
            self._train()
            return
        import numpy as np

        from edgefx.targets import tflite_trained

        template = tflite_trained.Template(quantized=integer, float_model=exact)
        with np.load(io.BytesIO(arrays)) as content:
            trained = tflite_trained.read(template, graph).with_arrays(dict(content))
        self._finished = _Finished(template=template, quantization=trained)

    # ---------------------------------------- training

    def _train(self) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._finished, self._result = self._carried_out()
        except EdgefxError as error:
            self._error = error
            raise
        self._ledger.keep(self.key, self._result, _files(self._finished))

    def _carried_out(self) -> tuple[_Finished, TrainingResult]:
        from edgefx.quantize import qat, qat_checkpoint
        from edgefx.targets import tflite_trained

        inputs = self._inputs
        assert inputs.calibration is not None
        assert inputs.training is not None
        graph, calibration, images = inputs.source.graph, inputs.calibration.get(), inputs.training.get()
        begun = time.perf_counter()
        with self._ledger.stage(Stage.QUANTIZE, "training"):
            with self._progress.task("quantizing after training, to start from"):
                template = tflite_trained.template(graph, self._scheme, calibration, self._progress)
            trained = qat.train(
                graph,
                images,
                self._settings,
                start=tflite_trained.read(template, graph),
                workdir=self._folder,
                progress=self._progress,
                resume=self._resume,
            )
        (self._folder / qat_checkpoint.NAME).unlink(missing_ok=True)
        if not trained.helped:
            self._ledger.warn(trained.summary())
        result = _result(trained, self._settings, seconds=time.perf_counter() - begun)
        return _Finished(template=template, quantization=trained.quantization), result


def _identity(images: Images) -> Json:
    return [images.sha256, images.skip_bad]


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


def _files(finished: _Finished) -> Mapping[str, bytes]:
    import numpy as np

    arrays = io.BytesIO()
    np.savez(arrays, **finished.quantization.arrays())
    return {
        _INTEGER: finished.template.quantized,
        _FLOAT: finished.template.float_model,
        _ARRAYS: arrays.getvalue(),
    }
