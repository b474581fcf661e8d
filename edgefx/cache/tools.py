"""What results depend on besides their inputs and edgefx's own code: versions of tools, the machine.

Nothing is imported to find out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from edgefx.cache.entry import Json

TENSORFLOW = ("tensorflow", "keras", "tf-keras", "keras-hub", "numpy")
IMAGES = ("numpy", "pillow")


def versions(distributions: Iterable[str]) -> dict[str, Json]:
    """Return the installed versions by name, nothing imported."""
    return {name: version for name in distributions if (version := _version(name)) is not None}


def cpu_features() -> list[Json]:
    """Return what tells whether two CPUs compute the same: the architecture and its instruction sets."""
    import platform

    _, features = _cpu()
    return [platform.machine(), *features]


def machine() -> dict[str, Json]:
    """Return what latency depends on besides the artifact and the runtime."""
    import platform

    from edgefx.system.host import cores

    model, features = _cpu()
    return {
        "cpu": model,
        "features": list(features),
        "cores": cores(),
        "os": f"{platform.system()} {platform.release()}",
    }


@cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    from edgefx.system.host import cpu

    return cpu()


@cache
def _version(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
