"""Every warning ends in what to try: those that a run makes, and those that follow from its figures."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from edgefx.evaluation import inference, trust
from edgefx.models import load
from edgefx.report import findings
from edgefx.results import RunReport
from edgefx.runtimes.hardware import misfit, note
from edgefx.vocabulary import Hardware
from tests.architecture.package import modules
from tests.unit.report_samples import accuracy, latency, report


def warned() -> list[tuple[str, ast.Call]]:
    """All calls of `Memo.warn`, which are what report.json has as warnings of a run."""
    return [
        (name, node)
        for name, module in modules().items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "warn"
        and ast.unparse(node.func.value).endswith("memo")
    ]


def test_who_warns_says_what_to_try() -> None:
    found = warned()
    assert len(found) >= 10
    for name, call in found:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert "to_try" in said, f"{name}: {ast.unparse(call)}"
        assert len(said["to_try"]) > 5, name


def test_notes_on_a_model_have_something_to_try_behind_the_first_semicolon() -> None:
    notes = [value for name, value in vars(load).items() if name in ("_UNTRAINED", "_UNSAFE", "_NO_LAYERS")]
    assert len(notes) == 3
    assert all(len(text.partition("; ")[2]) > 20 for text in notes)


def spoilt() -> RunReport:
    """A run with every warning that follows from figures."""
    made = report()
    slow = replace(latency(p50_ms=9.0, ratio_to_float=1.4), ratio_ci95=(1.3, 1.5))
    profiled = replace(slow, float_share=0.4, conversion_share=0.2)
    noisy = replace(latency(p50_ms=9.0, ratio_to_float=0.5), noise=0.6, noisy=True)
    targets = [
        replace(result, target=name, latency=one, warnings=())
        for result, name, one in zip(
            made, ("tflite-int8", "onnx-int8", "openvino-int8"), (slow, profiled, noisy), strict=True
        )
    ]
    return findings.complete(replace(made, targets=tuple(targets)))


def test_warnings_that_follow_from_figures_say_it() -> None:
    slow, profiled, noisy = (result.warnings for result in spoilt())
    end = "; measure where it is to run (--device), and take a float target where INT8 is no faster"
    assert slow[0].endswith(f"; edgefx benchmark --profile says what takes the time{end}")
    assert profiled[0].endswith(end)
    assert "40% of their time in float and 20% in conversions;" in profiled[0]
    assert noisy[0].endswith("; end other programs and measure again")
    said = inference.told({1: "no such index"}, ["a.png", "b.png"], images=2)
    assert said.startswith("1 of 2 images got no answer, and count as wrong: b.png: no such index; ")
    assert "error_rate <= 0" in said
    assert said.endswith("try the float32 target, or retrain")
    elsewhere = misfit([note(str(Hardware.ARM_DOTPROD))], Hardware.X86, "host")
    assert elsewhere is not None
    assert elsewhere.endswith(f"--hardware {Hardware.X86}")


@pytest.mark.parametrize(
    "doubts",
    [
        trust.of_images(5, fewest=100),
        trust.of_artifact(replace(accuracy(top1=0.1), agreement=0.2)),
        trust.of_model([1] * 60, [0] * 30 + [1] * 30, class_names=("a", "b"), who="it"),
        trust.of_model([0] * 60, [0] * 60, class_names=("a", "b"), who="it"),
        (trust.of_copies(3, 60, purpose="training", examples="a = b"),),
    ],
)
def test_doubts_have_advice(doubts: tuple[object, ...]) -> None:
    assert doubts
    assert all(len(str(getattr(one, "advice", ""))) > 10 for one in doubts)
