"""A model's scores as all that compares them takes them: one row per image, one column per class.

A model for two classes may have one score only, which says how sure it is of the second. The first class's
score follows from it, so that nothing behind this module needs to know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgefx.types import OutputKind, OutputMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgefx.types import ModelSpec, Scores, TensorInfo
    from edgefx.vocabulary import ScoreFunction


def of_first(scores: Scores, spec: ModelSpec) -> Scores:
    """Return the scores of the output that a model with several is described by; else all of them.

    Args:
        scores: float32 [N, columns].
        spec: The model.

    Returns:
        float32 [N, classes], a column per class.
    """
    for one, place in spec.parts:
        if one is spec.first:
            return by_class(scores[:, place], one.output)
    return scores


def output_of(outputs: Sequence[TensorInfo], spec: ModelSpec) -> TensorInfo:
    """Return the output of an artifact that its model is described by."""
    return outputs[0] if spec.first is None else outputs[spec.outputs.index(spec.first)]


def described(outputs: Sequence[TensorInfo], spec: ModelSpec) -> tuple[OutputMetadata, ...]:
    """Return what the several outputs of an artifact are; none where there is one.

    Args:
        outputs: The artifact's, in the model's order.
        spec: The model.
    """
    return tuple(
        OutputMetadata(tensor=tensor, output_kind=one.output, task=one.task)
        for tensor, one in zip(outputs, spec.outputs, strict=bool(spec.outputs))
    )


def of_logits(logits: Scores, function: ScoreFunction | None) -> Scores:
    """Return the scores of an artifact that ends before the function that makes them.

    Args:
        logits: As the artifact gives them, float32 [N, outputs].
        function: From `ScoreFunction.of`; None where they are scores already.
    """
    if function is None:
        return logits
    import numpy as np

    # exp overflows for no argument that is at most 0.
    if function.value == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits < 0, small, 1) / (1 + small), np.float32)


def by_class(scores: Scores, output: OutputKind) -> Scores:
    """Return scores with a column per class.

    Args:
        scores: As a model gives them, float32 [N, outputs].
        output: What they are.

    Returns:
        The same, but of one probability p the two of the classes, ``1 - p`` and ``p``, and of one logit z
        the two logits ``0`` and ``z``, whose softmax is the sigmoid of z; float32 [N, classes].
    """
    if scores.shape[1] != 1 or output is OutputKind.VALUES:
        return scores
    import numpy as np

    first = 1 - scores if output is OutputKind.PROBABILITIES else np.zeros_like(scores)
    return np.concatenate([first, scores], axis=1, dtype=np.float32)


def chosen(scores: Scores, output: OutputKind, threshold: float = 0.5) -> NDArray[np.int64]:
    """Return the class that each row of scores stands for; where scores tie, the lower one.

    Args:
        scores: From `by_class`, float32 [N, classes].
        output: What they are.
        threshold: Of two classes, the probability of the second above which it is chosen.
    """
    import numpy as np

    if threshold == 0.5 or scores.shape[1] != 2:
        best: NDArray[np.int64] = scores.argmax(1)
        return best
    is_logit = output is OutputKind.LOGITS
    least = math.log(threshold / (1 - threshold)) if is_logit else 2 * threshold - 1
    return np.asarray(scores[:, 1] - scores[:, 0] > least, np.int64)


def confidences(scores: Scores, output: OutputKind, classes: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the probability of each image's class, to four digits.

    Args:
        scores: float32 [N, classes].
        output: Whether the scores are probabilities or logits.
        classes: The class of each image, from `chosen`.
    """
    import numpy as np

    of_class = scores[np.arange(len(scores)), classes]
    if output is not OutputKind.PROBABILITIES:
        of_class = 1 / np.exp(scores - of_class[:, None]).sum(1)
    return tuple(of_class.astype(np.float64).clip(0, 1).round(4).tolist())


def kind_of(name: str) -> OutputKind:
    """Tell what a session answers by the name that edgefx gives the artifact's output.

    Files of other origin name it otherwise: their scores are taken for probabilities. So are those that
    sessions make of the logits of an artifact that ends before its model does (`of_logits`).
    """
    return OutputKind(name) if name in set(OutputKind) else OutputKind.PROBABILITIES
