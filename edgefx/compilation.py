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
class Arena:
    """The memory that an interpreter for microcontrollers works in: activations and its own tables.

    Attributes:
        needed_bytes: The least with which the interpreter has run the artifact here, found by trying. Its
            tables hold pointers of 8 bytes here; a 32-bit chip needs less.
        bytes: What to reserve: that and a margin, for kernels of a chip that need more than those run here.
    """

    needed_bytes: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A kind of operation that an artifact needs a kernel for.

    Attributes:
        name: TFLite's name of it.
        version: The version of its kernel.
        count: How many there are.
    """

    name: str
    version: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Whether an interpreter for microcontrollers answers as LiteRT does, bit by bit.

    Attributes:
        images: How many were compared.
        identical: Those with the same bits in every score as from LiteRT's fast kernels on this CPU.
        identical_to_reference: The same with LiteRT's reference kernels.
        largest_step: The largest difference of a stored score from that of LiteRT's fast kernels.
        parts_at: The first operation whose result differs between LiteRT's two sets of kernels, on the first
            image with another answer; "" where all are the same.
    """

    images: int
    identical: int
    identical_to_reference: int
    largest_step: int
    parts_at: str = ""


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
        estimate: Of time and memory; None without an NPU.
        arena: The interpreter's memory; None without an interpreter.
        operators: What the interpreter must know, likewise.
        parity: Whether machine code answers as the artifact does that it was made from, on images of noise;
            None where it is none, or does not run on this machine.
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
    arena: Arena | None = None
    operators: tuple[Operator, ...] = ()
    parity: Parity | None = None

    @property
    def npu_coverage(self) -> float | None:
        """The share of the operations that the NPU computes; None where there is no NPU."""
        if self.estimate is None or not self.operations:
            return None
        return 1 - self.on_cpu / self.operations
