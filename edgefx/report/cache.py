"""The state of the cache, and how it is shown: `edgefx cache`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from edgefx.report.terminal import Facts, table
from edgefx.report.text import size


@dataclass(frozen=True, kw_only=True)
class StageUsage:
    """What one stage keeps."""

    stage: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """The cache.

    Attributes:
        folder: Where it is; None when it is off.
        limit_bytes: What it may grow to.
        entries: How many results it holds.
        size_bytes: Of all of them.
        oldest_use: When the least recently used one was last used, ISO 8601, UTC; None when empty.
        stages: By stage, the largest first.
    """

    folder: Path | None
    limit_bytes: int
    entries: int
    size_bytes: int
    oldest_use: str | None
    stages: tuple[StageUsage, ...]


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was removed from the cache."""

    folder: Path | None
    removed: int
    freed_bytes: int


def render_info(info: CacheInfo, console: Console) -> None:
    """Print what the cache holds."""
    if info.folder is None:
        console.print("the cache is off")
        return
    if info.stages:
        result = table("stage", "entries", "size")
        for stage in info.stages:
            result.add_row(stage.stage, str(stage.entries), size(stage.size_bytes))
        console.print(result, highlight=False)
        console.print()
    total = f"{info.entries} entries, {size(info.size_bytes)} of {size(info.limit_bytes)}"
    facts = [("folder", str(info.folder)), ("holds", total)]
    if info.oldest_use:
        facts.append(("oldest use", info.oldest_use))
    console.print(Facts(facts))
