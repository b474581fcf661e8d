"""The report for people, and its sentences."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.errors import ExitCode, OutputError, UsageError
from edgefx.report import destination, inspection, markdown, terminal, write
from edgefx.report.console import PlainConsole
from edgefx.results import CachedStage, DropUnit, MaxDrop, RunReport
from edgefx.verdicts import Verdict
from edgefx.views import ArtifactInspection
from edgefx.vocabulary import REPORT_FORMATS, StageKind
from tests.unit.report_samples import (
    accuracy,
    artifact,
    gate,
    report,
    with_devices,
    with_failure,
    with_search,
)


def _text(shown: RunReport, width: int = 120) -> str:
    stream = io.StringIO()
    terminal.render(shown, PlainConsole(file=stream, width=width, color_system=None))
    return stream.getvalue()


def _unwrapped(shown: RunReport, width: int = 120) -> str:
    return " ".join(_text(shown, width).split())


@pytest.mark.parametrize("width", [60, 70])
def test_narrow_terminals_lose_columns_and_are_told_which(width: int) -> None:
    text = _text(report(), width)
    assert "\u2026" not in text  # no name and no figure is cut
    assert "left out, for want of width: " in text
    for figure in ("2.48", "3.22", "0.61x", "92.12%", "openvino-float32"):
        assert figure in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert not [line for line in text.splitlines() if line.endswith(" ")]


def test_no_line_of_a_table_ends_in_blanks() -> None:
    table = terminal.table("target", "what it is", "", left=("what it is", ""))
    table.add_row("tflite-int8", "a", "")
    table.add_row("onnx-int8", "much longer than that", "x")
    stream = io.StringIO()
    PlainConsole(file=stream, width=80, force_terminal=True, color_system="truecolor").print(table)
    plain = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue())
    assert [line for line in plain.split("\n") if line != line.rstrip()] == []
    assert plain.split("\n")[2] == "tflite-int8  a"
    searched = with_search(report(), limit=MaxDrop(value=0.5, unit=DropUnit.PP))
    for shown in (report(), with_failure(report()), searched):
        assert not [line for line in _text(shown, 160).splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("width", [80, 100, 120, 140, 160])
def test_nothing_is_cut_from_80_columns_on(width: int) -> None:
    for shown in (report(), report(labelled=False), with_failure(report()), with_devices(report())):
        text = _text(shown, width)
        assert "…" not in text
        assert max(len(line) for line in text.splitlines()) <= width
        for result in shown:
            assert result.target in text


def test_figures_of_a_target_are_in_its_rows() -> None:
    rows = [line.split() for line in _text(report(), 160).splitlines() if line.startswith("onnx-int8")]
    assert rows == [
        [
            "onnx-int8", "5.31", "MB", "0.33x", "91.02%", "99.93%", "+2.19", "-0.3", "to", "+2.5", "97.6%",
            "7.70", "10.0", "1.26x", "61.3", "142", "300/3", "int8", "FAIL",
        ],
    ]  # fmt: skip


def test_narrow_terminals_get_two_tables_and_lose_only_optional_columns() -> None:
    header_80 = [line for line in _text(report(), 80).splitlines() if line.startswith("target")]
    assert len(header_80) == 2
    assert "95% CI" in header_80[0]
    inconclusive = replace(
        report().targets[0],
        gates=(gate("p95_ms", 5, None, Verdict.INCONCLUSIVE, "latency was not measured"),),
    )
    text = _text(replace(report(), targets=(inconclusive,)), 80)
    assert "INCONCLUSIVE" in text
    assert "…" not in text


def test_unlabelled_runs_show_agreement_and_divergence() -> None:
    shown = report(labelled=False)
    text = _unwrapped(replace(shown, targets=tuple(replace(result, gates=()) for result in shown)))
    assert "agree mean KL max |dp|" in text
    assert "top-1" not in text
    assert "drop pp" not in text
    assert "without labels" in text


def test_scores_that_were_rounded_alike_are_said_to_be_where_that_matters() -> None:
    def rounded(shown: RunReport) -> RunReport:
        first, *others = shown.targets
        assert first.accuracy is not None
        first = replace(first, accuracy=replace(first.accuracy, score_step=1 / 256))
        return replace(shown, targets=(first, *others))

    note = (
        "tflite-int8: its scores are multiples of 1/256; mean KL and max |dp| are against the float model's"
    )
    unlabelled = _unwrapped(rounded(report(labelled=False)))
    assert note in unlabelled
    assert unlabelled.count("multiples of") == 1
    labelled = rounded(report())
    assert note not in _unwrapped(labelled)  # neither figure is shown
    limit = gate("mean_kl", 0.1, 0.01, Verdict.PASS, "mean KL divergence 0.01 nats, limit 0.1 nats")
    gated = replace(labelled.targets[0], gates=(limit,))
    assert note in _unwrapped(replace(labelled, targets=(gated,)))


def test_what_the_figures_stand_on_is_said() -> None:
    text = _unwrapped(report())
    assert "baseline top-1 93.21%, top-5 99.96%: float Keras model, same 736 images" in text
    assert "calibrated on 100 of 836 images of photos, seed 0; resize stretch" in text
    assert "evaluated on the 736 images of photos that calibration left" in text
    assert "1 bad image skipped" in text
    assert "host latency (Example CPU @ 2.00GHz), not an edge device; batch 1, 2 threads" in text
    assert "artifacts /somewhere/build/" in text
    assert "1 min 17 s (load 9.1 s, convert 1 min 5 s, evaluate 3.3 s)" in text


def test_what_must_be_confessed_is_confessed() -> None:
    text = _unwrapped(with_failure(report()))
    assert "onnx-int8: slower than float32 of the same runtime on this host: 1.26x" in text
    assert "openvino-float32: ran in bf16 here, not in float32" in text
    assert "onnx-int8: the first 12 blocks stay in float" in text
    assert "FAIL onnx-int8: top-1 drop 2.19 pp, limit 1.5 pp: 0.69 pp over" in text
    assert "FAILED onnx-float16 in stage convert: the converter refused the op 'Erf'" in text
    assert "hint: use onnx-float32" in text
    assert "warning: evaluation: skipped photos/rose/7.jpg: truncated" in text
    assert "warning: onnx-int8: two tensors saturate" in text


def test_a_faster_or_equal_artifact_is_not_called_slower() -> None:
    shown = report()
    text = _unwrapped(replace(shown, targets=(shown.targets[0], shown.targets[2])))
    assert "slower" not in text


def test_columns_without_figures_are_left_out() -> None:
    bare = tuple(replace(result, accuracy=None, latency=None, gates=()) for result in report())
    text = _text(replace(report(), targets=bare, baseline_top1=None, baseline_top5=None))
    for absent in ("top-1", "agree", "p50", "cold", "verdict", "host latency", "baseline"):
        assert absent not in text
    assert "4.91 MB" in text


def test_markup_in_names_is_not_interpreted() -> None:
    shown = replace(report(), warnings=("[red]photos[/red]/a[1].jpg is odd",))
    assert "warning: [red]photos[/red]/a[1].jpg is odd" in _text(shown)


def test_without_colours_there_is_no_escape_sequence() -> None:
    assert "\x1b" not in _text(with_failure(report()))


def test_markdown_has_the_same_rows() -> None:
    text = markdown.dumps(with_failure(report()))
    assert "| onnx-int8 | 5.31 MB | 0.33x | 91.02% | 99.93% | +2.19 | -0.3 to +2.5 | 97.6% | FAIL |" in text
    assert "| onnx-float16 | - | - |" in text
    assert "- **FAILED** onnx-float16 in stage convert" in text
    assert text.endswith("\n")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables}) == 2  # two tables, each of one width


def test_markdown_cells_stay_whole() -> None:
    shown = replace(report(labelled=False), warnings=("a | b\n<script>",))
    text = markdown.dumps(shown)
    assert "max \\|dp\\|" in text
    assert "- **warning**: a \\| b␊&lt;script>" in text


def test_devices_have_tables_of_their_own() -> None:
    shown = with_devices(report())
    assert shown.exit_code is ExitCode.STAGE_FAILED
    text = _text(shown, 160)
    assert "on pi5: Raspberry Pi 5 (Cortex-A76), aarch64+dotprod, 4 threads; numpy 2.4.6" in text
    assert "on ssh://pi@board: nothing was measured" in text
    table = text.partition("on pi5")[2].partition("on ssh")[0].splitlines()
    header, row = (next(line for line in table if line.startswith(word)) for word in ("target", "tflite"))
    assert header.split()[:5] == ["target", "as", "here", "top-1", "top-5"]
    assert row.split()[:3] == ["tflite-int8", "differs", "92.12%"]
    assert "31.4" in row
    assert row.endswith("FAIL")
    assert "FAIL tflite-int8 on pi5: p95 latency 36.1 ms" in text
    assert "FAILED onnx-int8 on pi5 in stage evaluate: no onnxruntime there" in text
    assert "FAILED ssh://pi@board: is gone (ssh by hand)" in text
    assert "of 8 images, run here too, 7 get the same class; scores differ by at most 0.25" in text
    assert "tflite-int8 on pi5: slower than float32 of the same runtime on this device" in text
    as_markdown = markdown.dumps(shown)
    assert "| tflite-int8 | differs | 92.12% |" in as_markdown
    assert "- **FAILED** onnx-int8 on pi5 in stage evaluate" in as_markdown


def test_a_negative_drop_is_a_gain() -> None:
    better = replace(report().targets[0], accuracy=accuracy(top1=0.9362))
    assert "-0.41" in _text(replace(report(), targets=(better,)))


RELATIVE = MaxDrop(value=2.0, unit=DropUnit.PERCENT)


def test_candidates_are_listed_and_the_choice_explained() -> None:
    text = _text(with_search(report(), limit=RELATIVE), 160)
    rows = [line.split() for line in text.splitlines() if line.startswith(("balanced", "high"))]
    assert rows == [
        ["balanced", "0", "+2.68", "97.6%", "100.0%", "0", "B", "34.2", "over"],
        ["high", "0", "-", "-", "-", "-", "-", "failed:", "the", "converter", "refused"],
        [
            "high",
            "8",
            "+1.17",
            "97.6%",
            "91.0%",
            "5.00",
            "MB",
            "36.0",
            "within,",
            "without",
            "reconstruct,",
            "chosen",
        ],
    ]
    words = " ".join(text.split())
    assert "2% met with effort high and 8 layers in float (block0, block1," in words
    assert "+ 2 more)" in words
    assert "chosen of 3 candidates by the evaluation images, which flatters its drop" in words
    assert "converted tflite-int8 in 36.0 s (effort balanced)" in words
    assert "calibration images passed 1 of 2: duplicates" in words


def test_a_conversion_of_an_earlier_run_is_called_so() -> None:
    shown = with_search(report(), limit=RELATIVE)
    kept = CachedStage(
        stage=StageKind.CONVERT, target="tflite-int8", what="", key="ab" * 32, created="2026-01-01"
    )
    assert "in 36.0 s (effort balanced)" in _unwrapped(replace(shown, cached=(kept,)))  # one was made anew
    recalled = replace(shown, cached=(kept,), timings=())
    assert "in 36.0 s (effort balanced, in an earlier run)" in _unwrapped(recalled)
    assert "time nothing had to be computed" in " ".join(_unwrapped(recalled).split())


def test_integer_operations_are_not_called_int8() -> None:
    shown = _text(report(), width=200)
    assert "int/float" in shown
    assert "int8/float" not in shown
    stream = io.StringIO()
    found = artifact("tflite-int16x8", size_bytes=1, compute_int8=103)
    examined = ArtifactInspection(artifact=replace(found, int8_macs_share=0.0))
    inspection.render_artifact(examined, PlainConsole(file=stream, width=120))
    words = " ".join(stream.getvalue().split())
    assert "computing ops 106: 103 integer, 3 float" in words
    assert "0.0% of all multiply-accumulates have 8-bit weights and activations" in words


def test_a_missed_budget_states_its_gap() -> None:
    words = _unwrapped(with_search(report(), limit=MaxDrop(value=1.0, unit=DropUnit.PP), gap=0.09))
    assert "1pp missed by 0.09 pp (the end); kept the best candidate, effort high" in words


def test_markdown_has_the_candidates() -> None:
    text = markdown.dumps(with_search(report(), limit=RELATIVE))
    assert "| effort | in float | drop % | agree |" in text
    assert (
        "| high | 8 | +1.17 | 97.6% | 91.0% | 5.00 MB | 36.0 | within, without reconstruct, chosen |" in text
    )
    assert "- **budget**: tflite-int8: 2% met" in text
    assert "- **checks**: calibration images passed 1 of 2" in text


BEGINNINGS = {
    "json": "{",
    "markdown": "### b0",
    "terminal": "b0",
    "html": "<!doctype html>",
    "junit": "<?xml",
    "openmetrics": "# TYPE edgefx_size_bytes gauge",
}


@pytest.mark.parametrize("name", [name for name, row in REPORT_FORMATS.items() if row.suffix])
def test_a_report_file_has_the_format_of_its_suffix(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"report{REPORT_FORMATS[name].suffix}"
    write(report(), path)
    text = path.read_text(encoding="utf-8")
    assert "tflite-int8" in text
    assert text.startswith(BEGINNINGS[name])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["report", "report.pdf", "report.yaml"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.md") as caught:
        destination(Path(name))
    assert "report.md" in caught.value.hint


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(report(), tmp_path / "file" / "report.md")
