"""Energy that counters of the machine have counted: Intel's and AMD's RAPL, and sensors that count joules.

Standard library only, Python 3.9 or later: on devices this text runs from memory.

The counters are of whole packages or sockets: what else runs there counts, too, and so does what an idle
machine takes. https://docs.kernel.org/power/powercap/powercap.html,
https://docs.kernel.org/hwmon/sysfs-interface.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Tuple  # noqa: UP035 - Python 3.9

# By the path of the counter: microjoules, and where it starts again from zero (0: never).
Reading = Dict[str, Tuple[int, int]]  # noqa: UP006


def read(root: str = "/sys/class") -> Reading:
    """Read the counters; empty where there is none that this user may read."""
    return _powercap(Path(root)) or _sensors(Path(root))


def joules(before: Reading, after: Reading) -> Optional[float]:  # noqa: UP045
    """Return what was counted between two readings; None where nothing was."""
    if not before or before.keys() != after.keys():
        return None
    total = 0
    for name, (later, wraps_at) in after.items():
        counted = later - before[name][0]
        if counted < 0:
            if not wraps_at:
                return None
            counted += wraps_at
        total += counted
    return total / 1e6 if total > 0 else None


def source(reading: Reading) -> str:
    """Name what was read, as "RAPL" or "hwmon"; "" where nothing was."""
    return "" if not reading else "RAPL" if "powercap" in next(iter(reading)) else "hwmon"


def _powercap(root: Path) -> Reading:
    """Read RAPL's packages: their parts are in them, and the platform, which some have, is another sum."""
    found = {}
    for zone in sorted((root / "powercap").glob("*:*")):
        if zone.name.count(":") == 1 and _text(zone / "name").startswith("package"):
            value = _number(zone / "energy_uj")
            if value is not None:
                found[str(zone)] = value, _number(zone / "max_energy_range_uj") or 0
    return found


def _sensors(root: Path) -> Reading:
    """Read sensors' energy; where some are called sockets, these alone, as their cores are in them."""
    found: Reading = {}
    sockets: Reading = {}
    for file in sorted((root / "hwmon").glob("hwmon*/energy*_input")):
        value = _number(file)
        if value is not None:
            label = _text(file.with_name(file.name.replace("_input", "_label")))
            (sockets if "socket" in label.lower() else found)[str(file)] = value, 0
    return sockets or found


def _number(path: Path) -> Optional[int]:  # noqa: UP045
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
