"""Where the cache is and how large it may grow: environment variables, else this platform's cache folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgefx.cache.store import Store
from edgefx.storage.hashes import FileHashes
from edgefx.storage.places import VARIABLE as FOLDER_VARIABLE
from edgefx.storage.places import cache_folder
from edgefx.units import parse_size

SIZE_VARIABLE = "EDGEFX_CACHE_SIZE"
DEFAULT_BYTES = 10 * 10**9


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where results are kept.

    Attributes:
        folder: The cache folder; None keeps nothing.
        limit_bytes: What the entries may take together.
        problem: Why nothing is kept, where the user did not ask for that.
    """

    folder: Path | None
    limit_bytes: int = DEFAULT_BYTES
    problem: str = ""

    def store(self, warn: Callable[[str], None]) -> Store:
        """Open the store; nothing is written before there is something to keep."""
        if self.problem:
            warn(f"cache: {self.problem}")
        return Store(self.folder, limit_bytes=self.limit_bytes, warn=warn)

    def hashes(self) -> FileHashes:
        """Open the memory of file hashes."""
        return FileHashes(self.folder)


OFF = CacheSettings(folder=None)


def from_environment() -> CacheSettings:
    """Return what ``EDGEFX_CACHE_DIR`` and ``EDGEFX_CACHE_SIZE`` say; a size of 0 turns the cache off.

    Raises:
        UsageError: The size is not one.
    """
    text = os.environ.get(SIZE_VARIABLE, "")
    if text.strip() == "0":
        return OFF
    limit = parse_size(text, option=SIZE_VARIABLE) if text else DEFAULT_BYTES
    try:
        return CacheSettings(folder=cache_folder(), limit_bytes=limit)
    except RuntimeError:  # as `Path.home` says that this user has no home folder
        problem = f"results are not kept: there is no home folder; set {FOLDER_VARIABLE}"
        return CacheSettings(folder=None, limit_bytes=limit, problem=problem)
