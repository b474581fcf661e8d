"""The table of metrics: all that is known of a figure that a run measures of a target.

A new metric costs one row here. Gates and the recipe's keys for them, the columns of the report, `edgefx
diff`, `edgefx reproduce` and the documentation read the row. It stands below recipes, which name gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from edgefx.results import Accuracy, Latency, TargetResult


class Unit(StrEnum):
    """What a figure is counted in; decides how it is read from a recipe and written in a report."""

    POINTS = "pp"  # percentage points
    PERCENT = "%"
    SHARE = "share"  # 0 to 1, written in percent
    MILLISECONDS = "ms"
    BYTES = "B"
    MEGABYTES = "MB"  # 10^6 bytes
    RATIO = "x"
    NATS = "nats"
    PROBABILITY = "probability"
    COUNT = "count"


class Origin(StrEnum):
    """What must have been done to know a figure."""

    ARTIFACT = "artifact"
    ACCURACY = "accuracy"
    LATENCY = "latency"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one target in one run; None where it was not."""

    size_bytes: int | None = None
    size_ratio: float | None = None
    int8_share: float | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None

    @classmethod
    def of(cls, result: TargetResult) -> Figures:
        """Return the figures of a run's result."""
        artifact = result.artifact
        return cls(
            size_bytes=artifact.size_bytes if artifact else None,
            size_ratio=result.size_ratio_to_float,
            int8_share=artifact.int8_macs_share if artifact else None,
            accuracy=result.accuracy,
            latency=result.latency,
        )


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric.

    Attributes:
        id: Its name in files, such as "drop_pp".
        name: What a sentence calls it.
        meaning: What it says, in a sentence for a user.
        unit: What it is counted in.
        better: Whether less or more of it is better; decides whether a gate is an upper or a lower limit.
        origin: What must have been done to know it.
        value: Reads it; None where it was not measured.
        interval: Reads its 95 % confidence interval, where it has one.
        absent: Why it may be missing although that was done.
        needs_labels: Whether the evaluation images must be labelled.
        gate: The recipe's key for a limit; "" where a limit makes no sense.
        heading: Its column in a report; "" for none.
        digits: Behind the point, in a report.
        optional: Whether its column gives way where a report is too wide.
        shows_interval: Whether a column of its interval follows its own.
        unlabelled_only: Whether its column is shown only where the images have no labels.
        on_scores: Whether it compares scores, not classes: those of an 8-bit output are rounded.
        in_reports: Whether reports of a run have its column; that of `edgefx benchmark` has all latencies.
        overview: Whether the table of a matrix of runs shows it.
        compared: Whether `edgefx diff` shows it in its table; its JSON holds all metrics.
        tolerance: How far it may be from what was measured before, to count as reproduced; None where it
            differs from run to run anyway, or follows from the others.
    """

    id: str
    name: str
    meaning: str
    unit: Unit
    better: Literal["less", "more"]
    origin: Origin
    value: Callable[[Figures], float | None]
    interval: Callable[[Figures], tuple[float, float] | None] | None = None
    absent: str = ""
    needs_labels: bool = False
    gate: str = ""
    heading: str = ""
    digits: int = 2
    optional: bool = False
    shows_interval: bool = False
    unlabelled_only: bool = False
    on_scores: bool = False
    in_reports: bool = True
    overview: bool = False
    compared: bool = False
    tolerance: float | None = None

    def within(self, value: float, limit: float) -> bool:
        """Whether a value keeps a limit, which is inclusive."""
        return value <= limit if self.better == "less" else value >= limit


def _accuracy(read: Callable[[Accuracy], float | None]) -> Callable[[Figures], float | None]:
    return lambda figures: read(figures.accuracy) if figures.accuracy else None


def _interval(
    read: Callable[[Accuracy], tuple[float, float] | None],
) -> Callable[[Figures], tuple[float, float] | None]:
    return lambda figures: read(figures.accuracy) if figures.accuracy else None


def _latency(read: Callable[[Latency], float | None]) -> Callable[[Figures], float | None]:
    return lambda figures: read(figures.latency) if figures.latency else None


_NO_LABELS = "the evaluation images have no labels, so there is no top-1"
_NO_TOP5 = "there is no top-5 without labels, or with five classes or fewer"
_NO_CONFIDENCE = "the evaluation images have no labels, or an earlier edgefx measured them"
_DIVERGENCE_TOLERANCE = 1e-6  # sums in another order

METRICS: Final[dict[str, MetricRow]] = {
    row.id: row
    for row in (
        MetricRow(
            id="size_bytes",
            name="size",
            meaning="All files of the artifact together.",
            unit=Unit.BYTES,
            better="less",
            origin=Origin.ARTIFACT,
            value=lambda figures: figures.size_bytes,
            gate="max_size",
            heading="size",
            overview=True,
            compared=True,
        ),
        MetricRow(
            id="size_ratio_to_float",
            name="size over the float weights'",
            meaning="The artifact's size over that of the weights in float32.",
            unit=Unit.RATIO,
            better="less",
            origin=Origin.ARTIFACT,
            value=lambda figures: figures.size_ratio,
            absent="the number of the model's parameters is not known",
            gate="max_size_ratio",
            heading="ratio",
        ),
        MetricRow(
            id="int8_share",
            name="share of the arithmetic in INT8",
            meaning="The share of the multiply-accumulates that are computed in INT8.",
            unit=Unit.SHARE,
            better="more",
            origin=Origin.ARTIFACT,
            value=lambda figures: figures.int8_share,
            absent="the share is not known of this artifact",
            gate="min_int8_share",
        ),
        MetricRow(
            id="images",
            name="evaluation images",
            meaning="How many images the artifact was evaluated on.",
            unit=Unit.COUNT,
            better="more",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.images),
            tolerance=0,
        ),
        MetricRow(
            id="top1",
            name="top-1",
            meaning="The share of the images whose best class is the label.",
            unit=Unit.SHARE,
            better="more",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.top1),
            interval=_interval(lambda found: found.top1_ci95),
            absent=_NO_LABELS,
            needs_labels=True,
            gate="min_top1",
            heading="top-1",
            overview=True,
            compared=True,
            tolerance=0,
        ),
        MetricRow(
            id="top5",
            name="top-5",
            meaning="The share of the images whose label is among the five best classes.",
            unit=Unit.SHARE,
            better="more",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.top5),
            interval=_interval(lambda found: found.top5_ci95),
            absent=_NO_TOP5,
            needs_labels=True,
            gate="min_top5",
            heading="top-5",
            optional=True,
            tolerance=0,
        ),
        MetricRow(
            id="baseline_top1",
            name="top-1 of the float Keras model",
            meaning="The float Keras model's top-1 on the same images.",
            unit=Unit.SHARE,
            better="more",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.baseline_top1),
            absent=_NO_LABELS,
            needs_labels=True,
            tolerance=0,
        ),
        MetricRow(
            id="drop_pp",
            name="top-1 drop",
            meaning="The top-1 lost against the float Keras model, in percentage points; negative: gained.",
            unit=Unit.POINTS,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.drop_pp),
            interval=_interval(lambda found: found.drop_ci95_pp),
            absent=_NO_LABELS,
            needs_labels=True,
            gate="max_drop",
            heading="drop pp",
            shows_interval=True,
            overview=True,
        ),
        MetricRow(
            id="drop_percent",
            name="top-1 drop relative to the baseline",
            meaning="The top-1 lost, in percent of the float Keras model's.",
            unit=Unit.PERCENT,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.drop_percent),
            interval=_interval(lambda found: found.drop_percent_ci95),
            absent="the images have no labels, or the baseline is never right: nothing is relative to it",
            needs_labels=True,
            gate="max_drop",
        ),
        MetricRow(
            id="drop_top5_pp",
            name="top-5 drop",
            meaning="The top-5 lost against the float Keras model, in percentage points; negative: gained.",
            unit=Unit.POINTS,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.drop_top5_pp),
            interval=_interval(lambda found: found.drop_top5_ci95_pp),
            absent=_NO_TOP5,
            needs_labels=True,
            gate="max_drop_top5",
        ),
        MetricRow(
            id="agreement",
            name="agreement",
            meaning="The share of the images whose best class is the float Keras model's.",
            unit=Unit.SHARE,
            better="more",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.agreement),
            interval=_interval(lambda found: found.agreement_ci95),
            gate="min_agreement",
            heading="agree",
            overview=True,
            digits=1,
            tolerance=0,
        ),
        MetricRow(
            id="mean_kl",
            name="mean KL divergence",
            meaning="The mean KL divergence of the scores from the float Keras model's, in nats.",
            unit=Unit.NATS,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.mean_kl),
            gate="max_mean_kl",
            heading="mean KL",
            unlabelled_only=True,
            on_scores=True,
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="max_abs_dp",
            name="largest difference of a probability",
            meaning="The largest difference of one probability from the float Keras model's.",
            unit=Unit.PROBABILITY,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.max_abs_dp),
            gate="max_abs_dp",
            heading="max |dp|",
            unlabelled_only=True,
            on_scores=True,
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="ece",
            name="calibration error",
            meaning="The mean gap between confidence and the share of right answers, over 15 bins (ECE).",
            unit=Unit.SHARE,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.ece),
            absent=_NO_CONFIDENCE,
            needs_labels=True,
            gate="max_ece",
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="baseline_ece",
            name="calibration error of the float Keras model",
            meaning="The float Keras model's calibration error on the same images.",
            unit=Unit.SHARE,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.baseline_ece),
            absent=_NO_CONFIDENCE,
            needs_labels=True,
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="brier",
            name="Brier score",
            meaning="The mean squared distance of the probabilities from the label's, 0 to 2.",
            unit=Unit.PROBABILITY,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.brier),
            absent=_NO_CONFIDENCE,
            needs_labels=True,
            gate="max_brier",
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="baseline_brier",
            name="Brier score of the float Keras model",
            meaning="The float Keras model's Brier score on the same images.",
            unit=Unit.PROBABILITY,
            better="less",
            origin=Origin.ACCURACY,
            value=_accuracy(lambda found: found.baseline_brier),
            absent=_NO_CONFIDENCE,
            needs_labels=True,
            tolerance=_DIVERGENCE_TOLERANCE,
        ),
        MetricRow(
            id="p50_ms",
            name="median latency",
            meaning="The median of the timed inferences of one image.",
            unit=Unit.MILLISECONDS,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.p50_ms),
            gate="max_p50_ms",
            heading="p50 ms",
            overview=True,
            compared=True,
        ),
        MetricRow(
            id="p95_ms",
            name="p95 latency",
            meaning="The 95th percentile of the timed inferences of one image.",
            unit=Unit.MILLISECONDS,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.p95_ms),
            gate="max_p95_ms",
            heading="p95 ms",
        ),
        MetricRow(
            id="min_ms",
            name="shortest latency",
            meaning="The fastest of the timed inferences of one image.",
            unit=Unit.MILLISECONDS,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.min_ms),
            heading="min ms",
            in_reports=False,
        ),
        MetricRow(
            id="ratio_to_float",
            name="latency over float's",
            meaning="The median latency over that of the same runtime's float32 artifact.",
            unit=Unit.RATIO,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.ratio_to_float),
            absent="the float32 artifact of the runtime was not measured beside it",
            gate="max_ratio_to_float",
            heading="x float",
        ),
        MetricRow(
            id="cold_start_ms",
            name="cold start",
            meaning="Opening the file and the first inference, in a fresh process.",
            unit=Unit.MILLISECONDS,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.cold_start_ms),
            gate="max_cold_start_ms",
            heading="cold ms",
            optional=True,
        ),
        MetricRow(
            id="peak_memory_mb",
            name="peak memory",
            meaning="The peak resident memory of the process that ran it, the runtime included.",
            unit=Unit.MEGABYTES,
            better="less",
            origin=Origin.LATENCY,
            value=_latency(lambda found: found.peak_memory_mb),
            gate="max_peak_memory",
            heading="peak MB",
            digits=0,
            optional=True,
        ),
    )
}
