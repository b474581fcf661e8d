"""What a command shows: one frozen type per view, rendered by `edgefx.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgefx.errors import ExitCode
from edgefx.execution import ExecutionProfile
from edgefx.measured import ComparedAnswers, Explanation, OutputEvaluation, TaskFigures, Throughput
from edgefx.notebook import Shown
from edgefx.results import Accuracy, ClassComparison, Environment, Latency, RunReport
from edgefx.types import (
    SPARSE,
    Artifact,
    ArtifactMetadata,
    DataInfo,
    ForeignMetadata,
    LayerInfo,
    ModelSpec,
    StageKind,
)
from edgefx.verdicts import Doubt
from edgefx.vocabulary import Hardware


@dataclass(frozen=True, kw_only=True)
class TargetState:
    """What can be done with a target here.

    Attributes:
        target: Its name.
        ready: Whether it can be compiled for.
        missing: Import names of the packages that compiling lacks, and the command that sets up its compiler.
        runs: Whether its artifacts can be inspected, evaluated and benchmarked: that takes the runtime alone.
    """

    target: str
    ready: bool
    missing: tuple[str, ...]
    runs: bool


@dataclass(frozen=True, kw_only=True)
class ExtraState:
    """Whether what ``pip install 'edgefx[EXTRA]'`` installs is there.

    Attributes:
        extra: Its name.
        ready: Whether all of it can be used.
        missing: Distributions that are absent or cannot be used.
    """

    extra: str
    ready: bool
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What `edgefx doctor` found.

    Attributes:
        environment: This machine.
        memory_available_mb: Memory that a run can have now.
        disk_free_mb: Free space by folder: the current one and the temporary one.
        packages: Everything edgefx uses.
        extras: The parts of edgefx that are installed by name, such as edgefx[tflite].
        targets: What they make possible.
        problems: What must be cured; empty when all is fine.
        advice: What should be known, but stops nothing.
        fix: The command that installs what is missing, or "".
        deep: Whether the packages were really imported.
        hardware: The class of this machine's CPU.
        placements: By what artifacts for that class are laid out, by target.
    """

    environment: Environment
    memory_available_mb: int
    disk_free_mb: dict[str, int]
    packages: tuple[PackageState, ...]
    extras: tuple[ExtraState, ...]
    targets: tuple[TargetState, ...]
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    fix: str
    deep: bool
    hardware: Hardware = Hardware.OTHER
    placements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageUsage:
    """What one stage keeps."""

    stage: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """The cache.

    Attributes:
        folder: Where it is; None when it is off.
        limit_bytes: What it may grow to.
        entries: How many results it holds.
        size_bytes: Size of all of them together.
        oldest_use: When the least recently used one was last used, ISO 8601, UTC; None when empty.
        stages: By stage, the largest first.
    """

    folder: Path | None
    limit_bytes: int
    entries: int
    size_bytes: int
    oldest_use: str | None
    stages: tuple[StageUsage, ...]


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was removed from the cache."""

    folder: Path | None
    removed: int
    freed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Evaluation(Shown):
    """One artifact on one set of images.

    Attributes:
        artifact: Its main file.
        data: The images.
        threads: Intra-op threads.
        precision_ran: What the runtime executed in.
        images: Number of images.
        top1: Fraction right, None when unlabelled.
        top5: Fraction with the label among the five best; None when unlabelled or with few classes.
        images_per_s: Throughput of the artifact, images already decoded.
        baseline: The model compared with, or the output folder of the run whose float model's best classes
            are; None without a comparison.
        comparison: The paired comparison with it, or None; with a run, of best classes only.
        figures: What else is measured of a model that does more than choose a class.
        doubts: Why these accuracies may not mean what they seem to.
        device: Where it ran, when that is not this machine.
        notes: What else must be known, for example that the artifact is laid out for other hardware.
        error_rate: The share of the images that got no answer; they count as wrong.
        outputs: Each of several outputs; then `top1` and `top5` are those of the one that chooses a class.
        explanations: What the baseline and the artifact (under its file's name) look at in images that change
            their class, where that was asked for.
        model: The baseline, with the names of its classes; likewise.
    """

    artifact: Path
    data: DataInfo
    threads: int
    precision_ran: str
    images: int
    top1: float | None
    top5: float | None
    images_per_s: float
    baseline: str | None = None
    comparison: Accuracy | ClassComparison | None = None
    figures: TaskFigures | None = None
    doubts: tuple[Doubt, ...] = ()
    device: DeviceAnswers | None = None
    notes: tuple[str, ...] = ()
    error_rate: float | None = None
    outputs: tuple[OutputEvaluation, ...] = field(default=(), metadata=SPARSE)
    explanations: tuple[Explanation, ...] = field(default=(), metadata=SPARSE)
    model: ModelSpec | None = field(default=None, metadata=SPARSE)


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """A device, looked at.

    Attributes:
        device: What the user calls it.
        environment: What it is and has installed; None where it cannot be reached.
        hardware: The class of its CPU.
        python: The path of its Python.
        folder: Where files are kept there.
        disk_free_mb: Free space there, in 10^6 bytes.
        memory_available_mb: Memory that a program can have now, in 10^6 bytes.
        governor: The policy that sets the CPU's frequency; "" where nothing says.
        lacking: By runtime, why artifacts of it cannot be run there; "" where they can.
        placements: By what artifacts for its class are laid out, by target.
        error: Why it cannot be reached, or used.
        hint: What to do.
    """

    device: str
    environment: Environment | None = None
    hardware: Hardware | None = None
    python: str = ""
    folder: str = ""
    disk_free_mb: int = 0
    memory_available_mb: int = 0
    governor: str = ""
    lacking: Mapping[str, str] = field(default_factory=dict)
    placements: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class DeviceCheck:
    """Several devices, looked at."""

    devices: tuple[DeviceState, ...]


@dataclass(frozen=True, kw_only=True)
class DeviceAnswers(ComparedAnswers):
    """A device that ran an artifact, and whether it answers as this machine does.

    Attributes:
        device: What the user calls it.
        environment: What it is and has installed.
        hardware: The class of its CPU.
    """

    device: str
    environment: Environment
    hardware: Hardware


@dataclass(frozen=True, kw_only=True)
class Benchmark(Shown):
    """Latencies of artifacts, measured in one interleaved run on one machine.

    Attributes:
        environment: The machine that they were measured on.
        latencies: By the artifact's path as given; measured with several numbers of threads, followed by
            each in parentheses: "b0-int8.tflite (2 threads)".
        failures: Why others could not be measured.
        device: What the user calls it; "host" is the machine that edgefx ran on.
        hardware: The class of its CPU; None where nothing says so.
        notes: What must be known, for example that an artifact is laid out for other hardware.
        profiles: What each artifact really ran, named as in `latencies`; empty unless it was asked for.
        throughputs: What each answers in batches and streams, likewise.
    """

    environment: Environment
    latencies: Mapping[str, Latency]
    failures: Mapping[str, str]
    device: str = "host"
    hardware: Hardware | None = None
    notes: tuple[str, ...] = ()
    profiles: Mapping[str, ExecutionProfile] = field(default_factory=dict)
    throughputs: Mapping[str, tuple[Throughput, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelInspection(Shown):
    """A model and the layers of its canonical graph."""

    kind: str = field(default="model", init=False)
    model: ModelSpec
    layers: tuple[LayerInfo, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ArtifactInspection(Shown):
    """An artifact, read back from its files.

    Attributes:
        kind: "artifact".
        artifact: What its graph holds.
        metadata: What it says of itself; None for a file that edgefx did not make.
        foreign: What a file of other origin says in its format's own fields; None of one that edgefx made.
    """

    kind: str = field(default="artifact", init=False)
    artifact: Artifact
    metadata: ArtifactMetadata | None = None
    foreign: ForeignMetadata | None = None


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One stage of a plan.

    Attributes:
        stage: The stage.
        target: "" for stages that all targets share.
        what: What it would do.
        cached: Whether its result is in the cache; None where that is not known before the stage before it
            has run, and for stages that are never kept.
    """

    stage: StageKind
    target: str
    what: str
    cached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PlanView(Shown):
    """What a run would do.

    Attributes:
        name: Name of the run in the matrix; "" without one.
        model: What is compiled.
        output: Where to.
        steps: In order.
    """

    name: str
    model: str
    output: str
    steps: tuple[PlanStep, ...]


@dataclass(frozen=True, kw_only=True)
class RunError:
    """Why a run has no report."""

    message: str
    hint: str
    details: tuple[str, ...]
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class MatrixRun:
    """One run of a matrix.

    Attributes:
        name: Name of its combination.
        output: Its folder.
        report: What it found; None when it failed as a whole.
        error: Why it did.
    """

    name: str
    output: Path
    report: RunReport | None
    error: RunError | None = None

    @property
    def exit_code(self) -> int:
        """What the run alone would have ended with."""
        if self.report is not None:
            return int(self.report.exit_code)
        return self.error.exit_code if self.error else int(ExitCode.BUG)


@dataclass(frozen=True, kw_only=True)
class MatrixReport(Shown):
    """The outcome of all runs of a recipe with a matrix; `matrix.json` is this object."""

    schema_version: int
    recipe: str
    command: str
    runs: tuple[MatrixRun, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the runs: a failed stage outranks a failed gate."""
        return ExitCode(max(run.exit_code for run in self.runs))


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """One figure of new images, held against a reference.

    Attributes:
        test: The figure.
        of: "images", "answers", or "features": what the artifact's last layer reads.
        reference: Its mean over the reference; None where it has none.
        new: Its mean over the new images, likewise.
        distance: Between both, from 0; of "scores" and "features" the maximum mean discrepancy, of "classes"
            the total variation, of others Kolmogorov and Smirnov's.
        p_value: The share of samples without drift that are at least as far, corrected for all tests (Holm).
        drifted: Whether that is at most the alarm rate.
    """

    test: str
    of: str
    reference: float | None
    new: float | None
    distance: float
    p_value: float
    drifted: bool


@dataclass(frozen=True, kw_only=True)
class DriftReport(Shown):
    """New images against those of a run: `edgefx drift`.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        run: The run's output folder.
        target: Whose artifact answered.
        role: What the reference was in the run: "evaluation" or "calibration".
        reference: Where it is.
        reference_images: How many of it were taken.
        data: Where the new images are.
        images: How many of them were taken.
        alarm_rate: The share of samples without drift in which any test says that there is one.
        tests: The tests.
    """

    schema_version: int
    run: Path
    target: str
    role: str
    reference: Path
    reference_images: int
    data: Path
    images: int
    alarm_rate: float
    tests: tuple[DriftTest, ...]

    @property
    def exit_code(self) -> ExitCode:
        """GATE_FAILED where there is drift."""
        return ExitCode.GATE_FAILED if any(one.drifted for one in self.tests) else ExitCode.OK


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What `edgefx report --log-to mlflow` logged.

    Attributes:
        uri: Where MLflow keeps it.
        experiment: MLflow's experiment.
        run_id: MLflow's run, whose nested runs are the targets.
    """

    uri: str
    experiment: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class WrittenReports:
    """What `edgefx report` wrote.

    Attributes:
        files: The files.
        logged: What was logged with ``--log-to``.
    """

    files: tuple[Path, ...]
    logged: TrackedRun | None = None


@dataclass(frozen=True, kw_only=True)
class PackageState:
    """One package that edgefx uses.

    Attributes:
        distribution: Name to install.
        module: Name to import.
        requirement: Distribution and versions, as edgefx's own metadata states them.
        version: Installed version, or None.
        needed_for: The extras that it belongs to, or "everything".
        problem: Why it cannot be used; empty when it can.
        optional: Whether it belongs to extras only, so that its absence is no fault.
        import_s: How long importing took, when it was tried.
    """

    distribution: str
    module: str
    requirement: str
    version: str | None
    needed_for: tuple[str, ...]
    problem: str = ""
    optional: bool = False
    import_s: float | None = None

    @property
    def faulty(self) -> bool:
        """Whether it must be cured: edgefx cannot be without it, or it is installed and cannot be used."""
        return bool(self.problem) and not (self.optional and self.version is None)
