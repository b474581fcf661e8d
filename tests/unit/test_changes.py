"""Which classes and images an artifact answers otherwise, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefx.evaluation.changes import MOST_CLASSES, MOST_IMAGES, Answer, changes, holm
from edgefx.evaluation.statistics import mcnemar_p_value
from edgefx.report import changed, markdown, terminal
from edgefx.scores import confidences
from edgefx.vocabulary import OutputKind
from tests.unit.report_samples import report


def answer(number: int, label: int | None, before: int, after: int, *, sure: float = 0.9) -> Answer:
    return Answer(
        image=f"{label}/{number}.png",
        sha256="ab" * 32,
        label=label,
        before=before,
        after=after,
        before_confidence=sure,
        after_confidence=0.5,
    )


def some() -> list[Answer]:
    """Two classes of 40 images: of the first 12 are lost, to the second and to a third; one is gained."""
    lost = [answer(number, 0, 0, 1 if number < 10 else 2, sure=number / 100) for number in range(12)]
    return [
        *lost,
        *(answer(number, 0, 0, 0) for number in range(12, 40)),
        answer(40, 1, 0, 1, sure=0.01),
        *(answer(number, 1, 1, 1) for number in range(41, 80)),
    ]


def test_classes_shifts_and_images_are_counted() -> None:
    found = changes(some())
    assert (found.images, found.flipped, found.classes, found.significant) == (80, 13, 2, 1)
    worst, other = found.by_class
    assert (worst.label, worst.images, worst.lost, worst.gained, worst.drop_pp) == (0, 40, 12, 0, 30.0)
    assert worst.p_value == pytest.approx(2 * mcnemar_p_value(12, 0))
    assert (other.lost, other.gained, other.drop_pp, other.significant) == (0, 1, -2.5, False)
    assert [(one.before, one.after, one.images, one.lost) for one in found.shifts] == [
        (0, 1, 11, 10),
        (0, 2, 2, 2),
    ]
    assert [one.image for one in found.surest[:2]] == ["0/11.png", "0/10.png"]


def test_lists_are_bounded_and_images_without_labels_have_no_classes() -> None:
    many = changes([answer(number, number % 50, number % 50, (number + 1) % 50) for number in range(5000)])
    assert (len(many.by_class), many.classes, len(many.surest)) == (MOST_CLASSES, 50, MOST_IMAGES)
    assert (many.flipped, many.significant) == (5000, 50)
    blind = changes([answer(1, None, 0, 1)])
    assert (blind.classes, blind.by_class, blind.shifts[0].lost) == (0, (), None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_corrects_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for raw, one in zip(p_values, corrected, strict=True):
        assert raw <= one <= min(1.0, len(p_values) * raw) or one == pytest.approx(len(p_values) * raw)
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_a_class_changes_beyond_chance_as_seldom_as_stated() -> None:
    """Twenty classes of 60 images, 5 % lost and 5 % gained: any is significant in at most 5 % of samples."""
    draw = np.random.default_rng(7)
    trials = 400
    wrong = 0
    for _ in range(trials):
        p_values = [mcnemar_p_value(*draw.multinomial(60, [0.05, 0.05, 0.9])[:2].tolist()) for _ in range(20)]
        wrong += min(holm(p_values)) <= 0.05
    assert wrong / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_confidence_is_that_of_the_chosen_class() -> None:
    scores = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)
    assert confidences(scores, OutputKind.PROBABILITIES, scores.argmax(1)) == (0.75, 0.9)
    assert confidences(np.log(scores), OutputKind.LOGITS, scores.argmax(1)) == (0.75, 0.9)


def test_reports_name_what_changed() -> None:
    made = report()
    first = replace(made.targets[0], changes=changes(some()))
    made = replace(
        made,
        model=replace(made.model, class_names=("daisy", "rose", "a|b")),
        targets=(first, *made.targets[1:]),
    )
    (of_images, of_classes) = changed.lines(made)
    assert of_images == (
        "changed",
        (
            "tflite-int8: the class of 13 of 80 images: daisy -> rose (11), daisy -> a|b (2); where the float"
            " model was surest: 0/11.png (daisy 11% -> a|b 50%); 0/10.png (daisy 10% -> a|b 50%);"
            " 0/9.png (daisy 9% -> rose 50%)"
        ),
    )
    assert of_classes[1].startswith(
        "tflite-int8: 1 of 2 changed beyond chance (Holm, 5 %); drops in pp: daisy +30.0 (+18.1 to +45.4)"
    )
    assert "daisy -> a|b (2)" in " ".join(terminal.dumps(made).split())
    assert "daisy -> a\\|b (2)" in markdown.dumps(made)
    harmless = replace(first, changes=changes([answer(1, 0, 0, 0)]))
    assert list(changed.lines(replace(made, targets=(harmless,)))) == []
