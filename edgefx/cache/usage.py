"""What the cache holds: `edgefx cache info`."""

from __future__ import annotations

from datetime import UTC, datetime

from edgefx.cache.settings import CacheSettings
from edgefx.protocols import Progress
from edgefx.views import CacheInfo, StageUsage


def info(settings: CacheSettings, progress: Progress) -> CacheInfo:
    """Count what the cache holds.

    Args:
        settings: Where the cache is.
        progress: Told why nothing is kept, where the user did not ask for that.
    """
    usages = settings.store(progress.warn).usages()  # the least recently used first
    stages = {usage.stage: [one for one in usages if one.stage == usage.stage] for usage in usages}
    rows = [
        StageUsage(stage=stage, entries=len(found), size_bytes=sum(one.size_bytes for one in found))
        for stage, found in stages.items()
    ]
    oldest = (
        datetime.fromtimestamp(usages[0].used_s, tz=UTC).isoformat(timespec="seconds") if usages else None
    )
    return CacheInfo(
        folder=settings.folder,
        limit_bytes=settings.limit_bytes,
        entries=len(usages),
        size_bytes=sum(usage.size_bytes for usage in usages),
        oldest_use=oldest,
        stages=tuple(sorted(rows, key=lambda row: -row.size_bytes)),
    )
