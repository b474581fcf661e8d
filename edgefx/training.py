"""What quantization-aware training brought: part of a run's results."""

from __future__ import annotations

from dataclasses import dataclass

from edgefx.vocabulary import QatMode


@dataclass(frozen=True, kw_only=True)
class TrainingEpoch:
    """An epoch of quantization-aware training; number 0 is the post-training artifact.

    Attributes:
        number: From 1.
        loss: Mean loss over the training images; None before training.
        validation_loss: Mean loss over the validation images, rounded as the integer kernels round.
        agreement: Share of the validation images with the float model's best class.
        accuracy: Share of the validation images with the right class; None without labels.
        snr_db: Signal to noise of the validation images' scores against the float model's.
        images_per_s: Training images per second; None before training.
        seconds: Wall time of the epoch.
    """

    number: int
    loss: float | None
    validation_loss: float
    agreement: float
    accuracy: float | None
    snr_db: float
    images_per_s: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainingEffect:
    """What training brought to one artifact, on the images that chose the best epoch.

    Attributes:
        loss_before: Loss of the post-training artifact: the mean KL divergence of its answers from the float
            model's, in mode supervised their mean cross entropy with the labels, or their mean
            square error over the variance of what is right in a regression.
        loss_after: The same loss of the trained artifact.
        images: Number of images that the losses were measured on.
        insisted: Whether the trained artifact was asked for, better or not.
    """

    loss_before: float
    loss_after: float
    images: int
    insisted: bool = False

    @property
    def kept(self) -> bool:
        """Whether the trained artifact is the one that was kept."""
        return self.insisted or self.loss_after <= self.loss_before


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What quantization-aware training brought.

    Attributes:
        mode: What it learned from.
        images: Number of images that it trained on.
        validated: Number of images that chose the best epoch.
        epochs: Every epoch, the post-training artifact first.
        best: Number of the best epoch; 0 where training did not help, and post-training artifacts are made.
        stopped: Why it ended before the last epoch; "" where it did not.
        summary: All of it in one line.
        seconds: Wall time, with the post-training quantization that it starts from.
    """

    mode: QatMode
    images: int
    validated: int
    epochs: tuple[TrainingEpoch, ...]
    best: int
    stopped: str
    summary: str
    seconds: float

    @property
    def helped(self) -> bool:
        """Whether an epoch was better than the post-training artifact."""
        return self.best > 0
