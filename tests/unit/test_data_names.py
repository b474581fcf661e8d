"""Names of classes from a text file: `edgefx.data.names`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.data import names
from edgefx.errors import DataError
from edgefx.types import ModelSpec, ModelTask
from tests.unit.report_samples import report


@pytest.fixture
def model() -> ModelSpec:
    return replace(report().model, classes=3)


def test_a_name_on_each_line(tmp_path: Path, model: ModelSpec) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffdaisy\r\n a rose \r\nt\u00fclip\x1b\r\n\r\n".encode())
    assert names.read(path, model) == ("daisy", "a rose", "t\u00fclip\u241b")


def test_names_where_there_are_no_classes(tmp_path: Path, model: ModelSpec) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="its task is embedding"):
        names.read(tmp_path / "names.txt", replace(model, task=ModelTask.EMBEDDING))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 names, but the model has 3 classes"),
        (b"a\nb\n", "2 names, but the model has 3 classes"),
        (b"a\nb\nc\nd", "4 names, but the model has 3 classes"),
        (b"a\n\nc\n", "line 2: it is empty"),
        (b"a\nb\na\n", "line 3: 'a' is there twice"),
        (b"\xff\xfea", "no text in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_names_that_do_not_fit(tmp_path: Path, model: ModelSpec, content: bytes | None, says: str) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        names.read(path, model)
