"""Which convolutions gain from INT8 depends on the CPU: what was measured, by class of machine.

``python -m tests.benchmarks onnx_forms`` measures the candidates on a machine; its verdict belongs into
`INTENSITY`. The table is consulted, and not a stopwatch, because the same inputs must give the same artifact.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path


class Machine(StrEnum):
    """CPUs whose integer dot products differ."""

    X86_VNNI = "x86-64 with VNNI"
    X86 = "x86-64 without VNNI"
    ARM_DOTPROD = "ARM with dot product"
    ARM = "ARM without dot product"
    OTHER = "unknown CPU"


# Multiply-accumulates per value read or written from which INT8 pays for its conversions: below, the maps are
# large, the channels few, and quantizing, transposing and dequantizing cost more than is saved. Measured on
# an AMD EPYC with AVX-512 VNNI.
INTENSITY: Mapping[Machine, float] = {Machine.X86_VNNI: 30.0}
_ASSUMED = Machine.X86_VNNI  # its figure is taken where nothing was measured
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
            return Machine.X86_VNNI if words & {"avx512_vnni", "avx_vnni"} else Machine.X86
        case "aarch64" | "arm64":
            return Machine.ARM_DOTPROD if "asimddp" in words or cpuinfo is None else Machine.ARM
        case _:
            return Machine.OTHER


def intensity(machine: Machine) -> float:
    """Return the threshold for a machine, that of another one where it was not measured."""
    return INTENSITY.get(machine, INTENSITY[_ASSUMED])


def caveat(machine: Machine) -> str | None:
    """Say what a user should know where nothing was measured."""
    if machine in INTENSITY:
        return None
    return (
        f"onnx-int8: which convolutions are faster in INT8 was measured on {_ASSUMED}, not on {machine}: "
        "compare the latency with onnx-float32"
    )
