"""The same work on many things, on all cores, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from edgefx.system.host import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield `function` of each item in order, several at a time; for functions that let go of Python's lock.

    Runtimes do. No more than `workers` results wait, and as many calls end before an exception gets through.

    Args:
        function: Called in threads.
        items: Taken from the caller's thread.
        workers: Threads; one per core by default.
    """
    workers = workers or cores()
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Result]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
