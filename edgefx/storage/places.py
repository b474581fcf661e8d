"""Where this platform wants caches to be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "EDGEFX_CACHE_DIR"


def cache_folder() -> Path:
    """Return ``EDGEFX_CACHE_DIR``, else the platform's place for caches.

    Raises:
        RuntimeError: There is neither.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "edgefx" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edgefx"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgefx"
