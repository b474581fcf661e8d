"""Drops that prove nothing: no gate on them passes, and the reason is said with the remedy."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgefx.errors import ExitCode
from edgefx.evaluation import trust
from edgefx.evaluation.gates import judge
from edgefx.metrics import Figures
from edgefx.report import markdown, terminal
from edgefx.results import RunReport
from edgefx.verdicts import Doubt, Gate, GateResult, Verdict
from edgefx.vocabulary import OnInconclusive
from tests.unit.report_samples import accuracy, report

CLASSES = 5
NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
LABELS = [label for label in range(CLASSES) for _ in range(40)]
WHO = "the float model"
DROP = Gate(metric="drop_pp", limit=1.0)
RELATIVE = Gate(metric="drop_percent", limit=1.0)
SIZE = Gate(metric="size_bytes", limit=1e9)
DOUBT = Doubt(name="chance level", reason="it knows nothing", advice="train it")


def answers(share_right: float, *, seed: int = 0, labels: list[int] = LABELS) -> list[int]:
    """A model that is right on a share of the images, and guesses on the others."""
    generator = random.Random(seed)
    return [label if generator.random() < share_right else generator.randrange(CLASSES) for label in labels]


def names_of(predicted: list[int], labels: list[int] = LABELS) -> list[str]:
    return [doubt.name for doubt in trust.of_model(predicted, labels, class_names=NAMES, who=WHO)]


# ------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("share", [0.3, 0.6, 0.92, 1.0])
def test_a_model_that_knows_something_is_believed(share: float) -> None:
    assert all(names_of(answers(share, seed=seed)) == [] for seed in range(20))


def test_a_model_that_guesses_is_not() -> None:
    found = [names_of(answers(0.0, seed=seed)) for seed in range(40)]
    assert sum(names == ["chance level"] for names in found) >= 38
    assert all(names in (["chance level"], []) for names in found)


def test_the_largest_class_is_what_counts() -> None:
    labels = [0] * 180 + [1] * 20
    assert names_of([0] * 180 + [1] * 2 + [0] * 18, labels) == [
        "chance level"
    ]  # 91 %, and 90 % are one class
    assert names_of([0] * 178 + [1] * 2 + [1] * 15 + [0] * 5, labels) == []


def test_one_answer_for_all() -> None:
    (doubt,) = trust.of_model([2] * len(LABELS), LABELS, class_names=NAMES, who=WHO)
    assert doubt.name == "one answer"
    assert doubt.reason == "the float model answers 'roses' on all 200 images"
    assert "[0, 255]" in doubt.advice


def test_images_of_one_class_prove_little() -> None:
    assert names_of([1] * 50, [1] * 50) == ["one class"]
    assert names_of([1], [1]) == []  # that there are too few is said elsewhere


# --------------------------------------------------------------------------------------- permuted labels


def test_reversed_classes_are_recognized_with_the_remedy() -> None:
    for seed in range(10):
        turned = [CLASSES - 1 - answer for answer in answers(0.8, seed=seed)]
        (doubt,) = trust.of_model(turned, LABELS, class_names=NAMES, who=WHO)
        assert doubt.name == "order of classes"
        assert "'daisy' is answered as 'tulips'; 'dandelion' is answered as 'sunflowers'" in doubt.reason
        assert "with 4 labels exchanged" in doubt.reason
        assert "labels.csv" in doubt.advice


def test_two_exchanged_classes_and_an_offset() -> None:
    exchanged = [{1: 3, 3: 1}.get(answer, answer) for answer in answers(0.9)]
    assert names_of(exchanged) == ["order of classes"]
    counted_from_one = [label + 1 for label in LABELS]
    (doubt,) = trust.of_model(answers(0.9), counted_from_one, who=WHO)
    assert "class 1 is answered as class 0" in doubt.reason


def test_a_weak_class_is_not_taken_for_another() -> None:
    confused = [3 if label == 1 else label for label in LABELS]
    assert names_of(confused) == []
    for seed in range(20):
        generator = random.Random(seed)
        scattered = [
            {1: 3, 3: generator.randrange(CLASSES)}.get(label, label) for label in LABELS
        ]  # one class is answered as another, whose own images are answered anyhow
        assert names_of(scattered) == []


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_guesses_are_no_permutation(classes: int) -> None:
    for seed in range(200):
        generator = random.Random(seed)
        labels = [label for label in range(classes) for _ in range(10)]
        predicted = [generator.randrange(classes) for _ in labels]
        assert "order of classes" not in [d.name for d in trust.of_model(predicted, labels, who=WHO)]


# ------------------------------------------------------------------------------------------- few images


def test_few_images() -> None:
    (doubt,) = trust.of_images(1, fewest=100)
    assert doubt.reason.startswith("1 evaluation image, at least 100 are needed: one more or less is 100 pp")
    assert "--min-images" in doubt.advice
    assert trust.of_images(99, fewest=100)
    assert trust.of_images(100, fewest=100) == ()
    assert trust.of_images(1, fewest=1) == ()


# ---------------------------------------------------------------------------------------- the artifact


@pytest.mark.parametrize(
    ("baseline", "top1", "agreement", "doubted"),
    [
        (0.92, 0.92, 0.98, False),
        (0.92, 0.86, 0.90, False),
        (1.00, 0.97, 0.97, False),  # what is lost is not agreed on, and nothing is hidden by that
        (0.77, 0.76, 0.85, False),
        (0.10, 0.10, 0.00, True),  # weights x 1e30
        (0.00, 0.00, 0.00, True),
        (0.35, 0.35, 0.25, True),
        (0.70, 0.70, 0.55, True),
        (0.30, 0.29, 0.70, False),
    ],
)
def test_an_artifact_that_answers_otherwise(
    baseline: float, top1: float, agreement: float, doubted: bool
) -> None:
    measured = replace(accuracy(top1=top1), baseline_top1=baseline, agreement=agreement)
    found = trust.of_artifact(measured)
    assert [doubt.name for doubt in found] == ["agreement"] * doubted


@pytest.mark.parametrize("missed", [0, 1])
def test_a_faithful_copy_is_believed_on_any_number_of_images(missed: int) -> None:
    for images in range(2, 500):
        share = 1 - missed / images
        measured = replace(
            accuracy(top1=share), images=images, baseline_top1=1.0, agreement=share, drop_pp=100 * (1 - share)
        )
        assert trust.of_artifact(measured) == (), images


def test_without_labels_there_is_no_drop_to_doubt() -> None:
    assert trust.of_artifact(accuracy(top1=0.0, labelled=False)) == ()


# -------------------------------------------------------------------------------------------------- gates


def judged(
    gate: Gate, *, drop: float, interval: tuple[float, float], doubts: tuple[Doubt, ...] = (DOUBT,)
) -> GateResult:
    measured = replace(accuracy(top1=0.9), drop_pp=drop, drop_ci95_pp=interval, baseline_top1=0.5)
    results = judge([gate], Figures(size_bytes=9, accuracy=measured), target="tflite-int8")
    (result,) = trust.judged(results, doubts, measured, policy=OnInconclusive.FAIL_IF_DOUBTFUL)
    return result


def test_images_that_calibration_left_may_be_training_images_where_they_are_judged() -> None:
    found = trust.training_images(0.92, 300, left_by_calibration=True, judged=True)
    assert found == "accuracy is measured on what calibration left of its folder"
    assert trust.training_images(0.92, 300, left_by_calibration=True, judged=False) is None
    assert trust.training_images(0.92, 300, left_by_calibration=False, judged=True) is None


@pytest.mark.parametrize("left", [False, True])
def test_a_model_that_is_always_right_may_have_seen_the_images(left: bool) -> None:
    found = trust.training_images(1.0, 300, left_by_calibration=left, judged=False)
    assert found is not None
    assert found.endswith("the float model is right on 100.00% of 300 evaluation images")
    assert ("what calibration left" in found) is left
    assert trust.training_images(1.0, 40, left_by_calibration=left, judged=False) is None
    assert trust.training_images(None, 300, left_by_calibration=left, judged=True) is None


def test_a_doubtful_drop_neither_passes_nor_fails() -> None:
    passed = judged(DROP, drop=0.0, interval=(-3.0, 3.0))
    assert passed.verdict is Verdict.INCONCLUSIVE
    assert passed.reason == "top-1 drop 0 pp, limit 1 pp, which says nothing: it knows nothing"
    assert judged(DROP, drop=2.0, interval=(-3.0, 7.0)).verdict is Verdict.INCONCLUSIVE
    assert judged(RELATIVE, drop=2.0, interval=(0.4, 3.6)).verdict is Verdict.INCONCLUSIVE


def test_a_loss_beyond_doubt_fails() -> None:
    assert judged(DROP, drop=50.0, interval=(40.0, 60.0)).verdict is Verdict.FAIL
    assert judged(RELATIVE, drop=2.0, interval=(0.6, 3.4)).verdict is Verdict.FAIL  # 1.2 % of the baseline


def test_other_gates_and_other_runs_are_judged_as_before() -> None:
    assert judged(SIZE, drop=0.0, interval=(-3.0, 3.0)).verdict is Verdict.PASS
    assert judged(DROP, drop=0.0, interval=(-1.0, 1.0), doubts=()).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("policy", "close", "meaningless"),
    [
        (OnInconclusive.FAIL, False, False),
        (OnInconclusive.FAIL_IF_DOUBTFUL, True, False),
        (OnInconclusive.WARN, True, True),
    ],
)
def test_too_few_images_to_tell_are_tolerated_where_a_meaningless_drop_is_not(
    policy: OnInconclusive, close: bool, meaningless: bool
) -> None:
    measured = replace(accuracy(top1=0.9), drop_pp=0.5, drop_ci95_pp=(-0.5, 1.5))
    results = judge([DROP], Figures(size_bytes=9, accuracy=measured), target="tflite-int8")
    (vague,) = trust.judged(results, (), measured, policy=policy)
    assert (vague.verdict, vague.by_interval, vague.tolerated) == (Verdict.INCONCLUSIVE, True, close)
    (empty,) = trust.judged(results, (DOUBT,), measured, policy=policy)
    assert (empty.verdict, empty.by_interval, empty.tolerated) == (Verdict.INCONCLUSIVE, False, meaningless)
    assert empty.reason == "top-1 drop 0.5 pp, limit 1 pp, which says nothing: it knows nothing"


# ------------------------------------------------------------------------------------------------ reports


def doubtful(*, tolerated: bool) -> RunReport:
    gate = GateResult(
        gate=DROP, measured=0.0, verdict=Verdict.INCONCLUSIVE, reason="says nothing", tolerated=tolerated
    )
    shown = report()
    targets = tuple(replace(result, gates=(gate,)) for result in shown.targets)
    return replace(shown, targets=targets, doubts=(DOUBT,))


def test_the_exit_code_is_a_failed_gate_unless_asked_otherwise() -> None:
    failing, tolerating = doubtful(tolerated=False), doubtful(tolerated=True)
    assert failing.exit_code is ExitCode.GATE_FAILED
    assert tolerating.exit_code is ExitCode.OK
    assert "fails the run (exit code 1); with --on-inconclusive warn" in terminal.dumps(failing)
    assert "do not fail this run, as asked" in terminal.dumps(tolerating)


@pytest.mark.parametrize("tolerated", [False, True])
def test_a_report_says_what_too_few_images_mean_for_the_run(tolerated: bool) -> None:
    gate = GateResult(
        gate=DROP,
        measured=0.5,
        verdict=Verdict.INCONCLUSIVE,
        reason="too few",
        tolerated=tolerated,
        by_interval=True,
    )
    shown = report()
    shown = replace(shown, targets=(replace(shown.targets[0], gates=(gate,)),))
    assert shown.exit_code is (ExitCode.OK if tolerated else ExitCode.GATE_FAILED)
    for dumps in (terminal.dumps, markdown.dumps):
        text = dumps(shown)
        assert ("does not fail the run; with --on-inconclusive fail" in " ".join(text.split())) is tolerated
        assert ("fails this run (exit code 1)" in text) is not tolerated
        assert "cannot be judged" not in text


@pytest.mark.parametrize("dumps", [terminal.dumps, markdown.dumps])
def test_a_report_begins_with_what_makes_it_doubtful(dumps: Callable[[RunReport], str]) -> None:
    lines = [line for line in dumps(doubtful(tolerated=False)).splitlines() if line.strip()]
    assert "it knows nothing; train it" in lines[1]
    assert "doubtful" in lines[1]
