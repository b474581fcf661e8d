"""Gates and the units of their limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgefx.errors import UsageError
from edgefx.evaluation.gates import foreseen, judge
from edgefx.evaluation.statistics import images_for_drop, paired_drop_ci, wilson_ci
from edgefx.metrics import Figures
from edgefx.results import Accuracy, DropUnit, Latency
from edgefx.units import parse_drop, parse_ms, parse_size
from edgefx.verdicts import Gate, GateResult, Verdict


def accuracy(drop: float | None) -> Accuracy:
    return Accuracy(
        images=100,
        top1=None if drop is None else 0.9 - drop / 100,
        top5=None,
        baseline_top1=None if drop is None else 0.9,
        baseline_top5=None,
        drop_pp=drop,
        drop_ci95_pp=None,
        agreement=1.0,
        mean_kl=0.0,
        max_abs_dp=0.0,
        images_per_s=1.0,
    )


def latency(p95: float) -> Latency:
    return Latency(
        device="host",
        threads=1,
        rounds=9,
        p50_ms=p95 / 2,
        p95_ms=p95,
        min_ms=p95 / 3,
        cold_start_ms=9.0,
        peak_memory_mb=9.0,
        precision_ran="int8",
    )


DROP = Gate(metric="drop_pp", limit=1.0)
P95 = Gate(metric="p95_ms", limit=20.0)
SIZE = Gate(metric="size_bytes", limit=6e6)


def judged(
    gate: Gate, *, size: int = 10, drop: float | None = 0.0, p95: float | None = None, evaluated: bool = True
) -> GateResult:
    figures = Figures(
        size_bytes=size,
        accuracy=accuracy(drop) if evaluated else None,
        latency=latency(p95) if p95 is not None else None,
    )
    (result,) = judge([gate], figures, target="tflite-int8")
    return result


def test_limits_are_inclusive() -> None:
    assert judged(DROP, drop=1.0).verdict is Verdict.PASS
    assert judged(P95, p95=20.0).verdict is Verdict.PASS
    assert judged(SIZE, size=6_000_000).verdict is Verdict.PASS


def test_failures_state_measured_and_limit() -> None:
    result = judged(DROP, drop=5.42)
    assert (result.verdict, result.measured) == (Verdict.FAIL, 5.42)
    assert result.reason == "top-1 drop 5.42 pp, limit 1 pp: 4.42 pp over"
    assert judged(P95, p95=25.0).reason == "p95 latency 25 ms, limit 20 ms: 5 ms over"
    assert judged(SIZE, size=6_500_000).reason == "size 6.5 MB, limit 6 MB: 500 kB over"


def test_a_near_miss_does_not_read_like_a_pass() -> None:
    result = judged(SIZE, size=6_000_001)
    assert result.verdict is Verdict.FAIL
    assert "6000001" in result.reason


def test_a_gain_passes() -> None:
    assert judged(DROP, drop=-0.4).verdict is Verdict.PASS


def test_what_was_not_measured_is_inconclusive() -> None:
    unlabelled = judged(DROP, drop=None)
    assert (unlabelled.verdict, unlabelled.measured) == (Verdict.INCONCLUSIVE, None)
    assert "no labels" in unlabelled.reason
    assert judged(DROP, evaluated=False).verdict is Verdict.INCONCLUSIVE
    assert judged(P95).reason == "latency was not measured"
    nothing = Figures(accuracy=accuracy(0.0), latency=latency(1.0))
    results = judge([SIZE, DROP], nothing, target="onnx-int8")
    assert {result.verdict for result in results} == {Verdict.INCONCLUSIVE}


def test_only_matching_targets_are_judged() -> None:
    gates = [Gate(metric="size_bytes", limit=1, targets=("tflite-*", "onnx-int8")), SIZE]
    for target, count in (("tflite-int8", 2), ("onnx-int8", 2), ("openvino-int8", 1)):
        results = judge(gates, Figures(size_bytes=10), target=target)
        assert len(results) == count


@pytest.mark.parametrize(
    ("text", "value", "unit", "written"),
    [
        ("1pp", 1.0, DropUnit.PP, "1pp"),
        (" 0.5 PP ", 0.5, DropUnit.PP, "0.5pp"),
        (".25pp", 0.25, DropUnit.PP, "0.25pp"),
        ("0pp", 0.0, DropUnit.PP, "0pp"),
        ("0.5%", 0.5, DropUnit.PERCENT, "0.5%"),
        ("1 %", 1.0, DropUnit.PERCENT, "1%"),
    ],
)
def test_parse_drop(text: str, value: float, unit: DropUnit, written: str) -> None:
    limit = parse_drop(text)
    assert (limit.value, limit.unit, str(limit)) == (value, unit, written)


def test_a_relative_drop_is_a_share_of_the_baseline() -> None:
    gate = Gate(metric="drop_percent", limit=1.0)
    result = judged(gate, drop=1.0)  # 0.9 to 0.89
    assert result.verdict is Verdict.FAIL
    assert result.measured == pytest.approx(100 / 90)
    assert result.reason == "top-1 drop relative to the baseline 1.111 %, limit 1 %: 0.1111 % over"
    assert judged(gate, drop=0.9).verdict is Verdict.PASS  # exactly the limit
    never_right = replace(accuracy(0.0), baseline_top1=0.0, top1=0.0)
    (undefined,) = judge([gate], Figures(size_bytes=1, accuracy=never_right), target="x")
    assert undefined.verdict is Verdict.INCONCLUSIVE
    assert "never right" in undefined.reason


@pytest.mark.parametrize(
    ("text", "size"),
    [("6MB", 6_000_000), ("600kB", 600_000), ("1.5MiB", 1_572_864), ("10 b", 10), ("1gib", 2**30)],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "ms"), [("20", 20.0), ("20ms", 20.0), ("0.5 ms", 0.5)])
def test_parse_ms(text: str, ms: float) -> None:
    assert parse_ms(text) == ms


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("1", "the unit is missing", "--max-drop 1pp"),
        ("1", "the unit is missing", "1% (of the baseline's top-1)"),
        ("0.5%%", "unknown unit '%%'", "0.5pp"),
        ("2 points", "unknown unit 'points'", "--max-drop 2pp"),
        ("-1pp", "not a number with a unit", "--max-drop 1pp"),
        ("", "not a number with a unit", "--max-drop 1pp"),
        ("nanpp", "not a number with a unit", "--max-drop 1pp"),
        ("1e3pp", "not a number with a unit", "--max-drop 1pp"),
    ],
)
def test_bad_drops(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_drop(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["6", "6M", "6 mebi", "0MB", "0.0001kB", "MB", "6,5MB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--max-size") as caught:
        parse_size(text)
    assert "MB" in caught.value.hint


@pytest.mark.parametrize("text", ["0", "20s", "fast", "-5", "inf"])
def test_bad_latencies(text: str) -> None:
    with pytest.raises(UsageError, match="--max-p95-ms") as caught:
        parse_ms(text)
    assert "20" in caught.value.hint


def test_a_limit_on_a_sample_says_so() -> None:
    sampled = Figures(size_bytes=10, accuracy=replace(accuracy(2.0), sampled_of=369))
    drop, size = judge([DROP, SIZE], sampled, target="tflite-int16x8")
    assert drop.reason == "top-1 drop 2 pp on 100 of 369 images, limit 1 pp: 1 pp over"
    assert size.reason == "size 10 B, limit 6 MB"


# -------------------------------------------------------------------------------------- by the interval


def paired(lost: int, gained: int, images: int, *, baseline_top1: float = 0.9) -> Figures:
    drop = 100 * (lost - gained) / images
    return Figures(
        size_bytes=10,
        accuracy=replace(
            accuracy(drop),
            images=images,
            baseline_top1=baseline_top1,
            drop_ci95_pp=paired_drop_ci(lost, gained, images),
            lost=lost,
            gained=gained,
            agreement=1 - (lost + gained) / images,
            agreement_ci95=wilson_ci(images - lost - gained, images),
        ),
    )


@pytest.mark.parametrize(
    ("lost", "gained", "images", "verdict"),
    [
        (0, 0, 381, Verdict.PASS),  # 100 z^2 / (n + z^2) is 1 pp at 380.3 images
        (0, 0, 380, Verdict.INCONCLUSIVE),
        (5, 1, 1000, Verdict.INCONCLUSIVE),
        (5, 1, 5000, Verdict.PASS),
        (11, 1, 1000, Verdict.INCONCLUSIVE),  # exactly the limit: no number of images shows more
        (12, 1, 1000, Verdict.FAIL),
    ],
)
def test_a_drop_passes_only_with_all_of_its_interval(
    lost: int, gained: int, images: int, verdict: Verdict
) -> None:
    figures = paired(lost, gained, images)
    (result,) = judge([DROP], figures, target="x")
    assert result.verdict is verdict
    assert result.interval == paired_drop_ci(lost, gained, images)
    assert result.by_interval == (verdict is Verdict.INCONCLUSIVE)


def test_the_reason_says_how_many_images_would_do() -> None:
    (result,) = judge([DROP], paired(5, 1, 1000), target="x")
    assert result.images_needed is not None
    assert result.reason == (
        "top-1 drop 0.4 pp, limit 1 pp; its 95 % interval reaches 1.077 pp: about 1,200 images would settle"
        " it, if they turn out alike"
    )
    assert 1100 < result.images_needed <= 1200
    (exact,) = judge([DROP], paired(11, 1, 1000), target="x")
    assert exact.images_needed is None
    assert exact.reason.endswith("it takes more images to tell")


def test_a_relative_drop_has_its_interval_in_percent_of_the_baseline() -> None:
    figures = paired(5, 1, 1000, baseline_top1=0.5)
    (result,) = judge([Gate(metric="drop_percent", limit=1.0)], figures, target="x")
    low, high = paired_drop_ci(5, 1, 1000)
    assert result.interval == pytest.approx((2 * low, 2 * high))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.images_needed is not None
    half = images_for_drop(5, 1, 1000, limit_pp=0.5)
    assert result.images_needed == half


@pytest.mark.parametrize(
    ("metric", "verdict"), [("agreement", Verdict.INCONCLUSIVE), ("mean_kl", Verdict.PASS)]
)
def test_a_share_has_wilsons_interval_and_a_divergence_none(metric: str, verdict: Verdict) -> None:
    (result,) = judge([Gate(metric=metric, limit=0.99)], paired(5, 0, 1000), target="x")
    assert result.verdict is verdict
    if metric == "agreement":
        assert result.interval == wilson_ci(995, 1000)
        assert "its 95 % interval reaches 98.8" in result.reason
        needed = result.images_needed
        assert needed is not None
        assert wilson_ci(round(0.995 * needed), needed)[0] == pytest.approx(0.99, abs=1e-3)


@pytest.mark.parametrize(
    ("gate", "images", "said"),
    [
        (DROP, 381, ""),
        (DROP, 100, "no answer changes, the 95 % interval reaches 3.699 pp; that takes at least 390 images"),
        (Gate(metric="drop_pp", limit=0.0), 5000, "no number of images could"),
        (Gate(metric="drop_top5_pp", limit=1.0), 100, "top-5 drop <= 1 pp cannot be shown"),
        (Gate(metric="agreement", limit=0.99), 100, "if no answer changes, the 95 % interval reaches 96.3"),
        (Gate(metric="top1", limit=0.9), 20, "if all answers are right, the 95 % interval reaches 83.8"),
        (SIZE, 1, ""),
        (DROP, 0, ""),
    ],
)  # fmt: skip
def test_what_images_cannot_show_is_known_before(gate: Gate, images: int, said: str) -> None:
    found = foreseen(gate, images)
    assert said in found
    assert bool(found) == bool(said)
