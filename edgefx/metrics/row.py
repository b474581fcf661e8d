"""What is known of a metric, and how it is read from what a run measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from edgefx.compilation import Compilation
from edgefx.measured import Accuracy, Latency, TaskFigures
from edgefx.vocabulary import ModelTask, TargetKind

if TYPE_CHECKING:
    from edgefx.results import TargetResult

EARLIER: Final = "an earlier version of edgefx measured it"  # why a figure is absent


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
    NUMBER = "number"  # in a unit of the model's own, or in none


class Origin(StrEnum):
    """What must have been done to know a figure."""

    ARTIFACT = "artifact"
    ACCURACY = "accuracy"
    LATENCY = "latency"
    NPU = "npu"
    MCU = "mcu"

    @property
    def kind(self) -> TargetKind | None:
        """The only kind of target that it can be done with here; None where it can with all."""
        only = {
            Origin.LATENCY: TargetKind.RUNTIME,
            Origin.NPU: TargetKind.NPU,
            Origin.MCU: TargetKind.MCU,
        }
        return only.get(self)

    def is_known_of(self, kind: TargetKind) -> bool:
        """Whether it can be done at all here with the artifacts of a kind of target."""
        return self.kind in (None, kind)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one target in one run; None where it was not."""

    size_bytes: int | None = None
    size_ratio: float | None = None
    int8_share: float | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    compilation: Compilation | None = None

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
            compilation=result.compilation,
        )

    def of_output(self, name: str) -> Figures:
        """Return the figures with the accuracy of one of several outputs; "" is the one that leads them."""
        if not name:
            return self
        found = self.accuracy.outputs if self.accuracy is not None else ()
        own = next((one.accuracy for one in found if one.name == name), None)
        return replace(self, accuracy=own)


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
        tasks: The tasks that it is measured of; empty for all.
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
    tasks: tuple[ModelTask, ...] = ()
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

    def measures(self, task: ModelTask) -> bool:
        """Whether it is measured of models with a task."""
        return not self.tasks or task in self.tasks


def of_accuracy(read: Callable[[Accuracy], float | None]) -> Callable[[Figures], float | None]:
    """Read a figure of the accuracy; None where that was not measured."""
    return lambda figures: read(figures.accuracy) if figures.accuracy else None


def of_interval(
    read: Callable[[Accuracy], tuple[float, float] | None],
) -> Callable[[Figures], tuple[float, float] | None]:
    """Read an interval of the accuracy; None where that was not measured."""
    return lambda figures: read(figures.accuracy) if figures.accuracy else None


def of_latency(read: Callable[[Latency], float | None]) -> Callable[[Figures], float | None]:
    """Read a figure of the latency; None where that was not measured."""
    return lambda figures: read(figures.latency) if figures.latency else None


def of_task(read: Callable[[TaskFigures], float | None]) -> Callable[[Figures], float | None]:
    """Read a figure of a model that does more than choose a class."""
    return of_accuracy(lambda found: read(found.task) if found.task else None)


def unless_values(read: Callable[[Accuracy], float | None]) -> Callable[[Figures], float | None]:
    """Read what is a divergence of probabilities; models without classes have another."""
    return of_accuracy(
        lambda found: None if found.task and found.task.relative_error is not None else read(found)
    )
