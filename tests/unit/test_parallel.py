"""Work in threads: in order, several at a time, no more than asked for, and errors get through."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edgefx.system.parallel import ordered


def test_results_come_in_the_order_of_the_items_whichever_ends_first() -> None:
    second = threading.Event()

    def slow_first(item: int) -> int:
        if item == 0:
            assert second.wait(10), "the second item runs beside the first"
        if item == 1:
            second.set()
        return item * item

    assert list(ordered(slow_first, range(7), workers=2)) == [0, 1, 4, 9, 16, 25, 36]


def test_items_are_not_taken_long_before_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = ordered(lambda item: item, items(), workers=2)
    assert next(results) == 0
    assert len(taken) <= 3
    results.close()
    assert len(taken) <= 3


def test_an_error_ends_the_work() -> None:
    def failing(item: int) -> int:
        if item == 2:
            raise ValueError(item)
        return item

    results = ordered(failing, range(1000), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)
