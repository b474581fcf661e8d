"""What is asked of a measurement: which artifacts, and how much of each is timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgefx.types import Precision
from edgefx.vocabulary import LAUNCHES

NOISY = 0.25  # `Latency.noise` above which figures are not to be relied on, by default


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An artifact to measure.

    Attributes:
        key: How the caller finds its result.
        path: The artifact's main file.
        precision: What the target asked for, if known.
        float_key: Key of the same runtime's float32 artifact in this run, for `Latency.ratio_to_float`.
        threads: Its intra-op threads; None for those of the measurement.
        any_ends: Whether it is something else than an image classifier.
    """

    key: str
    path: Path
    precision: Precision | None = None
    float_key: str | None = None
    threads: int | None = None
    any_ends: bool = False


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How much is timed.

    Attributes:
        rounds: Least number of timed inferences of each artifact; slow artifacts get fewer so that the budget
            holds.
        least_s: Least time that these take together: of fast artifacts there are more.
        warmup: Least number of inferences before the timed ones, after each cold start; see `warm`.
        budget_s: Wall time for the timed inferences of all artifacts together; five of each are made whatever
            it says.
        launches: Processes that are started for each artifact, one after the other; fewer where inferences
            are few, or where starting them would take longer than `budget_s`.
        max_noise: `Latency.noise` of any artifact above which all are measured again, while the budget
            allows.
    """

    rounds: int
    warmup: int
    budget_s: float
    least_s: float = 0.0
    launches: int = LAUNCHES
    max_noise: float = NOISY
