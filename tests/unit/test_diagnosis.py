"""The verdict of `edgefx debug`, how it is shown, and its plot."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgefx.analysis.diagnosis import (
    Broken,
    Cure,
    DebugReport,
    Diagnosis,
    Difference,
    FailedTarget,
    LayerFigures,
    Step,
    StepFigures,
    advise,
    judge,
)
from edgefx.errors import ExitCode, OutputError, UsageError
from edgefx.report.debug import Order, ordered, render
from edgefx.report.page import debug as debug_page
from edgefx.report.page import plot
from edgefx.results import Failure, LayerSensitivity
from edgefx.storage.serde import dumps
from edgefx.types import Effort, Precision, StageKind
from tests.unit.report_samples import artifact, report

SAME = Difference(max_abs_dp=1e-7, mean_kl=1e-12, agreement=1.0)
WORSE = Difference(max_abs_dp=0.9, mean_kl=0.4, agreement=0.8)
SLIGHT = Difference(max_abs_dp=0.1, mean_kl=0.01, agreement=0.98)
CURE = Cure(layers=("stem_conv",), before=WORSE, after=SLIGHT)


def steps(**changes: Difference) -> tuple[StepFigures, ...]:
    found, total = [], SAME
    for step in (Step.CANONICAL, Step.CONVERTED, Step.SIMULATED, Step.ARTIFACT):
        change = changes.get(step.name.lower(), SAME)
        total = max(total, change, key=lambda difference: difference.mean_kl)
        found.append(StepFigures(step=step, change=change, total=total))
    return tuple(found)


LAYERS = (
    LayerFigures(
        layer="stem_conv", kind="Conv2D", quantized="weights+output", sqnr_db=9.6, weights_sqnr_db=44.0,
        low=-31.7, high=28.0, seen_low=-92.3, seen_high=71.5, saturated=0.1234, levels_used=0.5,
        alone_mean_kl=0.3, alone_top1_changed=0.12,
    ),
    LayerFigures(
        layer="block1a_activation", kind="Activation", quantized="output", sqnr_db=22.5, low=-0.28, high=20.0,
        seen_low=-0.278, seen_high=19.0, saturated=0.0, levels_used=1.0, alone_mean_kl=1e-4,
        alone_top1_changed=0.0,
    ),
    LayerFigures(layer="rescaling", kind="Rescaling", quantized="", sqnr_db=math.inf),
)  # fmt: skip


def diagnosis() -> Diagnosis:
    found = steps(simulated=WORSE)
    broken, verdict = judge(found, precision=Precision.INT8, cure=CURE)
    return Diagnosis(
        target="tflite-int8",
        artifact=artifact("tflite-int8", size_bytes=5_000_000, compute_int8=300),
        steps=found,
        layers=LAYERS,
        cure=CURE,
        broken=broken,
        verdict=verdict,
        seconds=75.0,
        graph=("rescaling", "stem_conv", "block1a_activation"),
        notes=("a note",),
    )


def debug_report() -> DebugReport:
    run = report()
    return DebugReport(
        schema_version=1,
        created=run.created,
        command="edgefx debug b0 -t tflite-int8",
        environment=run.environment,
        model=run.model,
        data=run.data[:1],
        seed=0,
        effort=Effort.BALANCED,
        images=50,
        measured_on="calibration",
        tapped_images=16,
        targets=(diagnosis(),),
    )


def shown(found: DebugReport, *, width: int = 120, limit: int = 20, order: Order = Order.EFFECT) -> str:
    stream = io.StringIO()
    render(found, Console(file=stream, width=width, color_system=None), limit=limit, order=order)
    return stream.getvalue()


# ----------------------------------------------------------------------------------------------- verdict


@pytest.mark.parametrize(
    ("changes", "broken", "said"),
    [
        ({}, Broken.NOTHING, "nothing is broken: 100.0%"),
        ({"simulated": SLIGHT}, Broken.NOTHING, "nothing is broken: 98.0%"),
        ({"canonical": SLIGHT}, Broken.CANONICALIZATION, "canonicalization broke it"),
        ({"converted": WORSE, "simulated": WORSE}, Broken.CONVERSION, "conversion broke it"),
        ({"simulated": WORSE}, Broken.QUANTIZATION, "quantization broke it, here: stem_conv."),
        ({"artifact": WORSE}, Broken.EXECUTION, "the runtime broke it"),
    ],
)
def test_the_first_stage_that_breaks_is_blamed(
    changes: dict[str, Difference], broken: Broken, said: str
) -> None:
    found, verdict = judge(steps(**changes), precision=Precision.INT8, cure=CURE)
    assert found is broken
    assert verdict.startswith(said)


def test_the_layer_that_the_converter_changed_is_named() -> None:
    _, verdict = judge(steps(converted=WORSE), precision=Precision.FLOAT32, cure=None, first_bad="stem_conv")
    assert "conversion broke it, first in layer stem_conv" in verdict


def alone(layer: str, mean_kl: float) -> LayerSensitivity:
    return LayerSensitivity(layer=layer, mean_kl=mean_kl, top1_changed=0.0)


def test_where_most_is_lost_is_said_of_a_sound_artifact_too() -> None:
    _, verdict = judge(
        steps(simulated=SLIGHT),
        precision=Precision.INT8,
        cure=None,
        worst=[alone(name, 9e-4 / number) for number, name in enumerate("abcde", start=1)],
        images="evaluation images",
    )
    assert "of the evaluation images keep their class" in verdict
    assert verdict.endswith(
        "Most is lost in a (KL alone 9.0e-04), b (KL alone 4.5e-04), c (KL alone 3.0e-04),"
        " d (KL alone 2.2e-04); a user would notice 0.05."
    )


@pytest.mark.parametrize(
    ("effort", "first"),
    [(Effort.FAST, "--effort balanced"), (Effort.BALANCED, "--effort high"), (None, "keep_float")],
)
def test_advice_names_what_to_try_with_its_flag(effort: Effort | None, first: str) -> None:
    found = advise(Broken.QUANTIZATION, CURE, effort=effort, precision=Precision.INT8)
    assert first in found[0]
    kept = next(one for one in found if "keep_float" in one)
    assert f"keep_float: [{', '.join(CURE.layers)}]" in kept
    assert f"(simulated: mean KL {CURE.before.mean_kl:.2g} -> {CURE.after.mean_kl:.2g})" in kept
    assert any("--qat distill" in one for one in found)


def test_there_is_no_advice_where_none_is_needed() -> None:
    for broken in (Broken.NOTHING, Broken.CONVERSION, Broken.CANONICALIZATION, Broken.EXECUTION):
        assert advise(broken, CURE, effort=Effort.FAST, precision=Precision.INT8) == ()
    useless = replace(CURE, after=CURE.before)
    found = advise(Broken.QUANTIZATION, useless, effort=Effort.HIGH, precision=Precision.INT8)
    assert found == ("train for it: --qat distill --train DIR",)


def test_what_float_layers_would_bring_is_said() -> None:
    many = replace(CURE, layers=tuple("abcdef"))
    _, verdict = judge(steps(simulated=WORSE), precision=Precision.INT8, cure=many)
    assert "here: a, b, c, d and 2 more. With them in float, mean KL falls from 0.4 to 0.01" in verdict
    assert "80.0% to 98.0%" in verdict


def test_rounding_while_running_is_called_so() -> None:
    _, verdict = judge(steps(artifact=WORSE), precision=Precision.DYNAMIC, cure=None)
    assert "quantization at run time broke it" in verdict


def test_a_failed_target_is_exit_code_4() -> None:
    failure = Failure(stage=StageKind.CONVERT, message="refused", hint="try float32")
    assert debug_report().exit_code is ExitCode.OK
    failed = replace(debug_report(), failures=(FailedTarget(target="onnx-int8", failure=failure),))
    assert failed.exit_code is ExitCode.STAGE_FAILED
    text = shown(failed)
    assert "FAILED onnx-int8: refused" in text
    assert "try float32" in text


# --------------------------------------------------------------------------------------------- rendering


@pytest.mark.parametrize(
    ("order", "first"),
    [
        (Order.EFFECT, ["stem_conv", "block1a_activation", "rescaling"]),
        (Order.SQNR, ["stem_conv", "block1a_activation", "rescaling"]),
        (Order.SATURATED, ["stem_conv", "block1a_activation", "rescaling"]),
        (Order.GRAPH, ["rescaling", "stem_conv", "block1a_activation"]),
    ],
)
def test_layers_are_sorted_the_worst_first(order: Order, first: list[str]) -> None:
    mixed = (LAYERS[2], LAYERS[1], LAYERS[0])
    assert [row.layer for row in ordered(mixed, order, graph=diagnosis().graph)] == first


def test_all_figures_are_there_where_there_is_room() -> None:
    text = shown(debug_report(), width=160)
    (row,) = [line.split() for line in text.splitlines() if line.startswith("stem_conv")]
    assert row == [
        "stem_conv", "Conv2D", "weights+output", "3.0e-01", "12.0%", "9.6", "44.0", "-31.7", "..", "28.0",
        "-92.3", "..", "71.5", "12.34%", "50%",
    ]  # fmt: skip
    assert "tflite-int8: quantization broke it, here: stem_conv." in text
    assert "integer artifact" in text
    assert "a note" in text
    (bare,) = [line.split() for line in text.splitlines() if line.startswith("rescaling")]
    assert bare[2:] == ["-", "-", "-", "exact", *["-"] * 5]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_narrow_terminals_lose_columns_but_nothing_is_cut(width: int) -> None:
    text = shown(debug_report(), width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for needed in ("stem_conv", "KL alone", "SQNR dB", "3.0e-01"):
        assert needed in text


def test_no_more_layers_are_shown_than_asked_for() -> None:
    text = shown(debug_report(), limit=1)
    assert "2 more layers: --limit 0 shows all" in text
    assert "block1a_activation" not in text
    assert "block1a_activation" in shown(debug_report(), limit=0)


def test_json_has_null_where_a_ratio_is_infinite() -> None:
    text = dumps(debug_report())
    assert '"sqnr_db": null' in text
    assert '"exit_code": 0' in text
    assert '"verdict": "quantization broke it' in text


# -------------------------------------------------------------------------------------------------- plot


def test_the_plot_has_a_bar_for_each_figure_and_loads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "layers.html"
    found = replace(debug_report(), targets=(replace(diagnosis(), verdict="worse than <before> & after"),))
    plot.write(lambda: debug_page.dumps(found), path)
    page = path.read_text()
    assert "://" not in page
    assert "&lt;before&gt; &amp; after" in page
    svg = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])  # noqa: S314 - our own
    bars = svg.findall("rect")
    assert [bar.get("class") for bar in bars] == ["kl", "kl", "db", "db", "db"]
    heights = [float(bar.get("height", "0")) for bar in bars]
    assert all(0 < height <= 180 for height in heights)
    assert heights[0] > heights[1]  # in the graph's order: stem_conv, block1a_activation
    assert "stem_conv (Conv2D), KL alone 0.3, SQNR 9.6 dB" in (bars[0].findtext("title") or "")


def test_the_page_has_the_tables_and_what_to_try() -> None:
    report = debug_report()
    (diagnosis,) = report.targets
    page = debug_page.dumps(replace(report, targets=(replace(diagnosis, advice=("leave <it> in float",)),)))
    for name in (
        *(step.step.value for step in diagnosis.steps[:-1]),
        *(row.layer for row in diagnosis.layers),
    ):
        assert f'<th scope="row" class="left">{name}</th>' in page
    for title in ("KL alone", "levels used", "max |dp|"):
        assert f">{title}</th>" in page
    assert "<li>leave &lt;it&gt; in float</li>" in page
    assert "<li>" not in debug_page.dumps(report)
    assert f"{report.images} calibration images" in page


def test_a_plot_without_quantized_layers_is_no_error() -> None:
    bare = replace(diagnosis(), layers=LAYERS[2:], graph=("rescaling",))
    assert debug_page.dumps(replace(debug_report(), targets=(bare,))).count("<rect") == 1


def test_other_kinds_of_plot_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HTML") as caught:
        plot.check(tmp_path / "layers.png")
    assert "layers.html" in caught.value.hint


def test_a_plot_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="--plot"):
        plot.write(lambda: debug_page.dumps(debug_report()), tmp_path / "file" / "layers.html")
