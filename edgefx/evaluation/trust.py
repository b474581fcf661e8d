"""What makes an accuracy drop mean nothing, however small it is. Standard library only.

A drop is a difference. It is small for a model that knows nothing as well, for an artifact that answers
otherwise but is right as often, and on a handful of images. `of_model` and `of_artifact` look for such
reasons; `judged` makes gates on accuracy INCONCLUSIVE where there is one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from edgefx.evaluation.statistics import paired_drop_ci, wilson_ci
from edgefx.measured import Accuracy
from edgefx.metrics import METRICS, Figures, Origin
from edgefx.verdicts import Doubt, Gate, GateResult, Verdict
from edgefx.vocabulary import OnInconclusive

_DROPS = ("drop_pp", "drop_percent", "drop_top5_pp")
_CHANCE = 1e-3  # of taking guesses for another order of the classes
_PERMUTED = 10  # exchanged labels that are counted among the choices; more make numbers for their own sake
_LEAST = 1e-12  # what a chance is divided down to
_FEWEST_OF_CLASS = 5  # images of a class whose label is said to be another one's
_MOST_ANSWERS = 0.5  # share that an artifact must answer as the model does, whatever both are worth
_SHOWN = 3  # classes named
# Of images that they never saw, the models that edgefx was tried on are right on 92.1, 94.0 and 99.4 %.
_NEARLY_ALL = 0.995
_ENOUGH = 100  # images of which that many are remarkable
_PREPROCESSING = (
    "check that the model is trained, that it takes raw pixels in [0, 255], and that the order of the class"
    " folders, or the indices in labels.csv, are those it was trained with"
)


def of_model(
    predicted: Sequence[int], labels: Sequence[int], *, class_names: Sequence[str] = (), who: str
) -> tuple[Doubt, ...]:
    """Say why a model's accuracy on some images is none that a drop could be measured against.

    Args:
        predicted: Its best class of each image.
        labels: The right class of each.
        class_names: By index; empty where unknown.
        who: The model, for messages.
    """
    images = len(labels)
    if images < 2:
        return ()
    members = Counter(labels)
    frequent, most = members.most_common(1)[0]
    named = _Namer(class_names)
    if len(members) == 1:
        reason = f"all {images} evaluation images are of one class, {named(frequent)}"
        return (
            Doubt(
                name="one class",
                reason=f"{reason}: a model that always answers it would be right on all of them",
                advice="evaluate on images of all classes",
            ),
        )
    shuffled = _permuted(predicted, labels, named, who)
    if shuffled is not None:
        return (shuffled,)
    if len(set(predicted)) == 1:
        return (
            Doubt(
                name="one answer",
                reason=f"{who} answers {named(predicted[0])} on all {images} images",
                advice=_PREPROCESSING,
            ),
        )
    right = [answer == label for answer, label in zip(predicted, labels, strict=True)]
    only_model = sum(one and label != frequent for one, label in zip(right, labels, strict=True))
    only_constant = sum(not one and label == frequent for one, label in zip(right, labels, strict=True))
    # How much better the model is than an answer that is always the same, image by image.
    low, high = paired_drop_ci(only_model, only_constant, images)
    if low > 0:
        return ()
    level = "below chance level" if high < 0 else "at chance level"
    return (
        Doubt(
            name="chance level",
            reason=f"{who} is {level}: it is right on {sum(right) / images:.2%} of {images} images,"
            f" and {most / images:.2%} are of one class, {named(frequent)}",
            advice=_PREPROCESSING,
        ),
    )


def of_images(images: int, *, fewest: int) -> tuple[Doubt, ...]:
    """Say that there are too few images to tell a drop from luck.

    Args:
        images: Evaluated on.
        fewest: That a gate needs; see `vocabulary.MIN_IMAGES`.
    """
    if images >= fewest:
        return ()
    _, high = paired_drop_ci(0, 0, images)
    plural = "s" if images != 1 else ""
    return (
        Doubt(
            name="few images",
            reason=f"{images} evaluation image{plural}, at least {fewest} are needed: one more or less is"
            f" {100 / images:.3g} pp, and even where no answer changes the drop may be {high:.2g} pp",
            advice="evaluate on more images, or accept fewer with --min-images (gates.min_images)",
        ),
    )


def training_images(
    top1: float | None, images: int, *, left_by_calibration: bool, judged: bool
) -> str | None:
    """Say why the evaluation images may be those that the model was trained on, which flatter every artifact.

    Nothing proves it, so that no gate becomes INCONCLUSIVE.

    Args:
        top1: The float model's; None without labels.
        images: Evaluated on.
        left_by_calibration: Whether they are what calibration left of its folder.
        judged: Whether a gate or a budget judges accuracy.

    Returns:
        The reason; None where there is none.
    """
    if top1 is None:
        return None
    right = f"the float model is right on {top1:.2%} of {images} evaluation images"
    is_perfect = top1 >= _NEARLY_ALL and images >= _ENOUGH
    if left_by_calibration and (judged or is_perfect):
        reason = "accuracy is measured on what calibration left of its folder"
        return f"{reason}, and {right}" if is_perfect else reason
    return right if is_perfect else None


def of_copies(copies: int, images: int, *, purpose: str, examples: str) -> Doubt:
    """Say that images were seen before.

    Args:
        copies: Evaluation images that are.
        images: All evaluation images.
        purpose: What they were used for: "calibration" or "training".
        examples: The first of them.
    """
    return Doubt(
        name=f"{purpose} images",
        reason=f"{copies} of {images} evaluation images show the same picture as {purpose} images:"
        f" {examples}",
        advice="evaluate on other images, or take these out of the folder",
    )


def of_artifact(accuracy: Accuracy) -> tuple[Doubt, ...]:
    """Say why an artifact's drop does not show that it does what the model does.

    A copy that lost little gives the model's answer more often than either of them is right: its changed
    answers are among those that the model was unsure of. And it gives it on most images.
    """
    if accuracy.top1 is None or accuracy.baseline_top1 is None or accuracy.agreement is None:
        return ()
    expected = max(_MOST_ANSWERS, min(accuracy.top1, accuracy.baseline_top1))
    same = round(accuracy.agreement * accuracy.images)
    if wilson_ci(same, accuracy.images)[1] >= expected:
        return ()
    return (
        Doubt(
            name="agreement",
            reason=f"it gives the float model's answer on {accuracy.agreement:.2%} of the images only, where"
            f" more than {expected:.2%} is to be expected: its drop is a coincidence",
            advice="look for the layer that changes the answers: edgefx debug",
        ),
    )


def judged(
    results: Sequence[GateResult],
    doubts: Sequence[Doubt],
    accuracy: Accuracy | None,
    *,
    policy: OnInconclusive,
) -> tuple[GateResult, ...]:
    """Make gates on accuracy INCONCLUSIVE where there are doubts.

    A gate that failed stays failed where all of the drop's 95 % interval is beyond its limit.

    Args:
        results: As judged by the figures.
        doubts: Of the model, of the images and of the artifact.
        accuracy: The artifact's.
        policy: Which gates that are INCONCLUSIVE fail the run.
    """
    found = [_doubted(result, doubts, accuracy) if doubts else result for result in results]
    return tuple(replace(result, tolerated=_tolerated(result, policy)) for result in found)


def _tolerated(result: GateResult, policy: OnInconclusive) -> bool:
    if result.verdict is not Verdict.INCONCLUSIVE:
        return False
    return policy is OnInconclusive.WARN or (policy is OnInconclusive.FAIL_IF_DOUBTFUL and result.by_interval)


def _doubted(result: GateResult, doubts: Sequence[Doubt], accuracy: Accuracy | None) -> GateResult:
    if METRICS[result.gate.metric].origin is not Origin.ACCURACY:
        return result
    if result.verdict is Verdict.INCONCLUSIVE and not result.by_interval:
        return result
    if result.verdict is Verdict.FAIL and _surely_beyond(result.gate, accuracy):
        return result
    why = "; ".join(doubt.reason for doubt in doubts)
    return replace(
        result,
        verdict=Verdict.INCONCLUSIVE,
        by_interval=False,
        images_needed=None,
        reason=f"{re.split('[:;]', result.reason)[0]}, which says nothing: {why}",
    )


def _surely_beyond(gate: Gate, accuracy: Accuracy | None) -> bool:
    row = METRICS[gate.metric]
    if gate.metric not in _DROPS or row.interval is None:
        return False
    interval = row.interval(Figures(accuracy=accuracy))
    return interval is not None and interval[0] > gate.limit


# ---------------------------------------- permuted labels


def _permuted(predicted: Sequence[int], labels: Sequence[int], named: _Namer, who: str) -> Doubt | None:
    """Look for an exchange of labels that explains the answers much better than the labels given.

    Each class is called what most of its images are answered with. That is another order of the classes, and
    no weakness of the model, where no two classes are then called the same, and what takes another's name
    gives its own away.
    """
    rows: dict[int, Counter[int]] = {}
    for answer, label in zip(predicted, labels, strict=True):
        rows.setdefault(label, Counter())[answer] += 1
    meant = {}
    for label, answers in sorted(rows.items()):
        answer, count = answers.most_common(1)[0]
        if 2 * count > answers.total() >= _FEWEST_OF_CLASS:
            meant[label] = answer
    moved = {label: answer for label, answer in meant.items() if label != answer}
    given_away = all(answer in moved or answer not in rows for answer in moved.values())
    if not moved or not given_away or len(set(meant.values())) < len(meant):
        return None
    explained = [meant.get(label, label) == answer for answer, label in zip(predicted, labels, strict=True)]
    right = [label == answer for answer, label in zip(predicted, labels, strict=True)]
    only_then = sum(new and not old for new, old in zip(explained, right, strict=True))
    only_now = sum(old and not new for new, old in zip(explained, right, strict=True))
    tried = math.perm(len(rows), min(len(moved), _PERMUTED))  # of which the one that fits best was chosen
    low, _ = paired_drop_ci(only_then, only_now, len(labels), confidence=1 - max(_LEAST, _CHANCE / tried))
    if low <= 0:
        return None
    pairs = [f"{named(label)} is answered as {named(answer)}" for label, answer in moved.items()]
    more = f", and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    images = len(labels)
    return Doubt(
        name="order of classes",
        reason=f"the classes are in another order than the model's: {who} is right on"
        f" {sum(right) / images:.2%} of {images} images, and would be on {sum(explained) / images:.2%}"
        f" with {len(moved)} labels exchanged: {'; '.join(pairs[:_SHOWN])}{more}",
        advice="name the class folders so that they sort in the order of the model's outputs, or give a"
        " labels.csv with the model's class indices",
    )


class _Namer:
    """Names classes for messages."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, index: int) -> str:
        return f"'{self._names[index]}'" if index < len(self._names) else f"class {index}"
