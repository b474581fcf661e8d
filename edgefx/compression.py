"""What fewer distinct weights and zeros among them brought to an artifact: part of a run's results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What an integer artifact takes, as it is and packed.

    Attributes:
        size_bytes: The file.
        zipped_bytes: The file deflated (zlib, level 9): what a download takes.
        lookup_bytes: The file as `--optimise Size` packs it for TensorFlow Lite for Microcontrollers: weights
            as lookup tables wherever that makes a tensor smaller, and nothing that TFLM does not read.
        zeros: The share of its INT8 weights that are zero.
    """

    size_bytes: int
    zipped_bytes: int
    lookup_bytes: int
    zeros: float


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """An integer artifact as far as its weights' compression goes.

    Attributes:
        footprint: What it takes.
        drop_pp: The top-1 that it loses against the float model, in percentage points, by its runtime on all
            evaluation images; None where that was not measured.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        mean_kl: Mean divergence of its answers from the float model's; None where it was not measured.
        flash_bytes: Flash, as the compiler of an NPU reckons; None without one.
        npu_cycles: The NPU's cycles, likewise.
    """

    footprint: Footprint
    drop_pp: float | None = None
    drop_ci95_pp: tuple[float, float] | None = None
    mean_kl: float | None = None
    flash_bytes: int | None = None
    npu_cycles: int | None = None


@dataclass(frozen=True, kw_only=True)
class CompressionEffect:
    """An artifact with few or zero weights, beside the same without.

    Attributes:
        asked: What was asked for, as options of the command line.
        before: The artifact without.
        after: The artifact of the run.
        images: Evaluation images that both drops were measured on; 0 where they were not.
    """

    asked: str
    before: Compressed
    after: Compressed
    images: int = 0
