"""The machine-readable report."""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.report import write_report
from edgefx.storage.serde import dumps, loads
from tests.unit.report_samples import OUT, report, with_failure


class _Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class _Odd:
    colour: _Colour
    path: Path
    number: Any
    pairs: tuple[tuple[str, int], ...] = (("a", 1),)


def test_the_document_is_the_report() -> None:
    document = json.loads(dumps(with_failure(report()), root=OUT))
    assert document["schema_version"] == 1
    assert document["exit_code"] == 4
    assert document["model"]["output"] == "probabilities"
    assert document["data"][0]["resize"] == "stretch"
    first, second, _, failed = document["targets"]
    assert first["verdict"] == "PASS"
    assert second["verdict"] == "FAIL"
    assert second["gates"][0]["gate"]["metric"] == "drop_pp"
    assert first["accuracy"]["drop_ci95_pp"] == [-0.31, 2.48]
    assert first["artifact"]["files"][0]["path"] == "b0-int8.tflite"
    assert failed["failure"]["stage"] == "convert"
    assert failed["artifact"] is None


def test_keys_are_in_the_order_of_the_fields_and_the_text_is_stable() -> None:
    assert list(json.loads(dumps(report())))[:4] == ["schema_version", "created", "command", "environment"]
    assert dumps(report()) == dumps(report())


def test_paths_outside_the_root_stay_whole() -> None:
    document = json.loads(dumps(_Odd(_Colour.RED, Path("/elsewhere/x.onnx"), 1), root=OUT))
    assert document["path"] == "/elsewhere/x.onnx"
    assert document["colour"] == "red"
    assert document["pairs"] == [["a", 1]]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_a_number_is_null(number: float) -> None:
    text = dumps(_Odd(_Colour.RED, Path("x"), number))
    assert json.loads(text)["number"] is None
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize(("number", "expected"), [(np.int64(7), 7), (np.float32(0.5), 0.5), (True, True)])
def test_numpy_scalars_and_booleans(number: object, expected: object) -> None:
    assert json.loads(dumps(_Odd(_Colour.RED, Path("x"), number)))["number"] is expected or expected == 0.5


def test_unknown_types_are_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        dumps(_Odd(_Colour.RED, Path("x"), object()))


def test_written_whole_and_readable_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = write_report(report(), tmp_path)
    finally:
        os.umask(before)
    assert path == tmp_path / "report.json"
    assert json.loads(path.read_text(encoding="utf-8"))["seed"] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_write_leaves_the_old_report_and_no_litter(tmp_path: Path) -> None:
    path = write_report(report(), tmp_path)
    old = path.read_text()
    broken = replace(report(), seed=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_report(broken, tmp_path)
    assert path.read_text() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_an_output_folder_given_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = dumps(_Odd(_Colour.RED, Path("build/x.onnx"), 1), root=Path("build"))
    assert json.loads(text)["path"] == "x.onnx"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9" * 400, "a number of 400 digits"),
        ("-1e999", "-1e999 is no finite number"),
        ("[NaN]", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("[" * 10**5, "nested too deeply"),
        (b"\xff", "decode"),
        ("", "Expecting value"),
    ],
)
def test_documents_of_others_are_bounded(text: str | bytes, said: str) -> None:
    assert loads('[18446744073709551615, 1e-9, "a"]') == [2**64 - 1, 1e-9, "a"]
    with pytest.raises(ValueError, match=said):
        loads(text)
