"""Several runs of one recipe: what fails alone, and the report on all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefx import views
from edgefx.errors import ConversionError, ExitCode, MissingDependencyError, OutputError
from edgefx.pipeline import matrix
from edgefx.report import matrix as report_matrix
from edgefx.results import RunReport
from tests.unit.report_samples import report as sample


def failing() -> RunReport:
    raise ConversionError("no | such <op>", hint="take another")


def run(*, fail: bool = True) -> views.MatrixReport:
    good = sample()
    runs = [("b0_224", Path("out/b0_224"), lambda: good)]
    if fail:
        runs.append(("b1_240", Path("out/b1_240"), failing))
    return matrix.run(runs, recipe="many", command="edgefx run many")


def test_a_run_that_fails_leaves_the_others() -> None:
    report = run()
    first, second = report.runs
    assert first.report is not None
    assert second.report is None
    assert second.error is not None
    assert second.error.message == "no | such <op>"
    assert report.exit_code is ExitCode.STAGE_FAILED


def test_the_exit_code_is_the_worst() -> None:
    def missing() -> RunReport:
        raise MissingDependencyError("onnx", needed_for="onnx-int8")

    report = matrix.run([("a", Path("a"), missing)], recipe="x", command="x")
    assert report.exit_code is ExitCode.MISSING_DEPENDENCY
    assert run(fail=False).exit_code == sample().exit_code


def test_other_exceptions_are_not_swallowed() -> None:
    def interrupted() -> RunReport:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matrix.run([("a", Path("a"), interrupted)], recipe="x", command="x")


def test_text_has_each_target_of_each_run() -> None:
    report = run()
    text = report_matrix.text(report)
    assert "many  2 runs" in text
    assert text.count("b0_224") >= 1
    assert report.runs[0].report is not None
    for result in report.runs[0].report:
        assert result.target in text
    assert "FAILED" in text
    assert "no | such <op> (take another)" in text


def test_markdown_keeps_its_table_whole() -> None:
    text = report_matrix.markdown(run())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert "- **b1_240**: no \\| such &lt;op> (take another)" in text


def test_json_has_all_reports() -> None:
    document = json.loads(report_matrix.dumps(run()))
    assert document["exit_code"] == 4
    assert [one["name"] for one in document["runs"]] == ["b0_224", "b1_240"]
    assert document["runs"][0]["report"]["targets"]
    assert document["runs"][1]["error"]["exit_code"] == 4


def test_files(tmp_path: Path) -> None:
    report_matrix.write(run(), tmp_path / "out", (tmp_path / "all.txt",))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"matrix.json", "matrix.md"}
    assert "many  2 runs" in (tmp_path / "all.txt").read_text()
    with pytest.raises(OutputError, match="cannot be written"):
        report_matrix.write(run(), tmp_path / "all.txt")
