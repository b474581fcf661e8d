"""What fewer distinct weights, zeros or fewer channels brought to an artifact: part of a run's results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What an artifact takes, as it is and packed.

    Attributes:
        size_bytes: Its files.
        zipped_bytes: Its files deflated (zlib, level 9): what a download takes.
        lookup_bytes: The file as `--optimise Size` packs it for TensorFlow Lite for Microcontrollers: weights
            as lookup tables wherever that makes a tensor smaller, and nothing that TFLM does not read. 0
            where it is not for TFLM or an NPU.
        zeros: The share of its INT8 weights that are zero; 0 likewise.
    """

    size_bytes: int
    zipped_bytes: int
    lookup_bytes: int = 0
    zeros: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NarrowedBlock:
    """A block that expansion channels were removed of.

    Attributes:
        layer: The layer that makes the channels.
        before: How many it made.
        after: How many it makes.
        loss: The variance of what the block puts out wrongly by that, over all of its variance, as far as
            the calibration images tell before blocks are fitted to each other.
    """

    layer: str
    before: int
    after: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class ChannelRemoval:
    """What became of a model's graph before anything was quantized.

    Attributes:
        blocks: Those with fewer channels, in order.
        parameters_before: Weights and biases of the whole graph.
        parameters_after: Of the graph with fewer channels.
        macs_before: Multiply-accumulates of the whole graph.
        macs_after: Of the graph with fewer channels.
        drop_pp: The top-1 that the float artifact of the graph with fewer channels loses against the model as
            it was given, in percentage points; None where it was not measured.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        mean_kl: Mean divergence of its answers from the model's; None where it was not measured.
    """

    blocks: tuple[NarrowedBlock, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    drop_pp: float | None = None
    drop_ci95_pp: tuple[float, float] | None = None
    mean_kl: float | None = None


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """An artifact as far as its weights' compression goes.

    Attributes:
        footprint: What it takes.
        drop_pp: The top-1 that it loses against the float model, in percentage points, by its runtime on all
            evaluation images; None where that was not measured.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        mean_kl: Mean divergence of its answers from the float model's; None where it was not measured.
        flash_bytes: Flash, as the compiler of an NPU reckons; None without one.
        npu_cycles: The NPU's cycles, likewise.
        npu_ms: Time of one inference, likewise.
        p50_ms: Median latency on the host, measured in turn with that of the other one; None where it was
            not measured, or cannot differ.
    """

    footprint: Footprint
    drop_pp: float | None = None
    drop_ci95_pp: tuple[float, float] | None = None
    mean_kl: float | None = None
    flash_bytes: int | None = None
    npu_cycles: int | None = None
    npu_ms: float | None = None
    p50_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class CompressionEffect:
    """An artifact with few or zero weights or fewer channels, beside the same without.

    Attributes:
        asked: What was asked for, as options of the command line.
        before: The artifact without.
        after: The artifact of the run.
        images: Evaluation images that both drops were measured on; 0 where they were not.
        removal: What channels were removed; None where none were to be.
        latency_ratio: Median latency over that of the artifact without, formed in each pass of the
            measurement; None where it was not measured, or the measurement tells nothing.
        latency_ci95: 95 % confidence interval of `latency_ratio`, low then high.
    """

    asked: str
    before: Compressed
    after: Compressed
    images: int = 0
    removal: ChannelRemoval | None = None
    latency_ratio: float | None = None
    latency_ci95: tuple[float, float] | None = None
