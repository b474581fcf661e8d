"""What a compiler made of an artifact, and what it reckons of it: figures that nobody has measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Processor(StrEnum):
    """What computes an operation on a chip with an NPU."""

    NPU = "NPU"
    CPU = "CPU"


@dataclass(frozen=True, kw_only=True)
class NpuEstimate:
    """What a compiler reckons of an artifact on an NPU, by its model of the hardware: nothing was measured.

    Attributes:
        inference_ms: Time of one inference.
        clock_mhz: The NPU's clock that this assumes.
        cycles: The NPU's cycles of one inference.
        sram_bytes: SRAM that activations, and weights that are kept there, take at most.
        dram_bytes: DRAM, likewise.
        flash_bytes: Flash that weights and commands take.
    """

    inference_ms: float
    clock_mhz: float
    cycles: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int


@dataclass(frozen=True, kw_only=True)
class LayerPlacement:
    """Where a layer is computed; a layer that is divided between NPU and CPU has two.

    Attributes:
        layer: The canonical layer.
        operations: Its operations in the integer artifact, each once.
        processor: What computes them.
        cycles: The NPU's cycles, as the compiler reckons; 0 on the CPU.
        reason: Why the NPU does not compute it, in the compiler's words; "" on the NPU.
    """

    layer: str
    operations: tuple[str, ...]
    processor: Processor
    cycles: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """How an artifact came about that a compiler made of another one.

    Attributes:
        compiler: Name and version.
        source: The target whose artifact was compiled; a figure of accuracy beside this is of that artifact.
        source_sha256: Hash of its main file, before metadata were written into it.
        operations: How many operations it has.
        on_cpu: How many of them the NPU leaves to the CPU.
        options: What was assumed and asked for, by the names of the command line.
        by_default: Those of the options that nobody chose.
        placements: Where each layer is computed.
        estimate: Of time and memory.
    """

    compiler: str
    source: str
    source_sha256: str
    operations: int
    on_cpu: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    by_default: tuple[str, ...] = ()
    placements: tuple[LayerPlacement, ...] = ()
    estimate: NpuEstimate | None = None

    @property
    def npu_coverage(self) -> float | None:
        """The share of the operations that the NPU computes; None where there is no NPU."""
        if self.estimate is None or not self.operations:
            return None
        return 1 - self.on_cpu / self.operations
