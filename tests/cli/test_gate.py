"""`edgefx gate`: stored reports judged, without running and without importing anything heavy."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgefx as package
from edgefx.measured import TaskFigures
from edgefx.metrics import METRICS, Figures
from edgefx.provenance import lock, predictions, stored
from edgefx.provenance.comparison import Flips, diff
from edgefx.report import matrix, write_report
from edgefx.results import RunReport
from edgefx.storage.serde import dumps
from edgefx.views import MatrixReport, MatrixRun, RunError
from tests.cli.conftest import Edgefx
from tests.unit.report_samples import report, with_devices, with_failure
from tests.unit.test_comparison import a_lock

IMAGES = 400
NAMES = tuple(f"{number}.png" for number in range(IMAGES))
_PROBE = """
import contextlib, io, json, sys
from edgefx.cli import run
with contextlib.redirect_stdout(io.StringIO()):
    code = run(["gate", sys.argv[1], "--gate", "size_bytes <= 6MB", *sys.argv[2:]])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def a_run(folder: Path, *, wrong: int = 0, made: RunReport | None = None) -> Path:
    """A run's output folder, whose tflite-int8 artifact gets some images wrong."""
    folder.mkdir()
    write_report(made or report(), folder)
    locked = a_lock(data=())
    lock.write(replace(locked, targets=(replace(locked.targets[0], target="tflite-int8"),)), folder)
    generator = random.Random(wrong)
    lost = set(generator.sample(range(IMAGES), wrong))
    answers = {
        "schema_version": 1,
        "images": NAMES,
        "labels": [0] * IMAGES,
        "baseline": [0] * IMAGES,
        "targets": {"tflite-int8": [int(number in lost) for number in range(IMAGES)]},
    }
    (folder / predictions.NAME).write_text(json.dumps(answers))
    return folder


def verdicts(document: dict[str, Any]) -> dict[str, list[str]]:
    return {target["target"]: [gate["verdict"] for gate in target["gates"]] for target in document["targets"]}


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = with_failure(report())
    found = stored.read(a_run(tmp_path / "run", made=made))
    assert [target.target for target in found.targets] == [result.target for result in made]
    for target, result in zip(found.targets, made, strict=True):
        # No metric is made of how times are distributed, so that it is not read.
        latency = result.latency and replace(result.latency, histogram=None)
        assert target.figures == Figures.of(replace(result, latency=latency))
        assert target.gates == tuple(gate.gate for gate in result.gates)
        assert bool(target.failure) == (result.failure is not None)


def test_the_gates_of_the_report_are_judged_again(edgefx: Edgefx, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    done = edgefx("gate", str(run))
    assert done.code == 1
    shown = done.out.splitlines()
    assert shown[0].startswith("INCONCLUSIVE  tflite-int8: top-1 drop 1.09 pp, limit 1.5 pp; its 95 %")
    assert shown[1] == "FAIL          onnx-int8: top-1 drop 2.19 pp, limit 1.5 pp: 0.69 pp over"
    assert len(edgefx("gate", str(run / "report.json"), str(run)).out.splitlines()) == 6


def test_gates_of_ones_own_replace_them(edgefx: Edgefx, tmp_path: Path) -> None:
    run = str(a_run(tmp_path / "run"))
    gates = ("--gate", "*-int8: size_bytes <= 5MB", "--gate", "p95_ms <= 20ms", "--gate", "images >= 700")
    done = edgefx("gate", run, *gates, "--json")
    document = json.loads(done.out)
    assert (done.code, document["exit_code"]) == (1, 1)
    assert verdicts(document) == {
        "tflite-int8": ["PASS", "PASS", "PASS"],
        "onnx-int8": ["FAIL", "PASS", "PASS"],
        "openvino-float32": ["PASS", "PASS"],
    }
    assert edgefx("gate", run, *gates[2:]).code == 0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_is_judged(edgefx: Edgefx, tmp_path: Path, name: str) -> None:
    run = str(a_run(tmp_path / "run"))
    sign = "<=" if METRICS[name].better == "less" else ">="
    (gate,) = json.loads(edgefx("gate", run, "--gate", f"tflite-int8: {name} {sign} 1", "--json").out)[
        "targets"
    ][0]["gates"]
    value = METRICS[name].value(Figures.of(report().targets[0]))
    assert gate["measured"] == pytest.approx(value)


def test_what_other_tasks_are_measured_by_is_judged(edgefx: Edgefx, tmp_path: Path) -> None:
    made = report()
    first = made.targets[0]
    assert first.accuracy is not None
    accuracy = replace(first.accuracy, task=TaskFigures(auc=0.98, auc_drop_pp=0.4))
    made = replace(made, targets=(replace(first, accuracy=accuracy), *made.targets[1:]))
    run = str(a_run(tmp_path / "run", made=made))
    assert edgefx("gate", run, "--gate", f"{first.target}: auc_drop_pp <= 0.5pp").code == 0
    assert edgefx("gate", run, "--gate", f"{first.target}: auc_drop_pp <= 0.3pp").code == 1
    assert edgefx("gate", run, "--gate", f"{first.target}: auc >= 97%").code == 0


@pytest.mark.parametrize(("policy", "code"), [("fail", 1), ("fail-if-doubtful", 0), ("warn", 0)])
def test_what_too_few_images_mean_is_a_choice(edgefx: Edgefx, tmp_path: Path, policy: str, code: int) -> None:
    run = str(a_run(tmp_path / "run"))
    asked = ("gate", run, "--gate", "tflite-int8: drop_pp <= 2", "--on-inconclusive", policy)
    assert edgefx(*asked).code == code
    few = edgefx(*asked, "--min-images", "1000")
    assert few.code == (0 if policy == "warn" else 1)
    assert "which says nothing: 736 evaluation images, at least 1000 are needed" in few.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gate", "drop_p <= 1"), "unknown metric 'drop_p'"),
        (("--gate", "tflite-in8: drop_pp <= 1"), "did you mean tflite-int8"),
        (("--fail-on", "size_bytes=5%"), "--fail-on needs a run"),
        (("--gate", "mean_kl <= 1", "--against", "RUN"), "give drop_pp or agreement"),
        (("--against", "nowhere"), "nowhere: no run of edgefx"),
        (("--min-images", "0"), "0"),
    ],
)
def test_what_is_asked_wrongly_is_exit_code_2(
    edgefx: Edgefx, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    run = str(a_run(tmp_path / "run"))
    done = edgefx("gate", run, *(run if one == "RUN" else one for one in arguments))
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no report of edgefx"),
        ("[]", "no report of edgefx"),
        ("{}", "'schema_version' is missing"),
        ('{"schema_version": 2}', "a report of version 2"),
        ('{"schema_version": 1, "targets": [{}], "doubts": []}', "'artifact' is missing"),
        ('{"schema_version": NaN}', "NaN is no finite number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_report_is_exit_code_2(edgefx: Edgefx, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "report.json").write_text(content)
    done = edgefx("gate", str(tmp_path), "--gate", "drop_pp <= 1")
    assert done.code == 2
    assert said in done.err
    assert edgefx("gate", str(tmp_path / "none")).code == 2
    (tmp_path / "empty").mkdir()
    assert "there is no report.json in this folder" in edgefx("gate", str(tmp_path / "empty")).err


def test_a_report_with_a_figure_that_is_none_is_refused(edgefx: Edgefx, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    document = json.loads((run / "report.json").read_text())
    document["targets"][0]["accuracy"]["agreement"] = "much"
    (run / "report.json").write_text(json.dumps(document))
    assert "'much' is no number" in edgefx("gate", str(run)).err
    document["targets"][0]["accuracy"] = None
    document["targets"][0]["gates"][0]["gate"]["metric"] = "beauty"
    (run / "report.json").write_text(json.dumps(document))
    assert "a gate on 'beauty'" in edgefx("gate", str(run)).err


# ---------------------------------------------------------------------------------------- another run


def test_against_another_run_images_are_paired(edgefx: Edgefx, tmp_path: Path) -> None:
    before, after = a_run(tmp_path / "before", wrong=2), a_run(tmp_path / "after", wrong=14)
    gates = ("--gate", "tflite-*: drop_pp <= 2", "--gate", "tflite-*: agreement >= 90%")
    done = edgefx("gate", str(after), "--against", str(before), *gates, "--json")
    (target,) = (one for one in json.loads(done.out)["targets"] if one["target"] == "tflite-int8")
    flips = diff(before, after).targets[0].flips
    assert isinstance(flips, Flips)
    drop, agreement = target["gates"]
    assert (drop["measured"], drop["interval"]) == (flips.drop_pp, list(flips.drop_ci95_pp or ()))
    assert drop["verdict"] == "FAIL"
    assert drop["reason"].startswith(f"top-1 drop against {before} 3 pp, limit 2 pp")
    assert agreement["measured"] == 1 - len(flips.flipped) / IMAGES
    same = edgefx("gate", str(after), "--against", str(after), *gates)
    assert same.code == 0
    worse = edgefx("gate", str(after), "--against", str(before), "--fail-on", "drop_pp=0.5pp")
    assert worse.code == 1
    assert "FAIL          tflite-int8: drop_pp=0.5pp: top-1 fell by 3.00 pp on 400 images" in worse.out


def test_a_target_without_predictions_is_no_pass(edgefx: Edgefx, tmp_path: Path) -> None:
    run = str(a_run(tmp_path / "run"))
    done = edgefx("gate", run, "--against", run, "--gate", "onnx-int8: drop_pp <= 1")
    assert done.code == 1
    assert "INCONCLUSIVE  onnx-int8: no image is known that both it and" in done.out


def test_calibration_says_how_often_the_gate_would_fail(edgefx: Edgefx, tmp_path: Path) -> None:
    before, after = a_run(tmp_path / "before", wrong=20), a_run(tmp_path / "after", wrong=21)
    gates = ("--gate", "tflite-int8: drop_pp <= 0.5", "--gate", "size_bytes <= 6MB", "--calibrate")
    done = edgefx("gate", str(after), "--against", str(before), *gates)
    assert "on 400 other images it would be PASS" in done.out
    assert "as often for the better as for the worse" in done.out
    assert "not calibrated, since other images change nothing or were not counted: size" in done.out
    document = json.loads(edgefx("gate", str(after), "--against", str(before), *gates, "--json").out)
    (found, none), *_ = (target["expectations"] for target in document["targets"])
    assert none is None
    assert found["images"] == IMAGES
    assert 0.2 < found["fails"] < 0.5


# ------------------------------------------------------------------------------------------- a matrix


def test_a_matrix_is_judged_run_by_run_and_a_failed_run_is_no_pass(edgefx: Edgefx, tmp_path: Path) -> None:
    runs = (
        MatrixRun(name="one", output=tmp_path / "one", report=report()),
        MatrixRun(
            name="two",
            output=tmp_path / "two",
            report=None,
            error=RunError(message="no images", hint="", details=(), exit_code=2),
        ),
    )
    made = MatrixReport(schema_version=1, recipe="r", command="c", runs=runs)
    matrix.write(made, tmp_path)
    done = edgefx("gate", str(tmp_path), "--gate", "size_bytes <= 20MB")
    assert done.code == 1
    assert "PASS          one/tflite-int8: size 4.91235 MB, limit 20 MB" in done.out
    assert "INCONCLUSIVE  two: size: the run failed" in done.out
    assert "two failed: no images" in done.out
    only = MatrixReport(schema_version=1, recipe="r", command="c", runs=runs[:1])
    (tmp_path / "matrix.json").write_text(dumps(only))
    assert edgefx("gate", str(tmp_path), "--gate", "size_bytes <= 20MB").code == 0


# ------------------------------------------------------------------------------------- cost, Python


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    for arguments in ((), ("--json",), ("--calibrate", "--gate", "drop_pp <= 9")):
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, run, *arguments], capture_output=True, text=True, check=True
        )
        code, modules = json.loads(done.stdout)
        assert code in (0, 1)
        heavy = {"numpy", "tensorflow", "keras", "onnxruntime", "openvino", "rich", "pydantic", "yaml"}
        assert not heavy & set(modules), arguments


def test_from_python(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    found = package.gate(run, gates="tflite-int8: drop_pp <= 2", on_inconclusive="fail")
    assert int(found.exit_code) == 1
    assert [target.verdict for target in found][:2] == ["INCONCLUSIVE", None]
    assert "INCONCLUSIVE" in (found._repr_html_() or "")


# ------------------------------------------------------------------------------------------- formats


def test_reports_are_written_and_github_is_told(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(a_run(tmp_path / "run"))
    summary = tmp_path / "summary"
    files = ("--report", f"junit={tmp_path / 'j'}", "--report", str(tmp_path / "r.md"), "--report", "github")
    outside = edgefx("gate", run, *files)
    assert "this is no job of GitHub Actions" in outside.err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    inside = edgefx("gate", run, *files, "--json")
    assert json.loads(inside.out)["exit_code"] == 1
    warned, failed = inside.err.splitlines()
    assert warned.startswith("::warning title=edgefx%3A tflite-int8::INCONCLUSIVE top-1 drop 1.09 pp")
    assert failed.startswith("::error title=edgefx%3A onnx-int8::FAIL top-1 drop 2.19 pp")
    assert summary.read_text() == (tmp_path / "r.md").read_text()
    assert (tmp_path / "j").read_text().startswith("<?xml")
    refused = edgefx("gate", run, "--report", "x.pdf")
    assert refused.code == 2
    assert "the suffix must name a format" in refused.err


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("pi5: p50_ms <= 40", {"tflite-int8@pi5": ["PASS"], "onnx-int8@pi5": ["INCONCLUSIVE"]}),
        ("tflite-*@pi5: ratio_to_float <= 1", {"tflite-int8@pi5": ["FAIL"]}),
        (
            "*@host: p50_ms <= 3",
            {"tflite-int8": ["PASS"], "onnx-int8": ["FAIL"], "openvino-float32": ["FAIL"]},
        ),
    ],
)
def test_what_a_device_measured_has_limits_of_its_own(
    edgefx: Edgefx, tmp_path: Path, condition: str, expected: dict[str, list[str]]
) -> None:
    run = a_run(tmp_path / "run", made=with_devices(report()))
    done = edgefx("gate", str(run), "--gate", condition, "--json")
    found = verdicts(json.loads(done.out))
    assert {name: gates for name, gates in found.items() if gates} == expected


def test_a_limit_on_latency_that_was_measured_on_a_device_alone(edgefx: Edgefx, tmp_path: Path) -> None:
    made = with_devices(report())
    there = replace(made, targets=tuple(replace(one, latency=None) for one in made.targets))
    for name, one, is_said in (("both", made, False), ("there", there, True)):
        run = a_run(tmp_path / name, made=one)
        done = edgefx("gate", str(run), "--gate", "tflite-*: p50_ms <= 0.001")
        assert done.code == 1
        said = "latency was measured on pi5 alone: try --gate 'pi5: p50_ms <= 0.001'"
        assert (said in " ".join((done.out + done.err).split())) == is_said


def test_a_device_that_a_report_does_not_have(edgefx: Edgefx, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", made=with_devices(report()))
    for condition in ("pi4: p50_ms <= 40", "*@pi4: p50_ms <= 40"):
        done = edgefx("gate", str(run), "--gate", condition)
        assert done.code == 2
        assert "'pi4'" in done.err
        assert "did you mean pi5?" in done.err


def expecting(until: str, what: str = "tflite-*: size_bytes") -> tuple[str, ...]:
    return "--gate", "size_bytes <= 1kB", "--expect-failure", f"{what} until {until}: waits for [red]<b>"


def test_a_failure_is_expected_until_its_day(edgefx: Edgefx, tmp_path: Path) -> None:
    folder = str(a_run(tmp_path / "out", made=replace(report(), targets=report().targets[:1])))
    page, junit = tmp_path / "page.html", tmp_path / "junit.xml"
    run = edgefx(
        "gate", folder, *expecting("9999-12-31"), "--report", f"html={page}", "--report", f"junit={junit}"
    )
    assert run.code == 0, run.err
    assert run.out.startswith("FAIL ")
    assert "expected until 9999-12-31: waits for [red]<b>" in run.out
    assert "waits for [red]&lt;b&gt;" in page.read_text()
    assert "<skipped" in junit.read_text()
    assert "<failure" not in junit.read_text()
    run = edgefx("gate", folder, *expecting("2020-01-31"))
    assert run.code == 1
    assert "it was expected until 2020-01-31, which is past: waits for" in run.out
    run = edgefx("gate", folder, *expecting("9999-12-31"), "--gate", "size_bytes <= 1GB")
    assert run.code == 0
    assert "PASS" in run.out
    assert "it was expected to fail, which can be taken back" in run.out


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("size_bytes", "no day and reason"),
        ("size_bytes until 2026-12-31", "no reason"),
        ("size_bytes until 2026-13-31: why", "no such day"),
        ("size_bytes <= 3 until 2026-12-31: why", "a limit"),
        ("size until 2026-12-31: why", "unknown metric 'size'"),
        ("drop_pp until 2026-12-31: why", "no gate limits drop_pp of *"),
        ("onnx-x: size_bytes until 2026-12-31: why", "no gate limits size_bytes of onnx-x"),
    ],
)
def test_what_is_expected_wrongly_is_exit_code_2(edgefx: Edgefx, tmp_path: Path, said: str, why: str) -> None:
    run = edgefx(
        "gate", str(a_run(tmp_path / "out")), "--gate", "size_bytes <= 1kB", "--expect-failure", said
    )
    assert run.code == 2
    assert f"--expect-failure: {why}" in run.err


def test_what_could_not_be_measured_was_not_expected(edgefx: Edgefx, tmp_path: Path) -> None:
    folder = str(a_run(tmp_path / "out", made=report(labelled=False)))
    why = ("--expect-failure", "drop_pp until 9999-12-31: why")
    assert edgefx("gate", folder, "--gate", "drop_pp <= 1", *why).code == 1


def test_an_output_that_no_report_has_is_exit_code_2(edgefx: Edgefx, tmp_path: Path) -> None:
    run = edgefx("gate", str(a_run(tmp_path / "out")), "--gate", "quality.mae <= 1")
    assert run.code == 2
    assert "--gate quality.mae: these reports are of models with one output" in run.err
