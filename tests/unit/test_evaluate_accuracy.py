"""Running a session and comparing its scores with the baseline's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ArtifactError, DataError, ModelError
from edgefx.evaluation.accuracy import KL_FLOOR, compare, compare_classes, cross_entropy, stored_as
from edgefx.evaluation.inference import run
from edgefx.evaluation.statistics import mcnemar_p_value, paired_drop_ci, wilson_ci
from edgefx.results import Accuracy
from edgefx.types import OutputKind, TensorInfo

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores

RNG = np.random.default_rng(0)


class Linear:
    """A small classifier in NumPy, as a session."""

    precision_ran = "float32"
    input_spec = TensorInfo(name="image", shape=(1, 4, 4, 3), dtype="float32")

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.now = 0.0  # of a clock that only inference moves
        self.weights = np.random.default_rng(1).normal(size=(48, 7)).astype(np.float32)
        self.seconds = seconds
        self.calls: list[int] = []

    def infer(self, batch: Pixels) -> Scores:
        assert batch.dtype == np.uint8
        self.calls.append(len(batch))
        self.now += self.seconds
        return batch.reshape(len(batch), -1).astype(np.float32) @ self.weights


class Counter:
    done = 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps


def compared(
    baseline: object,
    scores: object,
    labels: object = None,
    output: OutputKind = OutputKind.PROBABILITIES,
    stored: TensorInfo | None = None,
) -> Accuracy:
    return compare(
        np.asarray(baseline, np.float32),
        np.asarray(scores, np.float32),
        None if labels is None else np.asarray(labels, np.int64),
        output=output,
        images_per_s=5.0,
        stored=stored,
    )


def distributions(images: int, classes: int) -> NDArray[np.float64]:
    return RNG.dirichlet(np.ones(classes), images)


# ------------------------------------------------------------------------------------------------------- run


def test_run_scores_every_image_in_order_and_counts_them() -> None:
    session, task = Linear(), Counter()
    pixels = RNG.integers(0, 256, (41, 4, 4, 3), np.uint8)
    found = run(session, pixels, task=task)
    scores = found.scores
    np.testing.assert_allclose(scores, pixels.reshape(41, -1).astype(np.float32) @ session.weights, rtol=1e-5)
    assert scores.dtype == np.float32
    assert sum(session.calls) == task.done == 41
    assert len(session.calls) > 1
    assert found.images_per_s > 0


def test_throughput_is_that_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Linear(seconds=0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: session.now)
    found = run(session, np.zeros((64, 4, 4, 3), np.uint8))
    assert found.images_per_s == pytest.approx(64 / (4 * 0.01))


def test_run_without_images() -> None:
    with pytest.raises(DataError, match="no evaluation images"):
        run(Linear(), np.zeros((0, 4, 4, 3), np.uint8))


# --------------------------------------------------------------------------------------------------- compare


def test_counts_by_hand() -> None:
    baseline = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1]]
    scores = [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.2, 0.7, 0.1]]
    result = compared(baseline, scores, [0, 1, 2, 1])
    assert (result.images, result.baseline_top1, result.top1) == (4, 0.75, 0.75)
    assert result.drop_pp == 0.0  # one lost, one gained
    assert result.agreement == 0.5
    assert result.max_abs_dp == pytest.approx(0.4)
    assert result.drop_ci95_pp is not None
    assert result.drop_ci95_pp[0] == pytest.approx(-result.drop_ci95_pp[1])
    assert (result.top5, result.baseline_top5, result.images_per_s) == (None, None, 5.0)


def test_drop_is_exact_in_percentage_points() -> None:
    """7 of 700 images lost is a drop of exactly 1 pp, so that a limit of 1 pp holds."""
    baseline = np.tile([0.9, 0.1], (700, 1))
    scores = baseline.copy()
    scores[:7] = [0.1, 0.9]
    assert compared(baseline, scores, np.zeros(700)).drop_pp == 1.0


def test_equal_scores_lose_nothing() -> None:
    p = distributions(50, 10)
    result = compared(p, p, RNG.integers(0, 10, 50))
    assert (result.drop_pp, result.agreement, result.mean_kl, result.max_abs_dp) == (0.0, 1.0, 0.0, 0.0)
    assert result.top5 == result.baseline_top5
    assert result.top5 is not None
    assert result.top1 is not None
    assert result.top1 < result.top5 < 1


def test_top5_by_sorting() -> None:
    p, q, labels = distributions(200, 12), distributions(200, 12), RNG.integers(0, 12, 200)
    result = compared(p, q, labels)
    best = np.argsort(-q.astype(np.float32), axis=1, kind="stable")[:, :5]
    assert result.top5 == pytest.approx((best == labels[:, None]).any(1).mean())


def test_ties_go_to_the_lower_index_as_in_argmax() -> None:
    tied = np.full((8, 8), 1 / 8)
    result = compared(tied, tied, range(8))
    assert result.top1 == 1 / 8
    assert result.top5 == 5 / 8


def test_unlabelled_images_have_no_top1() -> None:
    result = compared(distributions(9, 10), distributions(9, 10))
    assert (result.top1, result.top5, result.drop_pp, result.drop_ci95_pp) == (None, None, None, None)
    assert result.agreement is not None
    assert 0 <= result.agreement <= 1
    assert result.mean_kl > 0


def test_kl_by_hand() -> None:
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.25, 0.5]])
    assert compared(p, q).mean_kl == pytest.approx(0.5 * np.log(2) + 0.25 * np.log(0.5))


def test_kl_stays_finite_where_int8_gives_zero() -> None:
    result = compared([[0.99, 0.01]], [[1.0, 0.0]])
    expected = 0.99 * np.log(0.99) + 0.01 * np.log(0.01 / KL_FLOOR)
    assert result.mean_kl == pytest.approx(expected, rel=1e-4)
    assert compared([[0.9, 0.1]], [[0.0, 0.0]]).mean_kl == pytest.approx(
        np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    )


UINT8 = TensorInfo(name="probabilities", shape=(1, 1000), dtype="uint8", scale=1 / 256, zero_point=0)
INT8 = TensorInfo(name="probabilities", shape=(1, 1000), dtype="int8", scale=1 / 256, zero_point=-128)


def thousand_classes(noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A model's probabilities, those of a slightly different one, and these in steps of 1/256."""
    generator = np.random.default_rng(7)
    logits = generator.normal(scale=3.0, size=(400, 1000))
    exact, other = (
        np.exp(one) / np.exp(one).sum(1, keepdims=True)
        for one in (logits, logits + generator.normal(scale=noise, size=logits.shape))
    )
    return exact, other, np.clip(np.round(other * 256), 0, 255) / 256


@pytest.mark.parametrize("stored", [UINT8, INT8])
def test_the_rounding_of_8_bit_scores_is_not_taken_for_a_loss(stored: TensorInfo) -> None:
    exact, _, rounded = thousand_classes(noise=0.0)
    assert compared(exact, rounded).mean_kl > 0.5
    alike = compared(exact, rounded, stored=stored)
    assert (alike.mean_kl, alike.max_abs_dp, alike.score_step) == (0.0, 0.0, 1 / 256)


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5])
def test_what_is_left_of_kl_is_what_was_lost(noise: float) -> None:
    exact, other, rounded = thousand_classes(noise)
    true, found = compared(exact, other), compared(exact, rounded, stored=UINT8)
    assert true.score_step is None
    assert 0.5 * true.mean_kl < found.mean_kl < 5 * true.mean_kl < compared(exact, rounded).mean_kl
    assert found.max_abs_dp == pytest.approx(true.max_abs_dp, abs=1 / 256)
    assert found.agreement == compared(exact, rounded).agreement  # of the baseline's own scores


def test_a_wrong_answer_costs_as_much_with_rounded_scores() -> None:
    right, wrong = np.full((1, 1000), 1e-6), np.full((1, 1000), 1e-6)
    right[0, 3] = wrong[0, 8] = 0.999
    rounded = np.round(wrong * 256) / 256
    assert compared(right, rounded, stored=UINT8).mean_kl > np.log(256)


def test_logits_are_compared_as_they_are() -> None:
    logits = np.round(RNG.normal(size=(9, 10)) * 8) / 8
    grid = TensorInfo(name="logits", shape=(1, 10), dtype="int8", scale=1 / 8, zero_point=3)
    plain = compared(logits, logits[::-1], None, OutputKind.LOGITS)
    assert compared(logits, logits[::-1], None, OutputKind.LOGITS, stored=grid) == plain


def test_8_bit_scores_are_known_behind_float_ends() -> None:
    ends = TensorInfo(name="probabilities", shape=(1, 1000), dtype="float32")
    exact, _, rounded = thousand_classes(noise=0.1)
    assert stored_as(INT8, exact.astype(np.float32)) is INT8
    assert stored_as(ends, exact.astype(np.float32)) is None
    assert stored_as(ends, np.eye(10, dtype=np.float32)) is None  # a very sure model, not a rounded one
    found = stored_as(ends, rounded.astype(np.float32))
    assert found is not None
    assert found.scale == 1 / 256


def test_logits_go_through_a_stable_softmax() -> None:
    p, q = distributions(30, 6), distributions(30, 6)
    direct = compared(p, q, np.zeros(30))
    shifted = compared(np.log(p) + 3, np.log(q) - 2, np.zeros(30), OutputKind.LOGITS)
    assert shifted.mean_kl == pytest.approx(direct.mean_kl, rel=1e-4)
    assert shifted.max_abs_dp == pytest.approx(direct.max_abs_dp, rel=1e-4)
    assert shifted.top1 == direct.top1
    huge = compared([[1e4, 0.0]], [[1e4, 0.0]], [0], OutputKind.LOGITS)
    assert (huge.mean_kl, huge.top1) == (0.0, 1.0)


def test_many_images_are_compared_in_blocks() -> None:
    p, q = distributions(5000, 6), distributions(5000, 6)
    labels = RNG.integers(0, 6, 5000)
    result = compared(p, q, labels)
    p32, q32 = p.astype(np.float32), q.astype(np.float32)
    assert result.agreement == (p32.argmax(1) == q32.argmax(1)).mean()
    assert result.max_abs_dp == pytest.approx(np.abs(p32 - q32).max())
    assert result.drop_pp == pytest.approx(
        100 * ((p32.argmax(1) == labels).mean() - (q32.argmax(1) == labels).mean())
    )


def test_broken_scores() -> None:
    good, broken = np.full((5, 3), 1 / 3), np.full((5, 3), 1 / 3)
    broken[3, 1] = np.nan
    with pytest.raises(ArtifactError, match="the artifact gives NaN or infinite scores, first for image 3"):
        compared(good, broken)
    with pytest.raises(ModelError, match="the float baseline gives NaN or infinite scores"):
        compared(broken, good)
    with pytest.raises(ArtifactError, match=r"shape \(5, 4\), the baseline \(5, 3\)"):
        compared(good, np.zeros((5, 4)))


def test_labels_that_do_not_fit() -> None:
    p = distributions(3, 4)
    with pytest.raises(DataError, match="2 labels for 3 images"):
        compared(p, p, [0, 1])
    with pytest.raises(DataError, match="labels from 0 to 4, but the model has 4 classes"):
        compared(p, p, [0, 1, 4])
    with pytest.raises(DataError, match="no evaluation images"):
        compared(np.zeros((0, 4)), np.zeros((0, 4)))


def test_cross_entropy_of_probabilities_and_logits() -> None:
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    labels = np.array([1, 1])
    wanted = -(np.log(0.75) + np.log(KL_FLOOR)) / 2
    assert cross_entropy(probabilities, labels, output=OutputKind.PROBABILITIES) == pytest.approx(wanted)
    logits = np.log(np.array([[1, 3]], np.float32)) + 5
    assert cross_entropy(logits, labels[:1], output=OutputKind.LOGITS) == pytest.approx(-np.log(0.75))


# ------------------------------------------------------------------------ best classes only


def test_best_classes_give_the_figures_that_scores_give() -> None:
    generator = np.random.default_rng(3)
    p, q = generator.random((40, 7)).astype(np.float32), generator.random((40, 7)).astype(np.float32)
    labels = generator.integers(0, 7, 40)
    full = compare(p, q, labels, output=OutputKind.PROBABILITIES, images_per_s=1.0)
    found = compare_classes(p.argmax(1), q.argmax(1), labels)
    for name in ("images", "top1", "baseline_top1", "drop_pp", "drop_ci95_pp", "agreement"):
        assert getattr(found, name) == getattr(full, name), name


def test_best_classes_without_labels_agree_or_not() -> None:
    found = compare_classes(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]), None)
    assert (found.agreement, found.images) == (0.75, 4)
    assert (found.top1, found.drop_pp, found.drop_ci95_pp) == (None, None, None)


def test_intervals_and_the_p_value_stand_on_the_images_that_changed() -> None:
    generator = np.random.default_rng(3)
    baseline = generator.random((400, 12), np.float32)
    scores = baseline + generator.normal(0, 0.05, baseline.shape).astype(np.float32)
    labels = np.where(generator.random(400) < 0.7, baseline.argmax(1), 0)
    result = compare(baseline, scores, labels, output=OutputKind.LOGITS, images_per_s=1.0)
    before, after = baseline.argmax(1) == labels, scores.argmax(1) == labels
    assert (result.lost, result.gained) == ((before & ~after).sum(), (after & ~before).sum())
    assert result.lost
    assert result.gained is not None
    assert result.drop_p_value == mcnemar_p_value(result.lost, result.gained)
    assert result.drop_ci95_pp == paired_drop_ci(result.lost, result.gained, 400)
    assert result.top1_ci95 == wilson_ci(int(after.sum()), 400)
    assert result.agreement_ci95 == wilson_ci(int((baseline.argmax(1) == scores.argmax(1)).sum()), 400)

    def among_five(found: Scores) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = (np.argsort(-found, 1)[:, :5] == labels[:, None]).any(1)
        return right

    before5, after5 = among_five(baseline), among_five(scores)
    assert (result.lost_top5, result.gained_top5) == ((before5 & ~after5).sum(), (after5 & ~before5).sum())
    assert result.lost_top5
    assert result.gained_top5 is not None
    assert result.drop_top5_pp == pytest.approx(100 * (before5.mean() - after5.mean()))
    assert result.drop_top5_ci95_pp == paired_drop_ci(result.lost_top5, result.gained_top5, 400)
    assert result.top5_ci95 == wilson_ci(int(after5.sum()), 400)
    unlabelled = compare(baseline, scores, None, output=OutputKind.LOGITS, images_per_s=1.0)
    assert unlabelled.agreement_ci95 == result.agreement_ci95
    assert (unlabelled.drop_p_value, unlabelled.top1_ci95, unlabelled.drop_top5_pp) == (None, None, None)
