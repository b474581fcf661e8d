"""Drawing calibration images and keeping them apart from the evaluation images."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgefx.data.calibration import (
    content_overlap,
    listing_checks,
    proportional,
    require_disjoint,
    split,
    without,
)
from edgefx.data.digits import calibration_folder, evaluation_folder
from edgefx.data.folders import scan
from edgefx.errors import DataError, UsageError
from edgefx.types import Dataset, ImageItem


def dataset(*sizes: int, labelled: bool = True, root: str = "/data") -> Dataset:
    """Return a listing with `sizes[k]` images of class k; the files need not exist."""
    items = tuple(
        ImageItem(path=Path(root, str(label), f"{index}.png"), label=label if labelled else None)
        for label, size in enumerate(sizes)
        for index in range(size)
    )
    names = tuple(map(str, range(len(sizes)))) if labelled else ()
    return Dataset(root=Path(root), items=items, class_names=names, kind="folders")


def paths(data: Dataset) -> list[str]:
    return [item.path.as_posix() for item in data.items]


def test_split_is_a_partition_in_order() -> None:
    data = dataset(40, 30, 20)
    drawn, rest = split(data, samples=25, seed=0)
    assert len(drawn.items) == 25
    assert sorted(drawn.items + rest.items, key=data.items.index) == list(data.items)
    assert list(drawn.items) == sorted(drawn.items, key=data.items.index)
    assert drawn.class_names == rest.class_names == data.class_names


def test_split_is_balanced_while_classes_last() -> None:
    drawn, _ = split(dataset(100, 50, 3), samples=63, seed=0)
    assert Counter(item.label for item in drawn.items) == {0: 30, 1: 30, 2: 3}
    drawn, _ = split(dataset(100, 100, 100), samples=10, seed=0)
    assert sorted(Counter(item.label for item in drawn.items).values()) == [3, 3, 4]


def test_a_sample_that_stands_for_all_has_every_class_in_its_share() -> None:
    data = dataset(200, 100, 60)
    drawn = proportional(data, samples=36, seed=0)
    assert Counter(item.label for item in drawn.items) == {0: 20, 1: 10, 2: 6}
    assert list(drawn.items) == sorted(drawn.items, key=data.items.index)
    assert proportional(data, samples=36, seed=0) == drawn != proportional(data, samples=36, seed=1)
    assert proportional(data, samples=360, seed=0) == data
    for samples in (1, 7, 359):
        assert len(proportional(dataset(180, 180, labelled=False), samples=samples, seed=0).items) == samples


def test_fewer_samples_than_classes_takes_different_classes() -> None:
    drawn, _ = split(dataset(*[5] * 50), samples=20, seed=0)
    assert len({item.label for item in drawn.items}) == 20
    assert {item.label for item in drawn.items} != set(range(20))


def test_split_depends_on_the_seed_alone() -> None:
    first, _ = split(dataset(50, 50), samples=10, seed=1)
    moved, _ = split(dataset(50, 50, root="/elsewhere"), samples=10, seed=1)
    other, _ = split(dataset(50, 50), samples=10, seed=2)
    assert [path.removeprefix("/elsewhere") for path in paths(moved)] == [
        path.removeprefix("/data") for path in paths(first)
    ]
    assert paths(other) != paths(first)
    # Pinned: a change here would draw other images for every user.
    flat = dataset(20, labelled=False)
    assert paths(split(flat, samples=3, seed=0)[0]) == ["/data/0/5.png", "/data/0/7.png", "/data/0/16.png"]


def test_more_samples_than_images_takes_all() -> None:
    drawn, rest = split(dataset(3, 4), samples=100, seed=0)
    assert (len(drawn.items), len(rest.items)) == (7, 0)


def test_at_least_one_sample() -> None:
    with pytest.raises(UsageError, match="0 calibration samples"):
        split(dataset(3), samples=0, seed=0)


def test_overlap_is_found_by_content(tmp_path: Path) -> None:
    for name in ("calib", "val"):
        (tmp_path / name).mkdir()
    for index in range(4):
        shutil.copy(calibration_folder() / "3" / f"{index:03}.png", tmp_path / "calib" / f"c{index}.png")
        shutil.copy(evaluation_folder() / "3" / f"{index:03}.png", tmp_path / "val" / f"v{index}.png")
    calibration, evaluation = scan(tmp_path / "calib"), scan(tmp_path / "val")
    require_disjoint(calibration, evaluation)
    shutil.copy(tmp_path / "calib" / "c2.png", tmp_path / "val" / "copy.png")
    evaluation = scan(tmp_path / "val")
    twins = content_overlap(calibration, evaluation)
    assert [(first.name, second.name) for first, second in twins] == [("c2.png", "copy.png")]
    with pytest.raises(
        DataError, match=r"1 of 5 evaluation images in .* are also calibration images"
    ) as caught:
        require_disjoint(calibration, evaluation)
    assert "copy.png" in caught.value.details[0]
    require_disjoint(calibration, without(evaluation, (second for _, second in twins)))


def test_the_embedded_folders_are_disjoint() -> None:
    require_disjoint(scan(calibration_folder()), scan(evaluation_folder()))


def poor(data: Dataset, *, classes: int | None = None) -> list[tuple[str, str]]:
    return [
        (check.name, check.measured) for check in listing_checks(data, classes=classes) if not check.passed
    ]


def test_a_good_set_passes() -> None:
    assert poor(dataset(20, 20, 20, 18), classes=4) == []
    assert poor(dataset(100, labelled=False)) == []
    assert poor(dataset(*[1] * 100), classes=1000) == []
    assert [check.name for check in listing_checks(dataset(20, 20))] == [
        "size",
        "class balance",
        "classes present",
    ]


def test_checks_say_what_is_poor_and_what_to_do() -> None:
    assert poor(dataset(8, labelled=False)) == [("size", "8 images")]
    assert poor(dataset(60, 3, 30)) == [("class balance", "3 to 60 images a class (fewest: 1)")]
    assert poor(dataset(40, 0, 40)) == [("classes present", "2 of 3")]
    bare = dataclasses.replace(dataset(20, 20), class_names=())
    assert poor(bare, classes=5) == [("classes present", "2 of 5")]
    for check in (*listing_checks(dataset(8, labelled=False)), *listing_checks(dataset(60, 3, 30))):
        assert check.passed or "add" in check.advice
