"""Evaluation images, what is right for them, and what the float model answers: an artifact's judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgefx.pipeline import likeness
from edgefx.scores import chosen, confidences, of_first

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.evaluation.inference import Inferred
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
        names: The files of all evaluation images, relative to their folder.
    """

    spec: ModelSpec
    pixels: Pixels
    labels: NDArray[np.int64] | None
    values: NDArray[np.float32] | None
    baseline: Scores
    places: Sequence[int]
    sampled_of: int | None
    names: Sequence[str]

    @classmethod
    def of(cls, inputs: Inputs, sample: Sequence[int] | None) -> Evaluator:
        """Take the evaluation images of a run, or a sample of them, by their places."""
        assert inputs.evaluation is not None
        images, baseline = inputs.evaluation.get(), inputs.baseline
        pixels, labels, values = images.pixels, images.labels, images.values
        places, root = list(range(len(images))), inputs.evaluation.dataset.root
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
            names=[path.relative_to(root).as_posix() for path in inputs.evaluation.paths],
        )

    def judge(self, session: Session, outputs: Sequence[TensorInfo], task: Task) -> tuple[Accuracy, Inferred]:
        """Run the images through an artifact, and hold its answers against the float model's.

        Args:
            session: The artifact, here or on a device.
            outputs: Its outputs.
            task: Counts images.

        Returns:
            The accuracy, and what it was made of.

        Raises:
            EdgefxError: It cannot be run, or gives no answer to more than a tenth of the images.
        """
        from edgefx.evaluation import accuracy, inference, tasks
        from edgefx.evaluation import outputs as several

        ran = inference.run(session, self.pixels, task=task)
        scores = ran.scores
        images_per_s = likeness.throughput(session, len(scores), len(scores) / ran.images_per_s)
        if self.spec.outputs:
            found = several.compare(
                self.baseline,
                scores,
                self.spec,
                known=several.truths(self.spec, self.values),
                outputs=outputs,
                images_per_s=images_per_s,
                failed=ran.failed,
            )
            sampled = tuple(
                replace(one, accuracy=replace(one.accuracy, sampled_of=self.sampled_of))
                for one in found.outputs
            )
            return replace(found, sampled_of=self.sampled_of, outputs=sampled), ran
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
            failed=ran.failed,
        )
        return replace(compared, sampled_of=self.sampled_of), ran

    def best(self, found: Inferred) -> tuple[tuple[int | None, ...], tuple[float | None, ...]]:
        """Return the best class of each evaluation image, and its probability, where there is an answer.

        The probabilities are empty where the model chooses no class.
        """
        spec, images = self.spec, self.sampled_of or len(found.scores)
        deciding = of_first(found.scores, spec)
        best = chosen(deciding, spec.output, spec.threshold)
        sure = confidences(deciding, spec.output, best) if spec.task.classifies else None
        top1: list[int | None] = [None] * images
        confidence: list[float | None] = [None] * (0 if sure is None else images)
        for place, row in zip(self.places, range(len(best)), strict=True):
            if not found.failed[row]:
                top1[place] = int(best[row])
                if sure is not None:
                    confidence[place] = sure[row]
        return tuple(top1), tuple(confidence)

    def told(self, found: Inferred) -> tuple[str, ...]:
        """Say which images got no answer, as a warning; nothing where all did."""
        from edgefx.evaluation import inference

        names = [self.names[place] for place in self.places]
        return tuple(filter(None, [inference.told(found.reasons, names, images=len(names))]))
