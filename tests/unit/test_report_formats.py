"""Reports for machines: each is what its reader's format asks for, whatever names and messages hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edgefx import report as reports
from edgefx.destinations import Destination, parse
from edgefx.errors import UnknownNameError, UsageError
from edgefx.metrics import METRICS
from edgefx.provenance import gating
from edgefx.report import formats, github
from edgefx.report.judged import rows
from edgefx.results import RunReport
from edgefx.verdicts import Verdict
from edgefx.views import MatrixReport, MatrixRun, RunError
from edgefx.vocabulary import REPORT_FORMATS
from tests.unit.report_samples import gate, report, with_devices, with_failure

NASTY = 'a"b<&>%\n::error::x\\ \x1b[31m]]>\ufffe|`@team`'
# https://github.com/prometheus/OpenMetrics, section ABNF, as far as gauges and state sets go.
_SAMPLE = re.compile(
    r'edgefx_[a-z0-9_]+\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\} '
    r"-?[0-9.]+(?:e[+-]?[0-9]+)?"
)
_META = re.compile(r"# (?:TYPE edgefx_[a-z0-9_]+ (?:gauge|stateset)|HELP edgefx_[a-z0-9_]+ [^\n]+)")


def hostile() -> RunReport:
    """A run whose target, model and messages are names that somebody chose to do harm."""
    made = with_failure(report())
    first, failed = made.targets[0], made.targets[-1]
    assert failed.failure is not None
    bad = (
        gate("drop_pp", 1.0, 2.0, Verdict.FAIL, NASTY),
        replace(gate("top1", 0.9, 0.95, Verdict.INCONCLUSIVE, NASTY), tolerated=True),
        gate("size_bytes", 6e6, None, Verdict.INCONCLUSIVE, NASTY),
    )
    return replace(
        made,
        model=replace(made.model, name=NASTY, source=NASTY),
        targets=(
            replace(first, target=NASTY, gates=bad),
            replace(failed, failure=replace(failed.failure, message=NASTY)),
        ),
    )


def matrix() -> MatrixReport:
    failed = MatrixRun(
        name="two",
        output=Path("two"),
        report=None,
        error=RunError(message=NASTY, hint="", details=(), exit_code=4),
    )
    runs = (MatrixRun(name="one", output=Path("one"), report=report()), failed)
    return MatrixReport(schema_version=1, recipe="r", command="c", runs=runs)


def judged(tmp_path: Path) -> gating.GateReport:
    reports.write_report(report(), tmp_path)
    return gating.judge([tmp_path])


# --------------------------------------------------------------------------------------- where it goes


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("report.md", Destination(format="markdown", path=Path("report.md"))),
        ("ci/REPORT.XML", Destination(format="junit", path=Path("ci/REPORT.XML"))),
        ("junit=a/b", Destination(format="junit", path=Path("a/b"))),
        ("benchmark-json=b.json", Destination(format="benchmark-json", path=Path("b.json"))),
        ("github", Destination(format="github", path=None)),
        ("github=summary.md", Destination(format="github", path=Path("summary.md"))),
        ("a=b.md", Destination(format="markdown", path=Path("a=b.md"))),  # a file of that name, as ever
        ("json=x=y", Destination(format="json", path=Path("x=y"))),
        ("report", None),
        ("gitlab", None),
        ("junit=", None),
    ],
)
def test_a_destination_has_a_format(text: str, wanted: Destination | None) -> None:
    assert parse(text) == wanted


def test_a_format_that_is_nearly_one_is_named() -> None:
    with pytest.raises(UnknownNameError, match="junt") as caught:
        parse("junt=x.xml")
    assert "did you mean junit" in caught.value.hint
    with pytest.raises(UsageError, match="benchmark-json=FILE"):
        reports.destination(Path("report.pdf"))


@pytest.mark.parametrize("name", [name for name in REPORT_FORMATS if name != "github"])
def test_every_result_is_written_in_every_format(tmp_path: Path, name: str) -> None:
    results: list[RunReport | MatrixReport | gating.GateReport]
    results = [report(), hostile(), matrix(), judged(tmp_path)]
    for number, result in enumerate(results):
        path = tmp_path / f"{name}{number}"
        reports.write(result, Path(f"{name}={path}"))
        assert path.read_text(encoding="utf-8") == formats.dumps(result, name)
        assert path.read_text().endswith("\n")


# --------------------------------------------------------------------------------------------- JUnit


def test_junit_counts_what_failed() -> None:
    root = ET.fromstring(formats.dumps(hostile(), "junit").encode())  # noqa: S314 - what we wrote ourselves
    assert root.attrib == {"name": "edgefx", "tests": "5", "failures": "2", "errors": "1", "skipped": "1"}
    first, second = root
    assert first.attrib["name"] == NASTY.replace("\n", "␊").replace("\x1b", "␛").replace("\ufffe", "�")
    kinds = [[child.tag for child in case] for case in first]
    assert kinds == [[], ["failure"], ["skipped"], ["failure"]]
    assert [case.attrib["name"] for case in first][1] == "top-1 drop <= 1 pp"
    (error,) = second[0]
    assert (error.tag, second.attrib["errors"]) == ("error", "1")


def test_junit_of_a_matrix_names_runs() -> None:
    root = ET.fromstring(formats.dumps(matrix(), "junit").encode())  # noqa: S314 - what we wrote ourselves
    assert [suite.attrib["name"] for suite in root] == [
        "one/tflite-int8",
        "one/onnx-int8",
        "one/openvino-float32",
        "two",
    ]
    assert root.attrib["errors"] == "1"


# --------------------------------------------------------------------------------------------- GitHub


def test_annotations_are_one_command_each_whatever_a_name_holds() -> None:
    lines = list(github.commands(rows(hostile())))
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::error", "::error"]
    for line in lines:
        assert "\n" not in line
        assert "\x1b" not in line
        title, _, message = line.partition(" title=")[2].partition("::")
        assert ":" not in title
        assert "," not in title
        assert re.sub("%(25|0A|0D|3A|2C)", "", title + message).count("%") == 0


def test_github_appends_to_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    reports.write(report(), Path("github"))
    reports.write(judged(tmp_path), Path("github"))
    text = summary.read_text()
    assert text == "before\n" + formats.dumps(report(), "markdown") + formats.dumps(
        judged(tmp_path), "markdown"
    )
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    reports.write(report(), Path("github"))  # nowhere to go
    assert summary.read_text() == text


def test_a_summary_is_cut_before_github_refuses_it(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    github.append(summary, "ä line\n" * 200_000)
    size = summary.stat().st_size
    assert 2**20 - 100 < size <= 2**20
    assert summary.read_text().endswith("ä line\n\n(cut: a summary holds 1 MiB)\n")
    github.append(summary, "more\n")
    assert summary.stat().st_size <= 2**20


# --------------------------------------------------------------------------------------------- GitLab


def test_gitlab_has_an_issue_for_each_gate_that_did_not_pass() -> None:
    issues = json.loads(formats.dumps(hostile(), "gitlab"))
    assert [issue["severity"] for issue in issues] == ["major", "minor", "major", "blocker"]
    assert len({issue["fingerprint"] for issue in issues}) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", issue["fingerprint"]) for issue in issues)
    assert all(issue["location"]["lines"]["begin"] == 1 for issue in issues)
    assert "\n" not in issues[0]["description"]
    assert issues[0]["check_name"] == "edgefx-drop_pp"
    again = json.loads(formats.dumps(replace(hostile(), created="later"), "gitlab"))
    assert again == issues
    passed = replace(report(), targets=report().targets[:1])
    assert json.loads(formats.dumps(passed, "gitlab")) == []


# ---------------------------------------------------------------------------------------- OpenMetrics


@pytest.mark.parametrize("made", [report(), hostile(), matrix()])
def test_openmetrics_keeps_to_the_grammar(made: RunReport | MatrixReport) -> None:
    *lines, end, last = formats.dumps(made, "openmetrics").split("\n")
    assert (end, last) == ("# EOF", "")
    family = ""
    seen = set()
    for line in lines:
        if line.startswith("# TYPE"):
            family = line.split(" ")[2]
            assert family not in seen  # the samples of a family stand together
            seen.add(family)
        assert _META.fullmatch(line) or _SAMPLE.fullmatch(line), line
        assert line.startswith(("#", f"{family}{{"))
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(set(samples)) == len(samples)


def test_openmetrics_has_figures_and_states() -> None:
    text = formats.dumps(report(), "openmetrics")
    assert 'edgefx_size_bytes{target="tflite-int8"} 4912345.0\n' in text
    assert 'edgefx_gate{target="onnx-int8",metric="drop_pp",edgefx_gate="FAIL"} 1\n' in text
    assert 'edgefx_gate{target="onnx-int8",metric="drop_pp",edgefx_gate="PASS"} 0\n' in text
    assert len(max(re.findall('"[^"]*"', formats.dumps(long_names(), "openmetrics")), key=len)) == 202


def long_names() -> RunReport:
    made = report()
    return replace(made, targets=(replace(made.targets[0], target="x" * 1000),))


# ------------------------------------------------------------------------------ github-action-benchmark


def test_benchmark_json_has_what_is_better_smaller() -> None:
    entries = json.loads(formats.dumps(report(), "benchmark-json"))
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["tflite-int8: size"] == {"name": "tflite-int8: size", "unit": "B", "value": 4_912_345}
    drop = by_name["tflite-int8: top-1 drop"]
    assert (drop["unit"], drop["range"]) == ("pp", "-0.31 pp to 2.48 pp")
    wrong_way = {row.name for row in METRICS.values() if row.better == "more"}
    assert not wrong_way & {name.partition(": ")[2] for name in by_name}
    assert all(isinstance(entry["value"], int | float) for entry in entries)


def test_what_devices_measured_is_told_apart_from_what_this_machine_did() -> None:
    made = with_devices(report())
    root = ET.fromstring(formats.dumps(made, "junit").encode())  # noqa: S314 - what we wrote ourselves
    suites = {suite.get("name"): suite for suite in root}
    on_board = suites["tflite-int8@pi5"]
    assert [case.find("failure") is not None for case in on_board] == [False, True]
    assert suites["onnx-int8@pi5"].find("testcase/error") is not None
    assert suites["@ssh://pi@board"].find("testcase/error") is not None
    metrics = formats.dumps(made, "openmetrics")
    assert 'edgefx_p50_ms{target="tflite-int8",device="pi5"} 31.4' in metrics
    assert 'edgefx_p50_ms{target="tflite-int8"} 2.48' in metrics
