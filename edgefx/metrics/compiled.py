"""Metrics of an artifact that a compiler made for a chip: what it reckons, by its model of the hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgefx.compilation import NpuEstimate
from edgefx.metrics.row import Figures, MetricRow, Origin, Unit


def _of_estimate(read: Callable[[NpuEstimate], float]) -> Callable[[Figures], float | None]:
    """Read a figure of the estimate; None of what no compiler made."""

    def value(figures: Figures) -> float | None:
        estimate = figures.compilation.estimate if figures.compilation else None
        return read(estimate) if estimate else None

    return value


def _arena(figures: Figures) -> float | None:
    arena = figures.compilation.arena if figures.compilation else None
    return arena.bytes if arena else None


ROWS: Final[tuple[MetricRow, ...]] = (
    MetricRow(
        id="npu_coverage",
        name="share of the operations on the NPU",
        meaning="The share of the integer artifact's operations that the NPU does not leave to the CPU.",
        unit=Unit.SHARE,
        better="more",
        origin=Origin.NPU,
        value=lambda figures: figures.compilation.npu_coverage if figures.compilation else None,
        gate="min_npu_coverage",
        heading="on NPU",
        digits=1,
        tolerance=0,
    ),
    MetricRow(
        id="estimated_ms",
        name="estimated latency on the NPU",
        meaning="An estimate, by the compiler's model of the NPU, of the time of one inference.",
        unit=Unit.MILLISECONDS,
        better="less",
        origin=Origin.NPU,
        value=_of_estimate(lambda found: found.inference_ms),
        gate="max_estimated_ms",
        heading="est. ms",
        compared=True,
        tolerance=0,
    ),
    MetricRow(
        id="arena_bytes",
        name="tensor arena",
        meaning="What to reserve for a microcontroller's interpreter: the least that it ran in, and 10 %.",
        unit=Unit.BYTES,
        better="less",
        origin=Origin.MCU,
        value=_arena,
        gate="max_arena",
        heading="arena",
        compared=True,
        tolerance=0,
    ),
    MetricRow(
        id="npu_cycles",
        name="estimated cycles of the NPU",
        meaning="An estimate, by the compiler's model of the NPU, of its cycles in one inference.",
        unit=Unit.COUNT,
        better="less",
        origin=Origin.NPU,
        value=_of_estimate(lambda found: found.cycles),
        tolerance=0,
    ),
    MetricRow(
        id="sram_bytes",
        name="estimated SRAM",
        meaning="An estimate, by the compiler, of the SRAM that activations, and weights kept there, take.",
        unit=Unit.BYTES,
        better="less",
        origin=Origin.NPU,
        value=_of_estimate(lambda found: found.sram_bytes),
        gate="max_sram",
        heading="est. SRAM",
        compared=True,
        tolerance=0,
    ),
    MetricRow(
        id="dram_bytes",
        name="estimated DRAM",
        meaning="An estimate, by the compiler, of the DRAM that activations, and weights kept there, take.",
        unit=Unit.BYTES,
        better="less",
        origin=Origin.NPU,
        value=_of_estimate(lambda found: found.dram_bytes),
        heading="est. DRAM",
        optional=True,
        tolerance=0,
    ),
    MetricRow(
        id="flash_bytes",
        name="estimated flash",
        meaning="An estimate, by the compiler, of the flash that weights and commands take.",
        unit=Unit.BYTES,
        better="less",
        origin=Origin.NPU,
        value=_of_estimate(lambda found: found.flash_bytes),
        gate="max_flash",
        heading="est. flash",
        compared=True,
        tolerance=0,
    ),
)
