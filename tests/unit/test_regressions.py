"""What got worse between two runs, by how much, and what cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.errors import ExitCode, UnknownNameError, UsageError
from edgefx.metrics import METRICS
from edgefx.provenance.comparison import Flip, Flips, RunDiff, TargetDiff
from edgefx.provenance.regressions import judge, parse
from edgefx.verdicts import Verdict

FIGURES: dict[str, float | None] = {
    **dict.fromkeys(METRICS),
    "size_bytes": 1000.0,
    "p95_ms": 10.0,
    "agreement": 0.99,
}


def flips(lost: int, gained: int, interval: tuple[float, float]) -> Flips:
    one = Flip(image="a.png", label=0, before=0, after=1)
    return Flips(
        images=1000,
        left_out=0,
        lost=lost,
        gained=gained,
        drop_pp=(lost - gained) / 10,
        drop_ci95_pp=interval,
        flipped=(one,) * (lost + gained),
    )


def a_diff(after: Mapping[str, float | None] | None = None, *, found: Flips | None = None) -> RunDiff:
    target = TargetDiff(
        target="tflite-int8", before=FIGURES, after={**FIGURES, **(after or {})}, identical=False, flips=found
    )
    return RunDiff(before=Path("a"), after=Path("b"), changes=(), targets=(target,))


def verdict(diff: RunDiff, limit: str) -> tuple[Verdict, str]:
    (one,) = judge(diff, [parse(limit)])
    assert one.limit == limit
    return one.verdict, one.reason


@pytest.mark.parametrize(
    ("limit", "after", "wanted"),
    [
        ("size_bytes=5%", 1050.0, Verdict.PASS),
        ("size_bytes=5%", 1051.0, Verdict.FAIL),
        ("size_bytes=5%", 500.0, Verdict.PASS),
        ("size_bytes=0.1kB", 1100.0, Verdict.PASS),
        ("size_bytes=0.1kB", 1101.0, Verdict.FAIL),
        ("p95_ms=1ms", 11.5, Verdict.FAIL),
        ("p95_ms=20%", 11.5, Verdict.PASS),
        ("agreement=1pp", 0.985, Verdict.PASS),  # less of it is worse
        ("agreement=1pp", 0.97, Verdict.FAIL),
        ("p95_ms=20%", None, Verdict.INCONCLUSIVE),
    ],
)
def test_a_metric_may_get_worse_by_that_much(limit: str, after: float | None, wanted: Verdict) -> None:
    assert verdict(a_diff({limit.partition("=")[0]: after}), limit)[0] is wanted


def test_a_drop_fails_beyond_chance_only() -> None:
    clear = a_diff(found=flips(30, 5, (1.4, 3.7)))
    assert verdict(clear, "drop_pp=0.5pp") == (
        Verdict.FAIL,
        "top-1 fell by 2.50 pp on 1000 images (95 % CI of the fall 1.40 to 3.70)",
    )
    assert verdict(clear, "top1=0.5pp")[0] is Verdict.FAIL
    assert verdict(clear, "drop_pp=2.5pp")[0] is Verdict.PASS
    vague, reason = verdict(a_diff(found=flips(14, 8, (-0.4, 1.7))), "drop_pp=0.5pp")
    assert vague is Verdict.INCONCLUSIVE
    assert reason.endswith("which may be chance")


def test_a_target_that_is_gone_is_no_pass_and_a_new_one_is_nothing_worse() -> None:
    one = a_diff()
    (target,) = one.targets
    gone = replace(one, targets=(replace(target, after=None), replace(target, target="new", before=None)))
    (found,) = judge(gone, [parse("size_bytes=5%")])
    assert (found.target, found.verdict) == ("tflite-int8", Verdict.INCONCLUSIVE)


def test_the_exit_code_is_that_of_a_gate() -> None:
    one = a_diff({"size_bytes": 2000.0, "p95_ms": None})
    worse, unknown = [parse("size_bytes=5%")], [parse("p95_ms=5%")]
    assert one.exit_code is ExitCode.OK
    assert replace(one, regressions=judge(one, worse)).exit_code is ExitCode.GATE_FAILED
    assert replace(one, regressions=judge(one, unknown)).exit_code is ExitCode.GATE_FAILED
    assert replace(one, regressions=judge(one, unknown, tolerated=True)).exit_code is ExitCode.OK
    assert replace(one, regressions=judge(one, worse, tolerated=True)).exit_code is ExitCode.GATE_FAILED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size", "METRIC=CHANGE"),
        ("drop_pp>0.5", "METRIC=CHANGE"),
        ("drop_pp=-1pp", "METRIC=CHANGE"),
        ("drop_pp=0.5", "the unit is missing"),
        ("p95_ms=1kB", "'kB' is no unit of it"),
        ("size_bytes=5", "the unit is missing"),
        ("p95_ms=1e999ms", "too large"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse(text)
    assert caught.value.hint
    assert text in caught.value.message


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="p95_m"):
        parse("p95_m=5%")
