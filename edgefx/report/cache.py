"""The state of the cache, and how it is shown: `edgefx cache`."""

from __future__ import annotations

from rich.console import Console

from edgefx.report.terminal import Facts, table
from edgefx.report.text import size
from edgefx.views import CacheInfo


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
