"""Classes of machines: which form of an INT8 artifact is fast depends on the CPU.

What was measured on each class stands in tables. They are consulted, and not a stopwatch, because the same
inputs must give the same artifact.
"""

from __future__ import annotations

import platform
from enum import StrEnum
from pathlib import Path


class Machine(StrEnum):
    """CPUs whose integer dot products differ."""

    X86_AMX = "x86-64 with AMX"
    X86_VNNI = "x86-64 with VNNI"
    X86 = "x86-64 without VNNI"
    ARM_DOTPROD = "ARM with dot product"
    ARM = "ARM without dot product"
    OTHER = "unknown CPU"


_CPUINFO = Path("/proc/cpuinfo")


def detect(*, architecture: str | None = None, cpuinfo: str | None = None) -> Machine:
    """Tell the class of this machine, or of another one that is described.

    Args:
        architecture: As `platform.machine` has it.
        cpuinfo: The text of ``/proc/cpuinfo``; where there is none, an ARM CPU of macOS has dot products and
            an x86-64 CPU counts as one without VNNI.
    """
    if architecture is None:
        architecture = platform.machine()
        if cpuinfo is None and _CPUINFO.is_file():
            cpuinfo = _CPUINFO.read_text(errors="replace")
    words = set((cpuinfo or "").split())
    match architecture.lower():
        case "x86_64" | "amd64":
            if words >= {"amx_int8", "amx_bf16"}:
                return Machine.X86_AMX
            return Machine.X86_VNNI if words & {"avx512_vnni", "avx_vnni"} else Machine.X86
        case "aarch64" | "arm64":
            return Machine.ARM_DOTPROD if "asimddp" in words or cpuinfo is None else Machine.ARM
        case _:
            return Machine.OTHER
