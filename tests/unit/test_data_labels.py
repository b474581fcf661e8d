"""labels.csv of regressions and of several labels, and labels that a task has no use for."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgefx.data import labels
from edgefx.data.folders import fingerprint
from edgefx.errors import DataError
from edgefx.types import Dataset, ModelTask, Resize


def table(folder: Path, *rows: str) -> Path:
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row.split(",")[0])
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    return folder


def values(found: Dataset) -> list[tuple[float, ...]]:
    return [item.values for item in found.items]


def test_quantities(tmp_path: Path) -> None:
    found = labels.scan(table(tmp_path, "a.png,0.5", "b.png,-3e2"), ModelTask.REGRESSION)
    assert values(found) == [(0.5,), (-300.0,)]
    assert found.known
    assert not found.labelled
    assert labels.fit(found, ModelTask.REGRESSION, 1) == found
    with pytest.raises(DataError, match="1 quantities for each image, the model gives 2"):
        labels.fit(found, ModelTask.REGRESSION, 2)


def test_several_quantities(tmp_path: Path) -> None:
    found = labels.scan(table(tmp_path, "a.png,1;2", "b.png,3;4"), ModelTask.REGRESSION)
    assert values(labels.fit(found, ModelTask.REGRESSION, 2)) == [(1.0, 2.0), (3.0, 4.0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a.png,1", "b.png,old"), "row 3: label 'old' is no number"),
        (("a.png,1", "b.png,nan"), "row 3: label 'nan' is not finite"),
        (("a.png,1", "b.png,1;2"), "1 to 2 numbers in the rows"),
        (("a.png,", "b.png,1"), "row 2: label '' is no number"),
    ],
)
def test_quantities_that_are_none(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels.scan(table(tmp_path, *rows), ModelTask.REGRESSION)


def test_names_of_several_labels(tmp_path: Path) -> None:
    rows = ("a.png,round;red", "b.png,", "c.png, red ")
    found = labels.scan(table(tmp_path, *rows), ModelTask.MULTILABEL)
    assert found.class_names == ("red", "round")
    assert values(found) == [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0)]
    assert labels.fit(found, ModelTask.MULTILABEL, 2) == found
    with pytest.raises(DataError, match="2 labels for each image, the model gives 3"):
        labels.fit(found, ModelTask.MULTILABEL, 3)


def test_indices_of_several_labels(tmp_path: Path) -> None:
    found = labels.scan(table(tmp_path, "a.png,2;0", "b.png,1"), ModelTask.MULTILABEL)
    assert found.class_names == ()
    assert values(labels.fit(found, ModelTask.MULTILABEL, 4)) == [(1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 0.0)]
    with pytest.raises(DataError, match="3 labels for each image, the model gives 2"):
        labels.fit(found, ModelTask.MULTILABEL, 2)
    with pytest.raises(DataError, match="labels up to 99999"):
        labels.scan(table(tmp_path, "a.png,99999"), ModelTask.MULTILABEL)


def folders(root: Path) -> Path:
    for name in ("ant", "bee"):
        (root / name).mkdir()
        Image.new("RGB", (8, 8)).save(root / name / "1.png")
    return root


def test_folders_are_one_label_each(tmp_path: Path) -> None:
    found = labels.scan(folders(tmp_path), ModelTask.MULTILABEL)
    assert values(found) == [(1.0, 0.0), (0.0, 1.0)]


@pytest.mark.parametrize("task", [ModelTask.REGRESSION, ModelTask.FEATURES])
def test_folders_say_nothing_of_quantities(tmp_path: Path, task: ModelTask) -> None:
    found = labels.scan(folders(tmp_path), task)
    assert not found.known
    assert labels.fit(found, task, 1) == found


def test_embeddings_keep_any_classes(tmp_path: Path) -> None:
    found = labels.scan(folders(tmp_path), ModelTask.EMBEDDING)
    assert labels.fit(found, ModelTask.EMBEDDING, 1280).labelled


def test_a_map_has_no_labels_though_nobody_said_so(tmp_path: Path) -> None:
    found = labels.scan(folders(tmp_path), None)
    assert not labels.fit(found, ModelTask.FEATURES, 64).known


def test_quantities_are_part_of_what_a_folder_is(tmp_path: Path) -> None:
    prints = set()
    for number in ("1", "2"):
        found = labels.scan(table(tmp_path, f"a.png,{number}"), ModelTask.REGRESSION)
        prints.add(fingerprint(found, height=8, width=8, resize=Resize.STRETCH))
    assert len(prints) == 2
