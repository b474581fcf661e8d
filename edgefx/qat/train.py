"""Quantization-aware training: from a post-training artifact's weights, biases and scales to better ones.

The model rounds where the integer kernels round (`edgefx.qat.model`) and starts as the
post-training artifact, so that the first figure of a training is that artifact's, and what is returned is
never worse than it on the validation images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import EdgefxError
from edgefx.protocols import Progress
from edgefx.qat import checkpoint, schedule
from edgefx.qat.checkpoint import State
from edgefx.qat.parameters import FakeQuantization
from edgefx.quantization import QatSettings
from edgefx.training import TrainingEpoch
from edgefx.types import FrozenGraph, ImageSet

if TYPE_CHECKING:
    from edgefx.qat.trainer import Trainer

LOGS = "tensorboard"  # folder of TensorBoard's logs in the workdir


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What training made.

    Attributes:
        quantization: The quantization of the best epoch; the one it started from where training did not help.
        epochs: All of them, the start first.
        best: Number of the best epoch; 0 is the post-training artifact.
        stopped: Why it ended before the last epoch; "" where it did not.
        images: Trained on.
        validated: Images that chose the best epoch.
    """

    quantization: FakeQuantization
    epochs: tuple[TrainingEpoch, ...]
    best: int
    stopped: str
    images: int
    validated: int

    @property
    def helped(self) -> bool:
        """Whether an epoch was better than the post-training artifact."""
        return self.best > 0

    def summary(self) -> str:
        """Say in one line what training brought."""
        start, best = self.epochs[0], self.epochs[self.best]
        done = len(self.epochs) - 1
        if not self.helped:
            return (
                f"{done} epochs of training did not help (signal to noise {start.snr_db:.1f} dB before): "
                "the post-training artifact is kept"
            )
        return (
            f"epoch {self.best} of {done}: agreement {start.agreement:.1%} -> {best.agreement:.1%}, "
            f"signal to noise {start.snr_db:.1f} -> {best.snr_db:.1f} dB on {self.validated} images"
        )


def train(
    graph: FrozenGraph,
    images: ImageSet,
    settings: QatSettings,
    *,
    start: FakeQuantization,
    workdir: Path,
    progress: Progress,
    resume: bool = False,
    teacher: FrozenGraph | None = None,
) -> Trained:
    """Train weights, biases and scales of an integer artifact.

    Args:
        graph: The canonical graph, or one with fewer channels.
        images: To train on and to choose the best epoch; labels are needed in mode supervised only.
        settings: How.
        start: The post-training artifact.
        workdir: Where the checkpoint and TensorBoard's logs go.
        progress: Where each step and each epoch's figures are reported.
        resume: Go on from the checkpoint in `workdir`, if there is one.
        teacher: The graph that mode distill learns from, whose layers have the same names; None for `graph`.

    Raises:
        UsageError: A setting is out of range, or the checkpoint is another training's.
        DataError: Too few images, no labels where they are needed, or labels that do not fit the model.
        ModelError: The model has no layers that could be trained.
        EdgefxError: Out of memory, or the loss overflowed before the first epoch was done.
    """
    schedule.check(settings, images, task=graph.spec.task, classes=graph.spec.classes)
    import tensorflow as tf

    from edgefx.qat.trainer import Trainer

    try:
        with progress.task("preparing training"):
            trainer = Trainer(graph, images, settings, start=start, teacher=teacher or graph)
        most = trainer.most_images()
        if most is not None and most < min(settings.batch_size, len(trainer.split.training)):
            raise _too_large(settings, fitting=most)
        return _Run(trainer, graph, images, settings, workdir=workdir, progress=progress).run(resume=resume)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise _too_large(settings, fitting=settings.batch_size - 1) from error


def _too_large(settings: QatSettings, *, fitting: int) -> EdgefxError:
    """Say that a batch does not fit into memory, and what gives the same result and does.

    Args:
        settings: What was asked for.
        fitting: Images that may fit at once.
    """
    smaller, gradients = settings.batch_size, settings.accumulate
    while smaller > 1 and smaller > fitting:
        smaller, gradients = smaller // 2, 2 * gradients
    return EdgefxError(
        f"out of memory training on {settings.batch_size} images at once",
        hint=f"train with batch size {smaller}; {gradients} gradients a step give the same result",
    )


class _Run:
    """The epochs of a training."""

    def __init__(
        self,
        trainer: Trainer,
        graph: FrozenGraph,
        images: ImageSet,
        settings: QatSettings,
        *,
        workdir: Path,
        progress: Progress,
    ) -> None:
        self._trainer = trainer
        self._settings = settings
        self._workdir = workdir
        self._progress = progress
        start = trainer.variables()
        self._identity = checkpoint.fingerprint(graph.spec, images, settings, start)
        self._best = start
        self._epochs: list[TrainingEpoch] = []

    def run(self, *, resume: bool) -> Trained:
        """Train until the last epoch, or until more does not help."""
        state = checkpoint.load(self._workdir, identity=self._identity) if resume else None
        if state is not None:
            self._trainer.assign(state.variables, state.optimizers)
            self._epochs, self._best = list(state.epochs), state.best
            self._progress.note(f"resuming after epoch {len(self._epochs) - 1} of {self._settings.epochs}")
        else:
            with self._progress.task("measuring the post-training model"):
                self._epochs = [self._measured(0, None, time.perf_counter())]
        with _Logs(self._workdir / LOGS) as logs:
            stopped = self._train(logs)
        self._trainer.assign(self._best)
        split = self._trainer.split
        return Trained(
            quantization=self._trainer.read(),
            epochs=tuple(self._epochs),
            best=self._best_number(),
            stopped=stopped,
            images=len(split.training),
            validated=len(split.validation),
        )

    def _train(self, logs: _Logs) -> str:
        """Run the epochs that are left; returns why training ended early, or ""."""
        from edgefx.qat.trainer import DivergedError

        settings, images = self._settings, len(self._trainer.split.training)
        left = range(len(self._epochs) - 1, settings.epochs)
        with self._progress.task("training", len(left) * images) as task:
            for number in left:
                losses = [epoch.validation_loss for epoch in self._epochs]
                if schedule.is_over(losses, settings.patience):
                    return f"{settings.patience} epochs without a better one"
                begun = time.perf_counter()
                try:
                    loss = self._trainer.epoch(number, task)
                except DivergedError:
                    message = (
                        f"the loss overflowed in epoch {number + 1}; train with a learning rate below "
                        f"{settings.learning_rate:g}, for example {settings.learning_rate / 10:g}"
                    )
                    self._progress.warn(f"{message}; the best epoch before it is kept")
                    return message
                epoch = self._measured(number + 1, loss, begun)
                self._epochs.append(epoch)
                if self._best_number() == epoch.number:
                    self._best = self._trainer.variables()
                self._save()
                logs.add(epoch)
                self._progress.note(self._described(epoch))
        return ""

    def _measured(self, number: int, loss: float | None, begun: float) -> TrainingEpoch:
        trained = time.perf_counter()
        figures = self._trainer.evaluate()
        speed = len(self._trainer.split.training) / max(trained - begun, 1e-9)
        return TrainingEpoch(
            number=number,
            loss=loss,
            validation_loss=figures.loss,
            agreement=figures.agreement,
            accuracy=figures.accuracy,
            snr_db=figures.snr_db,
            images_per_s=None if loss is None else speed,
            seconds=time.perf_counter() - begun,
        )

    def _best_number(self) -> int:
        return min(self._epochs, key=lambda epoch: (epoch.validation_loss, epoch.number)).number

    def _save(self) -> None:
        state = State(
            epochs=tuple(self._epochs),
            variables=self._trainer.variables(),
            optimizers=self._trainer.optimizers(),
            best=self._best,
        )
        checkpoint.save(self._workdir, state, identity=self._identity)

    def _described(self, epoch: TrainingEpoch) -> str:
        left = (self._settings.epochs - epoch.number) * epoch.seconds
        accuracy = "" if epoch.accuracy is None else f"accuracy {epoch.accuracy:.1%}, "
        return (
            f"epoch {epoch.number} of {self._settings.epochs}: loss {epoch.loss:.4g}, validation "
            f"{epoch.validation_loss:.4g}, agreement {epoch.agreement:.1%}, {accuracy}signal to noise "
            f"{epoch.snr_db:.1f} dB, {epoch.images_per_s:.1f} images/s"
            + (f", at most {left:.0f} s left" if left else "")
        )


class _Logs:
    """TensorBoard's logs of a training, one point per epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, epoch: TrainingEpoch) -> None:
        """Write an epoch's figures."""
        import tensorflow as tf
        from tensorflow.python.ops import summary_ops_v2  # tf.summary.scalar needs the tensorboard package

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder))
        values = {
            "loss/training": epoch.loss,
            "loss/validation": epoch.validation_loss,
            "validation/agreement": epoch.agreement,
            "validation/accuracy": epoch.accuracy,
            "validation/snr_db": epoch.snr_db,
            "speed/images_per_s": epoch.images_per_s,
        }
        with self._writer.as_default():
            for name, value in values.items():
                if value is not None:
                    summary_ops_v2.scalar(name, value, step=epoch.number)
