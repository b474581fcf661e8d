"""`tests.benchmarks believed`: what it counts, and that it keeps no more images than it must."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.data.pixels import Decoded
from edgefx.evaluation.statistics import paired_drop_ci
from edgefx.types import ImageItem
from tests.benchmarks import believed
from tests.benchmarks.believed import Tally, Watch, answer_all, decoded

IMAGES = 203
CLASSES = 7


def items() -> list[ImageItem]:
    return [ImageItem(path=Path(f"{number}.png"), label=number % CLASSES) for number in range(IMAGES)]


def read(path: Path) -> Decoded:
    """A picture whose pixel is its number; every fiftieth is broken."""
    number = int(path.stem)
    if number % 50 == 49:
        return Decoded(digest="broken", pixels=None, reason="damaged")
    return Decoded(digest=path.stem, pixels=np.full((1, 1, 3), number, np.uint8))


def side(every: int) -> believed.Answer:
    """Answer rightly, but for every so-manieth image."""

    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        numbers = pixels[:, 0, 0, 0].astype(np.int64)
        return np.asarray((numbers + (numbers % every == 0)) % CLASSES, np.int64)

    return answer


def test_counts_are_those_of_all_answers_at_once() -> None:
    rows: list[list[object]] = []
    told: list[int] = []
    tally, content = answer_all(
        items(),
        read,
        {"float": side(10), "by hand": side(4), "edgefx": side(15)},
        calibrated=frozenset({"7", "8"}),
        watch=lambda done, _: told.append(done),
        write=lambda row: rows.append(list(row)),
    )
    assert tally.left_out == {"cannot be decoded": 4, "calibrated with": 2}
    numbers = np.array([n for n in range(IMAGES) if n % 50 != 49 and n not in (7, 8)])
    right = {name: numbers % every != 0 for name, every in (("float", 10), ("by hand", 4), ("edgefx", 15))}
    assert tally.images == len(numbers) == len(rows)
    assert [Path(str(row[0])).stem for row in rows] == [str(number) for number in numbers]
    assert (told[-1], sorted(told)) == (IMAGES, told)
    for name, found in right.items():
        assert tally.top1(name)["right"] == found.sum()
        lost, gained = (right["float"] & ~found).sum(), (found & ~right["float"]).sum()
        drop = tally.drop("float", name)
        assert (drop["lost"], drop["gained"]) == (lost, gained)
        assert tuple(drop["drop_ci95_pp"]) == paired_drop_ci(int(lost), int(gained), len(numbers))
        assert tally.same[name] == (right["float"] == found).sum()
    assert content == answer_all(items(), read, {"float": side(3)}, calibrated=frozenset({"7", "8"}))[1]
    assert content != answer_all(items(), read, {"float": side(3)})[1]


def test_no_more_images_are_decoded_than_wait_for_their_turn() -> None:
    begun, most, lock = 0, 0, threading.Lock()

    def counted(path: Path) -> Decoded:
        nonlocal begun
        with lock:
            begun += 1
        return read(path)

    for taken, _ in enumerate(decoded(items(), counted, ahead=8), 1):
        with lock:
            most = max(most, begun - taken)
    assert most <= 8
    assert begun == IMAGES


def test_progress_says_how_long_it_still_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    watch, tally = Watch(10_000, stream), Tally(("float",))
    tally.add(1, [1])
    watch(16, tally)
    assert not stream.getvalue()
    now = 140.0
    watch(400, tally)
    assert "400 of 10,000 images, 10.0 a second, 0:16:00 left" in stream.getvalue()
    assert "float 100.00%" in stream.getvalue()
