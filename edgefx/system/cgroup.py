"""Control groups: what Linux lets this process use of memory and CPU time, in a container or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MEMORY_FILES = (  # limit, use, and what of the use the kernel gives back first: version 2, version 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the CPUs that the tightest group of this process grants; None without a limit."""
    quotas = []
    for group in _groups("cpu", root):
        limit = _words(group / "cpu.max")
        limit = limit or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(limit) == 2 and limit[0] not in ("max", "-1"):
            quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def memory(root: Path = ROOT) -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of each group of this process that has a limit.

    Cached content of files that was not read lately does not count as used: the kernel drops it first.
    """
    for group in _groups("memory", root):
        for limit, use, cached in _MEMORY_FILES:
            most, used = _words(group / limit), _words(group / use)
            if most and most[0] != "max":
                stat = _words(group / "memory.stat")
                dropped = int(stat[stat.index(cached) + 1]) if cached in stat else 0
                yield int(most[0]), max(0, int(used[0]) - dropped) if used else 0


def _groups(controller: str, root: Path) -> list[Path]:
    """Return the folders of the groups that this process is in: its own, and those around it.

    A container may be told paths that are not mounted in it; its own group is the root then.
    """
    found = []
    for line in _MEMBERSHIP.read_text().splitlines() if _MEMBERSHIP.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        own = PurePosixPath(path.lstrip("/"))
        for top in (root / controller,) if controllers else (root, root / "unified"):
            found += [top / part for part in (own, *own.parents) if ".." not in part.parts]
    return [folder for folder in dict.fromkeys([*found, root, root / controller]) if folder.is_dir()]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no such limit, or the group has gone
        return []
