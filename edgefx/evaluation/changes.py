"""Which classes and images an artifact answers otherwise than the float model. Standard library."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgefx.evaluation.statistics import mcnemar_p_value, paired_drop_ci
from edgefx.measured import Changes, ClassChange, ClassShift, FlippedImage

MOST_CLASSES = 20  # that are listed, so that a report on 1000 classes and twelve targets stays small
MOST_SHIFTS = 20
MOST_IMAGES = 24
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One image as the baseline and an artifact see it.

    Attributes:
        image: The file, relative to its folder.
        sha256: Of the file.
        label: Index of its class; None when unlabelled.
        before: Index of the baseline's best class.
        after: Index of the artifact's best class.
        before_confidence: The baseline's probability of `before`.
        after_confidence: The artifact's probability of `after`.
    """

    image: str
    sha256: str
    label: int | None
    before: int
    after: int
    before_confidence: float
    after_confidence: float


def changes(answers: Sequence[Answer]) -> Changes:
    """Compare an artifact's best classes with the baseline's.

    Args:
        answers: Every image that both answered.
    """
    flipped = [answer for answer in answers if answer.before != answer.after]
    flipped.sort(key=lambda answer: (-answer.before_confidence, answer.image))
    of_classes = list(_by_class(answers))
    return Changes(
        images=len(answers),
        flipped=len(flipped),
        classes=len(of_classes),
        significant=sum(one.significant for one in of_classes),
        by_class=tuple(sorted(of_classes, key=_badness)[:MOST_CLASSES]),
        shifts=tuple(_shifts(flipped)),
        surest=tuple(FlippedImage(**vars(answer)) for answer in flipped[:MOST_IMAGES]),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that the family-wise error is at most the level they are held to.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979) 65-70, as adjusted p-values.

    Args:
        p_values: Of as many tests, in any order.

    Returns:
        The corrected ones, in the same order, at most 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _by_class(answers: Sequence[Answer]) -> Iterator[ClassChange]:
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])  # images, lost, gained
    for answer in answers:
        if answer.label is not None:
            of_class = counts[answer.label]
            was, still = answer.before == answer.label, answer.after == answer.label
            of_class[0] += 1
            of_class[1] += was and not still
            of_class[2] += still and not was
    labels = sorted(counts)
    p_values = holm([mcnemar_p_value(*counts[label][1:]) for label in labels])
    for label, p_value in zip(labels, p_values, strict=True):
        images, lost, gained = counts[label]
        yield ClassChange(
            label=label,
            images=images,
            lost=lost,
            gained=gained,
            drop_pp=100 * (lost - gained) / images,
            drop_ci95_pp=paired_drop_ci(lost, gained, images),
            p_value=p_value,
            significant=p_value <= SIGNIFICANT,
        )


def _badness(one: ClassChange) -> tuple[bool, float, int]:
    return not one.significant, -one.drop_pp, one.label


def _shifts(flipped: Sequence[Answer]) -> Iterator[ClassShift]:
    number = Counter((answer.before, answer.after) for answer in flipped)
    lost = Counter((answer.before, answer.after) for answer in flipped if answer.label == answer.before)
    is_labelled = any(answer.label is not None for answer in flipped)
    for pair, images in sorted(number.items(), key=lambda item: (-item[1], item[0]))[:MOST_SHIFTS]:
        yield ClassShift(
            before=pair[0], after=pair[1], images=images, lost=lost[pair] if is_labelled else None
        )
