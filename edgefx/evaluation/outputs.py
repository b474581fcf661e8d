"""Compare an artifact of several outputs with the float baseline: each output by its own task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefx.evaluation import accuracy, tasks
from edgefx.measured import OutputAccuracy
from edgefx.results import Accuracy
from edgefx.scores import by_class
from edgefx.types import ModelSpec, OutputSpec, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefx.types import Scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is right for each image; each None where it is not known.

    Attributes:
        labels: Of an output that chooses a class, int64 [N].
        targets: Quantities, or 0 and 1 for each label, float32 [N, values].
    """

    labels: NDArray[np.int64] | None = None
    targets: NDArray[np.float32] | None = None


UNKNOWN = Truth()


def truths(spec: ModelSpec, values: NDArray[np.float32] | None) -> dict[str, Truth]:
    """Return what is right for each output.

    Args:
        spec: A model with several outputs.
        values: What `edgefx.data.labels.fit` put together, float32 [N, ...]; NaN where it is not known.
    """
    if values is None:
        return {}
    found, start = {}, 0
    for one in spec.outputs:
        own = values[:, start : start + one.truths]
        start += one.truths
        if own.shape[1] and not np.isnan(own).any():
            is_class = one.task.classifies or one.task.is_embedding
            found[one.name] = Truth(labels=own[:, 0].astype(np.int64)) if is_class else Truth(targets=own)
    return found


def compare(
    baseline: Scores,
    scores: Scores,
    spec: ModelSpec,
    *,
    known: Mapping[str, Truth],
    outputs: Sequence[TensorInfo],
    images_per_s: float,
    failed: NDArray[np.bool_] | None = None,
) -> Accuracy:
    """Compare an artifact's answers with the baseline's on the same images, output by output.

    Args:
        baseline: float32 [N, columns] of the float Keras model.
        scores: float32, the same of the artifact.
        spec: The model.
        known: What is right, from `truths`.
        outputs: The artifact's, in the model's order.
        images_per_s: From `inference.run`.
        failed: bool [N], which images the artifact gave no answer to; None where it did to all.

    Raises:
        ArtifactError: The artifact's answers have another shape than the baseline's, or are not finite.
        ModelError: The baseline's are not finite.
        DataError: No images, or labels that do not fit.
    """
    accuracy.check(baseline, scores)
    stored = dict(zip((one.name for one in spec.outputs), outputs, strict=True))

    def own(one: OutputSpec, place: slice) -> Accuracy:
        truth = known.get(one.name, UNKNOWN)
        before, after = baseline[:, place], scores[:, place]
        if one.task.classifies:
            before, after = by_class(before, one.output), by_class(after, one.output)
        return tasks.compare(
            before,
            after,
            task=one.task,
            output=one.output,
            labels=truth.labels,
            targets=truth.targets,
            images_per_s=images_per_s,
            stored=accuracy.stored_as(stored[one.name], scores[:, place]),
            threshold=one.threshold,
            failed=failed,
        )

    return _joined(spec, own)


def difference(earlier: Scores, later: Scores, spec: ModelSpec, *, floor: float = 0.0) -> Accuracy:
    """Compare two sets of scores of a model, labels aside; see `tasks.difference`."""
    if not spec.outputs:
        return tasks.difference(earlier, later, spec.output, floor=floor)
    return _joined(
        spec,
        lambda one, place: tasks.difference(earlier[:, place], later[:, place], one.output, floor=floor),
    )


def _joined(spec: ModelSpec, compared: Callable[[OutputSpec, slice], Accuracy]) -> Accuracy:
    """Put together what was found of each output.

    What a classifier has is that of the output that the model is described by. Divergences of outputs that
    are taken for independent add up.
    """
    found = [(one, compared(one, place)) for one, place in spec.parts]
    first = next(each for one, each in found if one is spec.first)
    return replace(
        first,
        mean_kl=sum(each.mean_kl for _, each in found),
        max_abs_dp=max(each.max_abs_dp for _, each in found),
        outputs=tuple(OutputAccuracy(name=one.name, task=one.task, accuracy=each) for one, each in found),
    )
