"""The float model's answers that a run has kept, as a baseline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgefx.data import folders
from edgefx.errors import DataError, UsageError
from edgefx.pipeline import answers
from edgefx.types import Dataset


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    """Three images of two classes; only their bytes matter."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folders.scan(tmp_path / "images")


def run(folder: Path, best: dict[str, int], **document: object) -> Path:
    """Write what a run without a lock file would leave."""
    folder.mkdir(exist_ok=True)
    kept = {"schema_version": 1, "images": list(best), "labels": None, "baseline": list(best.values())}
    (folder / "predictions.json").write_text(json.dumps({**kept, "targets": {}, **document}))
    return folder


def test_what_is_a_run(tmp_path: Path) -> None:
    out = run(tmp_path / "out", {"cat/1.png": 0})
    assert answers.is_run(str(out))
    assert answers.is_run(str(out / "report.json"))
    (tmp_path / "saved_model").mkdir()
    for model in ("digits", "b0.keras", str(tmp_path / "saved_model")):
        assert not answers.is_run(model)


def test_images_that_the_run_knows(tmp_path: Path, images: Dataset) -> None:
    kept = answers.of_run(str(run(tmp_path / "out", {"dog/1.png": 1, "cat/1.png": 0, "gone.png": 1})))
    known = answers.shared(kept, images, classes=2)
    names = answers.names([item.path for item in known.items], known.root)
    assert names == ("cat/1.png", "dog/1.png")
    assert [kept.best[name] for name in names] == [0, 1]
    assert known.labelled


def test_no_image_in_common(tmp_path: Path, images: Dataset) -> None:
    kept = answers.of_run(str(run(tmp_path / "out", {"gone.png": 0})))
    with pytest.raises(DataError, match="knows none of the 3 images"):
        answers.shared(kept, images, classes=2)


def test_other_images_of_the_same_name(tmp_path: Path, images: Dataset) -> None:
    kept = answers.of_run(str(run(tmp_path / "out", {"cat/1.png": 0, "cat/2.png": 0})))
    same = hashlib.sha256(b"cat/1.png").hexdigest()
    hashed = answers.Answers(
        folder=kept.folder, best=kept.best, hashes={"cat/1.png": same, "cat/2.png": same}, resize=""
    )
    with pytest.raises(DataError, match=r"1 of 2 images .* are not those") as raised:
        answers.shared(hashed, images, classes=2)
    assert raised.value.details == ("cat/2.png",)


def test_a_run_of_a_model_with_more_classes(tmp_path: Path, images: Dataset) -> None:
    kept = answers.of_run(str(run(tmp_path / "out", {"cat/1.png": 7})))
    with pytest.raises(UsageError, match="has a class 7, the artifact 2 classes"):
        answers.shared(kept, images, classes=2)


def test_a_run_without_answers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no predictions\.json"):
        answers.of_run(str(tmp_path / "report.json"))


@pytest.mark.parametrize("document", [{"baseline": [0, 1]}, {"baseline": "x"}, {"schema_version": 9}])
def test_damaged_answers(tmp_path: Path, document: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"predictions\.json"):
        answers.of_run(str(run(tmp_path / "out", {"cat/1.png": 0}, **document)))
