"""In narrow terminals names and figures stay whole: columns are left out, and it is said which."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgefx import views
from edgefx.provenance.comparison import Change, Flips, RunDiff, TargetDiff
from edgefx.report import comparison, debug, evaluation, matrix, plan
from edgefx.report.console import PlainConsole
from edgefx.report.terminal import Heading, fitting
from edgefx.results import Latency
from edgefx.vocabulary import StageKind
from tests.unit import test_diagnosis, test_report_matrix
from tests.unit.report_samples import latency, report

Print = Callable[[Console], None]


def printed(show: Print, width: int) -> str:
    stream = io.StringIO()
    show(PlainConsole(file=stream, width=width, color_system=None))
    return stream.getvalue()


def _difference() -> RunDiff:
    flips = Flips(images=360, left_out=0, flipped=(), lost=0, gained=0, drop_pp=0.0, drop_ci95_pp=(-1.1, 1.1))
    figures = {"size_bytes": 243_000.0, "top1": 0.9944, "p50_ms": 0.153}
    targets = tuple(
        TargetDiff(
            target=name, before=figures, after={**figures, "p50_ms": 0.2}, identical=False, flips=flips
        )
        for name in ("tflite-int8", "openvino-float32")
    )
    changes = (
        Change(
            kind="recipe",
            name="targets[0].target",
            before="tflite-float32, openvino-float32, tflite-int8",
            after="onnx-int8",
        ),
        Change(kind="recipe", name="quantize.budget", before="", after="2pp"),
    )
    return RunDiff(before=Path("before"), after=Path("after"), changes=changes, targets=targets)


def _benchmark(**changed: object) -> views.Benchmark:
    one: Latency = replace(latency(p50_ms=3.04, ratio_to_float=0.5), **changed)  # type: ignore[arg-type]
    latencies = {"build/mobile/efficientnet-int16x8.tflite": one}
    return views.Benchmark(environment=report().environment, latencies=latencies, failures={})


TABLES: dict[str, tuple[Print, tuple[str, ...]]] = {
    "diff": (
        lambda console: comparison.render_diff(_difference(), console),
        ("tflite-int8", "openvino-float32", "targets[0].target", "quantize.budget: - -> 2pp", "differ"),
    ),
    "benchmark": (
        lambda console: evaluation.render_benchmark(_benchmark(), console),
        ("build/mobile/efficientnet-int16x8.tflite", "3.04"),
    ),
    "matrix": (
        lambda console: matrix.render(test_report_matrix.run(), console),
        ("b0_224", "b1_240", "openvino-float32", "FAILED"),
    ),
    "debug": (
        lambda console: debug.render(
            test_diagnosis.debug_report(), console, limit=0, order=debug.Order.EFFECT
        ),
        (),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_names_and_figures_are_whole_at_60_columns(name: str) -> None:
    show, whole = TABLES[name]
    text = printed(show, 60)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 60
    assert not [line for line in text.splitlines() if line.endswith(" ")]
    for word in whole:
        assert word in text
    assert "left out, for want of width: " in text
    assert "left out" not in printed(show, 200)


def test_a_dry_run_is_wrapped_and_not_cut() -> None:
    steps = (
        views.PlanStep(
            stage=StageKind.CONVERT,
            target="tflite-int8",
            what="int8, uint8 input and output, ptq, effort balanced, searched for a drop of at most 0.01pp",
            cached=False,
        ),
    )
    shown = views.PlanView(name="", model="digits", output="edgefx-out", steps=steps)
    text = printed(lambda console: plan.render(shown, console), 60)
    assert "0.01pp to do" in " ".join(text.replace("│", " ").split())
    assert max(len(line) for line in text.splitlines()) <= 60
    assert not [line for line in text.splitlines() if line.endswith(" ")]


def test_the_highest_rank_goes_first_and_of_one_rank_the_last() -> None:
    headings = [Heading(title="name"), *(Heading(title=f"c{rank}", rank=rank) for rank in (1, 2, 2, 1))]
    rows = [["x" * 10, "1" * 10, "2" * 10, "3" * 10, "4" * 10]]

    def left_out(width: int) -> str:
        def show(console: Console) -> None:
            for part in fitting(headings, rows, console):
                console.print(part)

        return " ".join(printed(show, width).split()).partition("left out, for want of width: ")[2]

    assert [left_out(width) for width in (54, 53, 42, 31, 20)] == [
        "", "c2", "c2, c2", "c2, c2, c1", "c1, c2, c2, c1",
    ]  # fmt: skip


def test_a_benchmark_says_when_it_was_noisy() -> None:
    quiet = printed(lambda console: evaluation.render_benchmark(_benchmark(), console), 200)
    assert "warning" not in quiet
    noisy = _benchmark(noise=0.55, noisy=True)
    text = printed(lambda console: evaluation.render_benchmark(noisy, console), 200)
    assert "warning: build/mobile/efficientnet-int16x8.tflite: its latency is not to be relied on" in text
    assert "changed by 55%" in text
