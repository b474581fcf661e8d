"""The devices that a user has named: `devices.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefx.errors import UnknownNameError, UsageError

FILE = "devices.yaml"
VARIABLE = "EDGEFX_DEVICES"
_KEYS = ("address", "python", "dir", "benchmark_model", "threads", "notes")
_EXAMPLE = "a device is written so: 'pi5: {address: ssh://pi@raspberrypi.local, threads: 4}'"


@dataclass(frozen=True, kw_only=True)
class NamedDevice:
    """A device as a user's file has it.

    Attributes:
        name: What results call it.
        address: ``ssh://[user@]host[:port]`` or ``adb://[serial]``.
        python: Its Python; None for python3.
        folder: Where files are kept there; None for ~/.cache/edgefx.
        benchmark_model: LiteRT's tool for Android on this machine, for a phone without Python.
        threads: Runtime threads where a command names none; None for all cores.
        notes: What its user wants to remember.
    """

    name: str
    address: str
    python: str | None = None
    folder: str | None = None
    benchmark_model: Path | None = None
    threads: int | None = None
    notes: str = ""


def path() -> Path:
    """Return where the devices are named: the working folder's file, else the user's.

    EDGEFX_DEVICES names another file.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    here = Path(FILE)
    if here.is_file():
        return here
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgefx" / FILE


def devices() -> dict[str, NamedDevice]:
    """Return the devices by their names; none where there is no file.

    Raises:
        UsageError: The file cannot be read, or holds something else.
    """
    from edgefx.storage.regular import read_bytes
    from edgefx.system import short_yaml

    file = path()
    if not file.exists() and VARIABLE not in os.environ:
        return {}
    try:
        content = short_yaml.parse(read_bytes(file, limit_bytes=short_yaml.MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint=_EXAMPLE) from error
    except ValueError as error:
        raise UsageError(f"{file}: no YAML: {error}", hint=_EXAMPLE) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file}: not a mapping of names to devices", hint=_EXAMPLE)
    found = {str(name): _device(f"{file}: {name}", str(name), entry) for name, entry in content.items()}
    owners: dict[str, str] = {}
    for one in found.values():
        other = owners.setdefault(one.address.rstrip("/").lower(), one.name)
        if other != one.name:
            raise UsageError(
                f"{file}: '{other}' and '{one.name}' are one device: both have the address {one.address}",
                hint="name it once: measured under both names it would disturb itself",
            )
    return found


def device(name: str) -> NamedDevice:
    """Return one device.

    Raises:
        UnknownNameError: The file names no such device.
        UsageError: There is no device at all, or the file cannot be read.
    """
    known = devices()
    if name in known:
        return known[name]
    if not known:
        raise UsageError(
            f"unknown device '{name}'", hint=f"give host, ssh://user@host, or name it in {path()}: {_EXAMPLE}"
        )
    raise UnknownNameError("device", name, ["host", *known], hint=f"(in {path()}; or give ssh://user@host)")


def _device(where: str, name: str, entry: Any) -> NamedDevice:
    if isinstance(entry, str):
        entry = {"address": entry}
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: not a device", hint=_EXAMPLE)
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise UnknownNameError(f"key of {where}", str(unknown[0]), _KEYS)
    if "://" not in str(entry.get("address", "")):
        raise UsageError(f"{where}: it has no address", hint=_EXAMPLE)
    threads = entry.get("threads")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise UsageError(f"{where}: threads: {threads!r} is no number from 1 on", hint=_EXAMPLE)
    return NamedDevice(
        name=name,
        address=str(entry["address"]),
        python=_text(entry, "python"),
        folder=_text(entry, "dir"),
        benchmark_model=Path(tool).expanduser() if (tool := _text(entry, "benchmark_model")) else None,
        threads=threads,
        notes=_text(entry, "notes") or "",
    )


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return None if value is None else str(value)
