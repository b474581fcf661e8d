"""Questions to a float graph: one pass for all, told in order, kept in any order, added in order."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pytest

from edgefx.errors import ConversionError
from edgefx.protocols import SILENT
from edgefx.quantize import questions
from edgefx.quantize.questions import Values
from edgefx.quantize.ranges import Consumer, RangeCollector, RangeMethod


class Sums:
    """Adds up tensors, each weighed by what is told of its image."""

    def __init__(self, *names: str) -> None:
        self.names: Collection[str] = names
        self.added: list[float] = []

    def told(self) -> Iterable[float]:
        return (10.0**power for power in range(9))

    def keep(self, told: float, values: Values) -> float:
        assert set(values) == set(self.names), "a question sees its own tensors only"
        return told * float(sum(value.sum() for value in values.values()))

    def add(self, kept: float) -> None:
        self.added.append(kept)


def test_all_are_answered_in_one_pass_each_with_its_own_tensors() -> None:
    first, second = Sums("x"), Sums("x", "y")
    runs: list[int] = []

    def run(image: int, keep: Any) -> list[Any]:
        runs.append(image)
        values = {"x": np.full((1, 2), image), "y": np.full((1, 1), 1)}
        return list(keep({name: values[name] for name in questions.names_of([first, second])}))

    with SILENT.task("") as task:
        questions.ask([first, second], range(3), run, task=task, workers=2)
    assert sorted(runs) == [0, 1, 2]
    assert first.added == [0, 20, 400]
    assert second.added == [1, 30, 500]


def test_what_is_kept_is_added_in_the_order_of_the_images() -> None:
    asked, second = Sums("x"), threading.Event()

    def run(image: int, keep: Any) -> list[Any]:
        if image == 0:
            assert second.wait(10), "the second image runs beside the first"
        if image == 1:
            second.set()
        return list(keep({"x": np.ones(1)}))

    with SILENT.task("") as task:
        questions.ask([asked], range(4), run, task=task, workers=2)
    assert asked.added == [1, 10, 100, 1000]


def test_ranges_are_those_of_the_same_tensors_one_by_one() -> None:
    """Also of tensors so large that only a sample counts, weighed by channel."""
    rng = np.random.default_rng(0)
    images = [{"x": (rng.normal(size=(1, 64, 64, 24)) * 2.0**k).astype(np.float32)} for k in (0, 2, 1)]
    weights = {"x": rng.random(24, np.float32)}

    def collector(weights: dict[str, Any]) -> RangeCollector:
        return RangeCollector({"x": Consumer.GENERIC}, methods=(RangeMethod.ACTIVATION_MSE,), weights=weights)

    one_by_one, asked = collector(weights), collector(weights)
    spread = collector({"x": np.broadcast_to(weights["x"], (1, 1, 1, 24))})  # sampled the long way
    for image in images:
        one_by_one.update(image)
        spread.update(image)
    with SILENT.task("") as task:
        questions.ask([asked], images, lambda image, keep: keep(image), task=task)
    found = [one.ranges(RangeMethod.ACTIVATION_MSE) for one in (one_by_one, asked, spread)]
    assert found[0] == found[1] == found[2]


def test_the_image_whose_tensor_is_not_finite_is_named() -> None:
    asked = RangeCollector({"x": Consumer.SWISH})
    images = [{"x": np.array([value], np.float32)} for value in (1, 2, np.nan, 3)]
    with SILENT.task("") as task, pytest.raises(ConversionError, match="not finite for calibration image 3"):
        questions.ask([asked], images, lambda image, keep: keep(image), task=task)
