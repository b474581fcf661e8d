"""Devices, and how they are shown: `edgefx device`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from edgefx.report.terminal import Facts, table
from edgefx.report.text import counted
from edgefx.views import DeviceCheck, DeviceState

if TYPE_CHECKING:
    from edgefx.benchmarking.devices.book import NamedDevice

_STEADY = ("", "performance")  # governors under which latency does not depend on what ran before


def render_list(devices: Sequence[NamedDevice], file: str, console: Console) -> None:
    """Print the devices that a file names."""
    if not devices:
        console.print(f"no devices: {file} names none", highlight=False)
        return
    shown = table("device", "address", "python", "threads", "notes")
    for one in devices:
        threads = "all cores" if one.threads is None else str(one.threads)
        shown.add_row(one.name, one.address, one.python or "python3", threads, one.notes)
    console.print(shown, highlight=False)


def render_check(found: DeviceCheck, console: Console) -> None:
    """Print what devices are and lack."""
    for state in found.devices:
        console.print(Group(Text(state.device, style="bold"), Facts(list(_facts(state)))), highlight=False)


def _facts(state: DeviceState) -> Iterator[tuple[str, str]]:
    if state.environment is None:
        yield "error", state.error
        yield "hint", state.hint
        return
    machine = state.environment
    yield "CPU", f"{machine.cpu}, {counted(machine.cores, 'core')}, {state.hardware}"
    yield "system", machine.os
    yield "memory", f"{state.memory_available_mb} of {machine.memory_mb} MB available"
    yield "disk", f"{state.disk_free_mb} MB free in {state.folder}"
    yield "python", f"{machine.python}: {state.python}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    yield "packages", versions or "none of the runtimes"
    for runtime, reason in state.lacking.items():
        yield runtime, f"no: {reason}" if reason else "artifacts can be run"
    for target, basis in state.placements.items():
        yield target, f"laid out for {state.hardware} by {basis}"
    if state.governor not in _STEADY:
        yield "note", f"the governor '{state.governor}' changes the CPU's frequency, hence latency"
