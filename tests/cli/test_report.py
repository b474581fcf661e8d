"""`edgefx report`: a finished run's report in other formats, without running."""

from __future__ import annotations

import json
import re
import webbrowser
from pathlib import Path

import pytest

from edgefx.report import matrix, write_report
from tests.cli.conftest import Edgefx
from tests.unit import test_report_matrix
from tests.unit.report_samples import report


def test_the_page_is_written_beside_the_report(edgefx: Edgefx, tmp_path: Path) -> None:
    write_report(report(), tmp_path)
    done = edgefx("report", str(tmp_path))
    assert (done.code, done.out) == (0, f"{tmp_path / 'report.html'}\n")
    text = (tmp_path / "report.html").read_text()
    assert "2.19 pp, limit 1.5 pp" in text
    (tmp_path / "report.html").unlink()
    assert edgefx("report", str(tmp_path / "report.json"), "--no-pictures").code == 0
    assert (tmp_path / "report.html").read_text() == text


def test_other_formats_are_written_and_a_browser_is_shown_the_page(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(report(), tmp_path)
    shown: list[str] = []

    def refuse(url: str) -> bool:
        shown.append(url)
        return False

    monkeypatch.setattr(webbrowser, "open", refuse)
    files = [f"junit={tmp_path / 'j.xml'}", str(tmp_path / "r.md"), str(tmp_path / "r.json")]
    done = edgefx("report", str(tmp_path), *(part for file in files for part in ("--report", file)), "--open")
    assert done.code == 0
    assert "no browser could be started" in done.err
    assert shown == [(tmp_path / "report.html").as_uri()]
    assert "<testsuites" in (tmp_path / "j.xml").read_text()
    again = json.loads((tmp_path / "r.json").read_text())
    first = json.loads((tmp_path / "report.json").read_text())
    assert [one["accuracy"] for one in again["targets"]] == [one["accuracy"] for one in first["targets"]]


def test_a_matrix_has_one_page(edgefx: Edgefx, tmp_path: Path) -> None:
    matrix.write(test_report_matrix.run(), tmp_path)
    done = edgefx("report", str(tmp_path), "--json")
    assert (done.code, json.loads(done.out)) == (
        0,
        {"files": [str(tmp_path / "report.html")], "logged": None},
    )
    assert "All targets of all runs" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "no report of edgefx"),
        ('{"schema_version": 9}', "a report of version 9"),
        ("gate", "a gate on 'drop\u241b'"),
    ],
)
def test_what_is_no_report_is_refused(edgefx: Edgefx, tmp_path: Path, content: str | None, said: str) -> None:
    if content == "gate":
        path = write_report(report(), tmp_path)
        path.write_text(re.sub('"metric": "drop_pp"', r'"metric": "drop\\u001b"', path.read_text()))
    elif content is not None:
        (tmp_path / "report.json").write_text(content)
    done = edgefx("report", str(tmp_path))
    assert (done.code, said in done.err) == (2, True)
    assert not (tmp_path / "report.html").exists()
    assert edgefx("report", str(tmp_path), "--report", "x.pdf").code == 2
    assert edgefx("report", str(tmp_path / "none")).code == 2


def test_another_file_in_the_folder_of_a_run_is_not_taken_for_its_report(
    edgefx: Edgefx, tmp_path: Path
) -> None:
    write_report(report(), tmp_path)
    (tmp_path / "old.json").write_text("{}")
    run = edgefx("report", str(tmp_path / "old.json"))
    assert run.code == 2
    assert "old.json: neither report.json nor matrix.json" in run.err
    assert not (tmp_path / "report.html").exists()
