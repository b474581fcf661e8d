"""Result cards: made of a run, committed, compared, judged; and those of strangers refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.errors import UsageError
from edgefx.measured import Match
from edgefx.provenance import cards, differences, gating, regressions
from edgefx.provenance.cards import ResultCard
from edgefx.recipe.conditions import parse
from edgefx.results import Accuracy, ComparedAnswers, Latency
from edgefx.verdicts import Verdict

LATENCY = Latency(
    device="pi5", threads=4, rounds=500, p50_ms=12.5, p95_ms=13.0, min_ms=12.0, cold_start_ms=50.0,
    peak_memory_mb=60.0, precision_ran="int8", ratio_to_float=0.5, ratio_ci95=(0.48, 0.52),
    p50_ci95_ms=(12.2, 12.8), energy_mj=31.0,
)  # fmt: skip
ACCURACY = Accuracy(
    images=360, top1=0.97, top5=None, baseline_top1=0.98, baseline_top5=None, drop_pp=1.0,
    drop_ci95_pp=(-0.2, 2.2), agreement=0.99, mean_kl=0.01, max_abs_dp=0.1, images_per_s=80.0,
)  # fmt: skip
ANSWERS = ComparedAnswers(images=8, match=Match.SAME_TOP1, same_top1=8, max_abs_difference=0.01)
CARD = ResultCard(
    card_version=1, created="2026-11-28", edgefx="0.1.0", model="b0.keras", target="tflite-int8",
    device="pi5",
    cpu="Raspberry Pi 5 (Cortex-A76)", machine="aarch64", cores=4, os="Debian 12, Linux 6.6", hardware=None,
    packages={"ai-edge-litert": "2.3.0", "numpy": "2.2.0"}, content=("ab" * 32,), size_bytes=4_900_000,
    accuracy=ACCURACY, latency=LATENCY,
    answers=ANSWERS,
)  # fmt: skip


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    file = cards.write(CARD, tmp_path / "new")
    assert file.name == "b0.keras-tflite-int8-pi5.card.json"
    assert cards.read(file) == cards.read(tmp_path / "new") == (CARD,)
    assert len(file.read_text().splitlines()) < 120


def test_names_of_devices_are_no_paths(tmp_path: Path) -> None:
    file = cards.write(replace(CARD, device="ssh://pi@host:22/../..", model="../x"), tmp_path)
    assert file.parent == tmp_path
    assert file.name == "x-tflite-int8-ssh-pi-host-22.card.json" or ".." not in file.name


def test_cards_are_compared_like_runs(tmp_path: Path) -> None:
    slower = replace(
        CARD,
        packages={**CARD.packages, "ai-edge-litert": "2.4.0"},
        latency=replace(LATENCY, p50_ms=15.0),
        answers=replace(ANSWERS, match=Match.DIFFERS),
    )
    old, new = cards.write(CARD, tmp_path / "old"), cards.write(slower, tmp_path / "new")
    found = differences.diff(old, new)
    assert [(one.name, one.before, one.after) for one in found.changes] == [
        ("ai-edge-litert", "2.3.0", "2.4.0"),
        ("answers", "same top-1", "differs"),
    ]
    (target,) = found.targets
    assert (target.target, target.identical) == ("tflite-int8@pi5", True)
    (judged,) = regressions.judge(found, [regressions.parse("p50_ms=10%")])
    assert judged.verdict is Verdict.FAIL
    assert judged.reason == "12.5 ms -> 15 ms"


def test_folders_of_cards_are_compared_card_by_card(tmp_path: Path) -> None:
    other = replace(CARD, device="pi4", cores=2)
    for card in (CARD, other):
        cards.write(card, tmp_path / "old")
    cards.write(replace(other, cores=4), tmp_path / "new")
    found = differences.diff(tmp_path / "old", tmp_path / "new")
    assert [one.name for one in found.changes] == ["cores"]
    cards.write(CARD, tmp_path / "new")
    found = differences.diff(tmp_path / "old", tmp_path / "new")
    assert [(one.name, one.before, one.after) for one in found.changes] == [
        ("cores (tflite-int8@pi4)", "2", "4")
    ]


def test_a_card_and_a_run_are_not_compared(tmp_path: Path) -> None:
    file = cards.write(CARD, tmp_path / "old")
    (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match=r"a run, and .*: a card") as caught:
        differences.diff(file, tmp_path / "run")
    assert "edgefx device card" in caught.value.hint


def test_gates_judge_cards(tmp_path: Path) -> None:
    file = cards.write(CARD, tmp_path)
    limits = [
        parse(text) for text in ("pi5: p50_ms <= 20", "tflite-int8@pi5: energy_mj <= 30", "agreement >= 95%")
    ]
    found = gating.judge([file], limits, min_images=100)
    verdicts = {result.gate.metric: result.verdict for one in found for result in one.gates}
    assert verdicts["p50_ms"] is Verdict.PASS
    assert verdicts["energy_mj"] is Verdict.FAIL
    slower = cards.write(replace(CARD, latency=replace(LATENCY, p50_ms=15.0)), tmp_path / "new")
    against = gating.judge([slower], limits[:1], against=file, fail_on=["p50_ms=10%"])
    assert [one.verdict for one in against.regressions] == [Verdict.FAIL]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "no card of edgefx"),
        ("[]", "no card of edgefx"),
        ('{"card_version": 1}', "no card of edgefx"),
        ('{"card_version": 2}', "a card of version 2, this edgefx reads version 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"card_version": ' + "9" * 50 + "}", "a number of 50 digits"),
        ({"cores": "many"}, "no card of edgefx"),
        ({"latency": {"p50_ms": 1}}, "no card of edgefx"),
        ({"latency": None, "accuracy": 3}, "no card of edgefx"),
        ({"packages": ["numpy"]}, "no card of edgefx"),
        ({"hardware": "abacus"}, "no card of edgefx"),
    ],
)
def test_cards_of_strangers_are_refused(tmp_path: Path, change: str | dict[str, object], said: str) -> None:
    file = cards.write(CARD, tmp_path)
    text = change if isinstance(change, str) else json.dumps({**json.loads(file.read_text()), **change})
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        cards.read(file)
    assert str(file) in caught.value.message
    with pytest.raises(UsageError):
        gating.judge([tmp_path], [parse("p50_ms <= 20")])


def test_two_cards_of_one_thing_are_refused(tmp_path: Path) -> None:
    file = cards.write(CARD, tmp_path)
    file.with_name("copy.card.json").write_text(file.read_text())
    with pytest.raises(UsageError, match="another card of"):
        cards.read(tmp_path)


def test_a_card_too_large_for_one_is_not_read(tmp_path: Path) -> None:
    file = cards.write(CARD, tmp_path)
    file.write_text(" " * 2_000_000)
    with pytest.raises(UsageError):
        cards.read(file)
