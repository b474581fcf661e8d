"""What a run measured and decided: one type per finding, rendered by `edgefx.report`.

Units are part of the names, as in `edgefx.types`. Shares and accuracies without a unit are fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgefx.compilation import Compilation, Parity
from edgefx.compression import CompressionEffect
from edgefx.errors import ExitCode
from edgefx.measured import Accuracy, Changes, ComparedAnswers, Explanation, Latency
from edgefx.notebook import Shown
from edgefx.training import TrainingEffect, TrainingResult
from edgefx.types import Artifact, DataInfo, Effort, ModelSpec, StageKind
from edgefx.verdicts import Doubt, GateResult, JointVerdict, Verdict
from edgefx.vocabulary import Hardware

__all__ = ["Accuracy", "Changes", "ComparedAnswers", "Latency"]  # re-exported


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What quantizing one layer alone, all others in float, does to the scores.

    Attributes:
        layer: The canonical layer.
        mean_kl: Mean KL(float || quantized) in nats over the images.
        top1_changed: Fraction of the images whose best class changed.
    """

    layer: str
    mean_kl: float
    top1_changed: float


class DropUnit(StrEnum):
    """What a drop of top-1 is counted in."""

    PP = "pp"  # percentage points: 93 % to 92 % is 1 pp
    PERCENT = "%"  # percent of the baseline's top-1: 93 % to 92 % is 1.08 %


@dataclass(frozen=True, kw_only=True)
class MaxDrop:
    """The most top-1 that an artifact may lose: a gate for all targets, and a budget for the INT8 ones."""

    value: float
    unit: DropUnit

    def __str__(self) -> str:
        """As a user writes it: ``0.5pp`` or ``0.5%``."""
        return f"{self.value:.15g}{self.unit}"

    @property
    def metric(self) -> str:
        """What the limit is a limit of, by its id in `edgefx.metrics`."""
        return "drop_pp" if self.unit is DropUnit.PP else "drop_percent"

    def measured(self, accuracy: Accuracy) -> float | None:
        """The drop in the limit's unit; None without labels, or where the baseline is never right."""
        return accuracy.drop_pp if self.unit is DropUnit.PP else accuracy.drop_percent


@dataclass(frozen=True, kw_only=True)
class ClassComparison:
    """An artifact held against the best classes that a run has kept of its float model.

    Attributes:
        images: Number of images.
        top1: Fraction that the artifact gets right; None when unlabelled.
        baseline_top1: The float model on the same images.
        drop_pp: 100 * (baseline_top1 - top1); negative when the artifact is better.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        agreement: Fraction of images with the same best class.
    """

    images: int
    top1: float | None
    baseline_top1: float | None
    drop_pp: float | None
    drop_ci95_pp: tuple[float, float] | None
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate of a search: converted for real, and measured on the evaluation images.

    Attributes:
        effort: What the conversion was allowed to spend.
        keep_float: Canonical layers left in float, the most sensitive first.
        accuracy: None when the conversion failed.
        integer_share: Share of the multiply-accumulates that run in INT8, else of the operations.
        size_bytes: Size of the artifact's files; 0 when the conversion failed.
        convert_s: Wall time of the conversion.
        meets: Whether the drop is within the limit.
        error: Why there is no artifact.
        left_out: Passes of the effort that were not carried out, such as what cannot be done with layers in
            float.
    """

    effort: Effort
    keep_float: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    integer_share: float = 0.0
    size_bytes: int = 0
    convert_s: float = 0.0
    meets: bool = False
    error: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was tried to keep an INT8 artifact within the accuracy budget.

    Attributes:
        limit: The budget.
        trials: In the order tried.
        chosen: Index of the trial that became the artifact.
        gap: How far the artifact is over the limit, in the limit's unit; 0 when it meets it.
        chosen_on_evaluation: Whether more than one candidate was looked at on the evaluation images, which
            makes the chosen one's drop a little too good.
        ended: Why no more was tried.
        ranked: What each layer's quantization alone does, the worst first; empty where that was not needed.
    """

    limit: MaxDrop
    trials: tuple[Trial, ...]
    chosen: int
    gap: float
    chosen_on_evaluation: bool
    ended: str
    ranked: tuple[LayerSensitivity, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the calibration images; what fails outright is an error instead.

    Attributes:
        name: What was looked at.
        passed: Whether nothing is wrong.
        measured: What was seen.
        advice: Why it matters and what to do; empty when passed.
    """

    name: str
    passed: bool
    measured: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a target has no artifact; the hint may be empty."""

    stage: StageKind
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """Wall time of one stage; `target` is "" for stages shared by all targets."""

    stage: StageKind
    target: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CachedStage:
    """A stage whose result was taken from the cache instead of being computed in the run.

    Attributes:
        stage: The stage.
        target: "" for stages shared by all targets.
        what: Which of the stage's results, where it has several.
        key: The entry's key: SHA-256 in hexadecimal digits.
        created: When it was computed, ISO 8601, UTC.
    """

    stage: StageKind
    target: str
    what: str
    key: str
    created: str


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """Everything known of one target after a run.

    Attributes:
        artifact: None when the target failed.
        accuracy: None when it was not measured; so is `latency`.
        size_ratio_to_float: Size over that of the canonical weights in float32, 4 bytes a parameter.
        effort: What an INT8 conversion spent, which a search may have raised; None for other targets.
        convert_s: Wall time of the artifact's own conversion, without the other candidates of a search.
        search: What was tried to keep to the accuracy budget; None without a budget.
        training: What training brought; None where the artifact was not compared with a trained one.
        hardware: The class of CPU that the artifact is laid out for; None where it fits any.
        doubts: Why its accuracy proves little.
        changes: Which classes and images it answers otherwise than the float model; None where it was not
            measured, or the model chooses no class.
        compilation: How a compiler made it of another artifact, whose accuracy is shown then, with its
            estimates; None for a runtime's own artifact.
        parity: Whether an interpreter for microcontrollers answers as the runtime does; None without one.
        compression: What few or zero weights brought and cost; None where none were asked for.
    """

    target: str
    artifact: Artifact | None
    accuracy: Accuracy | None
    latency: Latency | None
    size_ratio_to_float: float | None
    gates: tuple[GateResult, ...] = ()
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    effort: Effort | None = None
    convert_s: float | None = None
    search: SearchResult | None = None
    training: TrainingEffect | None = None
    hardware: Hardware | None = None
    doubts: tuple[Doubt, ...] = ()
    changes: Changes | None = None
    compilation: Compilation | None = None
    parity: Parity | None = None
    compression: CompressionEffect | None = None

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
    """Where a run happened.

    Attributes:
        machine: The architecture, such as x86_64.
        cpu_features: Those of its instruction sets that matter for inference.
        cores: The cores that the process may use.
        memory_mb: The memory that the process may use, in 10^6 bytes.
        packages: Versions by distribution name.
    """

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
class DeviceTarget:
    """One target's artifact on a device.

    Attributes:
        target: The target's name.
        answers: Whether a few images get the same scores there as here; None without evaluation images.
        accuracy: Against the float Keras model; None when it was not measured, and so is `latency`.
        failure: Why it was not measured there.
        notes: What must be known, for example that it is laid out for another class of CPU.
        doubts: Why its accuracy proves little.
    """

    target: str
    answers: ComparedAnswers | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    gates: tuple[GateResult, ...] = ()
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """What was measured on a device.

    Attributes:
        device: What the user calls it.
        environment: What it is and has installed; None where it could not be reached.
        hardware: The class of its CPU.
        failure: Why it could not be reached, or was lost in the middle; what came before that is kept.
        targets: The artifacts that were to be run there.
    """

    device: str
    environment: Environment | None
    hardware: Hardware | None
    targets: tuple[DeviceTarget, ...]
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class RunReport(Shown):
    """The outcome of `edgefx compile`; `report.json` is this object.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        created: When the report was made, ISO 8601, UTC.
        command: What was typed, or the function that was called.
        seed: The seed of everything that is sampled or trained.
        baseline_top1: Top-1 of the float Keras model on the evaluation images; None when it was not measured.
        baseline_top5: Its top-5; None when it was not measured.
        canonical_max_abs_dp: Largest difference of a probability between canonical graph and loaded model.
        timings: Wall time of each stage that was computed.
        effort: The effort that was asked for; a search may have gone further.
        integer_only: Whether float operations were forbidden.
        cached: Stages whose results came from the cache; their figures were measured when these say.
        doubts: Why the float model's accuracy on these images, and so every drop, proves little.
        joint: All gates on accuracy judged together; None with fewer than two.
        devices: What the artifacts answer, and how fast they are, on devices.
        explanations: Which parts of images that change their class the answers rest on, those first of whose
            class the float model is surest; none unless asked for.
    """

    schema_version: int
    created: str
    command: str
    environment: Environment
    model: ModelSpec
    data: tuple[DataInfo, ...]
    seed: int
    baseline_top1: float | None
    baseline_top5: float | None
    canonical_max_abs_dp: float | None
    targets: tuple[TargetResult, ...]
    timings: tuple[StageTiming, ...]
    warnings: tuple[str, ...] = field(default=())
    effort: Effort = Effort.BALANCED
    integer_only: bool = False
    checks: tuple[Check, ...] = ()
    training: TrainingResult | None = None
    cached: tuple[CachedStage, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    joint: JointVerdict | None = None
    devices: tuple[DeviceResult, ...] = ()
    explanations: tuple[Explanation, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Success, a gate failed or could not be judged, or a target failed, which outranks the gates."""
        there = [result for device in self.devices for result in device.targets]
        failures = [result.failure for result in self.targets]
        failures += [device.failure for device in self.devices] + [result.failure for result in there]
        if any(failures):
            return ExitCode.STAGE_FAILED
        gates = [gate for result in self.targets for gate in result.gates]
        gates += [gate for result in there for gate in result.gates]
        if any(gate.verdict is not Verdict.PASS and not gate.tolerated for gate in gates):
            return ExitCode.GATE_FAILED
        return ExitCode.OK

    def __iter__(self) -> Iterator[TargetResult]:
        """Iterate over the targets' results."""
        return iter(self.targets)
