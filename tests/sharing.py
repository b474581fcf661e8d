"""Folders that all processes of pytest-xdist share, for what takes long to make and is only read."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Make a folder of this run of the tests, the same one for each process."""
    base = factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made.mkdir(exist_ok=True)
    return made


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the other processes out of a folder."""
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        yield
