"""What a run measured and decided: one type per finding, rendered by `edgefx.report`.

Units are part of the names, as in `edgefx.types`. Shares and accuracies without a unit are fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgefx.errors import ExitCode
from edgefx.types import Artifact, DataInfo, ModelSpec, Stage


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An artifact's accuracy against the float Keras baseline, image by image.

    Attributes:
        images: Number of evaluation images.
        top1: Fraction right; None when unlabelled.
        top5: Fraction with the label among the five best; None when unlabelled or with five classes or fewer.
        baseline_top1: The float Keras model on the same images.
        baseline_top5: Likewise.
        drop_pp: 100 * (baseline_top1 - top1); negative when the artifact is better.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        agreement: Fraction of images with the same top-1 class as the baseline.
        mean_kl: Mean KL(baseline || artifact) in nats, on probabilities.
        max_abs_dp: Largest absolute difference of a probability.
        images_per_s: Evaluation throughput of this artifact, images already decoded.
    """

    images: int
    top1: float | None
    top5: float | None
    baseline_top1: float | None
    baseline_top5: float | None
    drop_pp: float | None
    drop_ci95_pp: tuple[float, float] | None
    agreement: float
    mean_kl: float
    max_abs_dp: float
    images_per_s: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one artifact on one device.

    Attributes:
        device: Where it ran; "host" is this machine, not the edge device.
        threads: Intra-op threads.
        rounds: Timed inferences, batch 1, interleaved with the other artifacts of the run.
        p50_ms: Median.
        p95_ms: 95th percentile.
        min_ms: Fastest.
        cold_start_ms: Opening the file plus the first inference, in a fresh process, imports not counted.
        peak_memory_mb: Peak resident set of that process, runtime included.
        precision_ran: What the runtime executed in.
        ratio_to_float: p50 over the p50 of the same runtime's float32 artifact in the same run.
    """

    device: str
    threads: int
    rounds: int
    p50_ms: float
    p95_ms: float
    min_ms: float
    cold_start_ms: float
    peak_memory_mb: float
    precision_ran: str
    ratio_to_float: float | None = None


class Verdict(StrEnum):
    """A gate's result. INCONCLUSIVE means that the metric could not be measured; it does not pass."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Metric(StrEnum):
    """What a gate may limit."""

    DROP_PP = "drop_pp"
    P95_MS = "p95_ms"
    SIZE_BYTES = "size_bytes"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """An upper limit on a metric, for the targets that match."""

    metric: Metric
    limit: float
    targets: tuple[str, ...] = ("*",)


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate judged on one target."""

    gate: Gate
    measured: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a target has no artifact."""

    stage: Stage
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """Wall time of one stage; `target` is "" for stages shared by all targets."""

    stage: Stage
    target: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """Everything known of one target after a run."""

    target: str
    artifact: Artifact | None
    accuracy: Accuracy | None
    latency: Latency | None
    size_ratio_to_float: float | None  # size over the canonical float32 weights' size (4 bytes a parameter)
    gates: tuple[GateResult, ...] = ()
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """The worst gate, or None without gates."""
        seen = {result.verdict for result in self.gates}
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
            if verdict in seen:
                return verdict
        return None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where a run happened."""

    edgefx: str
    python: str
    os: str
    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_mb: int
    packages: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """The outcome of `edgefx compile`; `report.json` is this object.

    `schema_version` changes when a field changes its meaning or goes away.
    """

    schema_version: int
    created: str  # ISO 8601, UTC
    command: str
    environment: Environment
    model: ModelSpec
    data: tuple[DataInfo, ...]
    seed: int
    baseline_top1: float | None
    baseline_top5: float | None
    canonical_max_abs_dp: float | None  # canonical graph against the model as loaded
    targets: tuple[TargetResult, ...]
    timings: tuple[StageTiming, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> ExitCode:
        """Success, a gate failed or could not be judged, or a target failed, which outranks the gates."""
        if any(result.failure for result in self.targets):
            return ExitCode.STAGE_FAILED
        if any(result.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) for result in self.targets):
            return ExitCode.GATE_FAILED
        return ExitCode.OK

    def __iter__(self) -> Iterator[TargetResult]:
        """Iterate over the targets' results."""
        return iter(self.targets)
