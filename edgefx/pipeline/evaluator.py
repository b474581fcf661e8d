"""Evaluation images, what is right for them, and what the float model answers: an artifact's judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgefx.pipeline import likeness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.pipeline.inputs import Inputs
    from edgefx.protocols import Session, Task
    from edgefx.results import Accuracy
    from edgefx.types import ModelSpec, Pixels, Scores, TensorInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluator:
    """What an artifact is judged by.

    Attributes:
        spec: The model.
        pixels: uint8 [N, H, W, 3], raw RGB.
        labels: The right class of each image; None when unlabelled.
        values: What is right in a regression, or 0 and 1 for each label, float32 [N, values], or for all of
            several outputs; else None.
        baseline: The float model's scores, float32 [N, columns].
        places: Where these images are among the evaluation images.
        sampled_of: Number of evaluation images; None where these are all of them.
    """

    spec: ModelSpec
    pixels: Pixels
    labels: NDArray[np.int64] | None
    values: NDArray[np.float32] | None
    baseline: Scores
    places: Sequence[int]
    sampled_of: int | None

    @classmethod
    def of(cls, inputs: Inputs, sample: Sequence[int] | None) -> Evaluator:
        """Take the evaluation images of a run, or a sample of them, by their places."""
        assert inputs.evaluation is not None
        images, baseline = inputs.evaluation.get(), inputs.baseline
        pixels, labels, values = images.pixels, images.labels, images.values
        places = list(range(len(images)))
        if sample is not None:
            places = list(sample)
            pixels, baseline = pixels[places], baseline[places]
            labels = None if labels is None else labels[places]
            values = None if values is None else values[places]
        return cls(
            spec=inputs.source.spec,
            pixels=pixels,
            labels=labels,
            values=values,
            baseline=baseline,
            places=places,
            sampled_of=None if sample is None else len(images),
        )

    def judge(self, session: Session, outputs: Sequence[TensorInfo], task: Task) -> tuple[Accuracy, Scores]:
        """Run the images through an artifact, and hold its answers against the float model's.

        Args:
            session: The artifact, here or on a device.
            outputs: Its outputs.
            task: Counts images.

        Returns:
            The accuracy, and the scores float32 [N, columns].

        Raises:
            EdgefxError: It cannot be run, or its scores are not finite.
        """
        from edgefx.evaluation import accuracy, tasks
        from edgefx.evaluation import outputs as several

        scores, ran_at = accuracy.run(session, self.pixels, task=task)
        images_per_s = likeness.throughput(session, len(scores), len(scores) / ran_at)
        if self.spec.outputs:
            found = several.compare(
                self.baseline,
                scores,
                self.spec,
                known=several.truths(self.spec, self.values),
                outputs=outputs,
                images_per_s=images_per_s,
            )
            sampled = tuple(
                replace(one, accuracy=replace(one.accuracy, sampled_of=self.sampled_of))
                for one in found.outputs
            )
            return replace(found, sampled_of=self.sampled_of, outputs=sampled), scores
        compared = tasks.compare(
            self.baseline,
            scores,
            task=self.spec.task,
            output=self.spec.output,
            labels=self.labels,
            targets=self.values,
            images_per_s=images_per_s,
            stored=accuracy.stored_as(outputs[0], scores),
            threshold=self.spec.threshold,
        )
        return replace(compared, sampled_of=self.sampled_of), scores
