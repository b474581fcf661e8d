"""What is made of a run to hand it on: a bundle, an artifact compiled for an NPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgefx.compilation import LayerPlacement, NpuEstimate
from edgefx.errors import ExitCode
from edgefx.notebook import Shown
from edgefx.results import Accuracy, Failure
from edgefx.types import Artifact, OpCount


@dataclass(frozen=True, kw_only=True)
class OciLayout:
    """An OCI image layout that was written.

    Attributes:
        path: Its folder.
        digest: The digest of its image, by which a registry knows it, too.
        tag: What the image is called in it.
    """

    path: Path
    digest: str
    tag: str


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """An artifact in a model repository of an inference server.

    Attributes:
        layout: For which server.
        target: Its target.
        name: What the server calls the model.
        version: Which of its versions.
        path: The version's folder.
    """

    layout: str
    target: str
    name: str
    version: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Bundle(Shown):
    """A bundle that was written.

    Attributes:
        path: Where.
        size_bytes: Its size.
        sha256: Hash of its bytes.
        targets: Whose artifacts are in it.
        files: Its members.
        signed: Whether it is signed.
        doubtful: Targets with a gate that failed or could not be judged.
        oci: The same files as an OCI image layout; None where none was asked for.
        served: The artifacts that were added to model repositories.
    """

    path: Path
    size_bytes: int
    sha256: str
    targets: tuple[str, ...]
    files: tuple[str, ...]
    signed: bool
    doubtful: tuple[str, ...] = ()
    oci: OciLayout | None = None
    served: tuple[ServedModel, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VerifiedBundle(Shown):
    """A bundle of which every byte was checked.

    Attributes:
        path: Where it is.
        edgefx: Version of edgefx that compiled, as the bundle says.
        created: When the run was finished, likewise.
        files: Its members.
        size_bytes: Their size together.
        signed: Whether there is a signature in it.
        signature_checked: Whether it was checked who signed it.
        signer: Who signed it, then: the subject of a certificate, or the fingerprint of a key; else "".
    """

    path: Path
    edgefx: str
    created: str
    files: tuple[str, ...]
    size_bytes: int
    signed: bool
    signature_checked: bool
    signer: str = ""


@dataclass(frozen=True, kw_only=True)
class SetUp(Shown):
    """A compiler in an environment of its own.

    Attributes:
        name: Of the compiler.
        path: The environment.
        packages: What is in it, with versions.
        was_ready: Whether it was there already.
    """

    name: str
    path: Path
    packages: Mapping[str, str]
    was_ready: bool


@dataclass(frozen=True, kw_only=True)
class RolloutStage:
    """A step of a rollout.

    Attributes:
        share: The share of the devices that have the new artifact, above 0, at most 1.
        hours: How long it lasts at least; None of the last one.
    """

    share: float
    hours: float | None = None


@dataclass(frozen=True, kw_only=True)
class RolloutReport(Shown):
    """Whether a rollout is ready to begin.

    Attributes:
        path: The file that describes it.
        name: What it is called.
        target: Whose artifacts are rolled out.
        bundle: The new bundle.
        rollback: The one that devices go back to.
        stages: From the canaries to all.
        gates: What devices have to keep in each stage, as conditions.
        compare: The share of the devices that keeps the old artifact in the end, to compare with; 0 for none.
        problems: Why it must not begin; none where it may.
        warnings: What to know before it does.
    """

    path: Path
    name: str
    target: str
    bundle: VerifiedBundle
    rollback: VerifiedBundle
    stages: tuple[RolloutStage, ...]
    gates: tuple[str, ...]
    compare: float
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """GATE_FAILED where there are problems."""
        return ExitCode.GATE_FAILED if self.problems else ExitCode.OK


@dataclass(frozen=True, kw_only=True)
class NpuResult:
    """An artifact compiled for one NPU.

    Attributes:
        target: The NPU.
        system_config: Clock and memories that were assumed.
        memory_mode: Where weights and activations were assumed to lie.
        optimise: What the compiler was asked to make small: the time, or the memory.
        artifact: What was made; None when the compiler refused it.
        on_cpu: Operations that the NPU leaves to the CPU; none where it does all of them.
        estimate: By the compiler; None without an artifact.
        placements: Where each layer is computed.
        failure: Why there is no artifact.
    """

    target: str
    system_config: str
    memory_mode: str
    optimise: str
    artifact: Artifact | None = None
    on_cpu: tuple[OpCount, ...] = ()
    estimate: NpuEstimate | None = None
    placements: tuple[LayerPlacement, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class NpuReport(Shown):
    """An integer artifact compiled for NPUs; ``NAME-npu.json`` is this object.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        source: The integer artifact.
        source_sha256: Hash of its file.
        compiler: Name and version.
        results: By NPU.
        measured_target: The target as which the run in the source's folder made it; None where unknown.
        accuracy: What that run measured of the integer artifact, on a CPU. No compiled artifact was run.
    """

    schema_version: int
    source: Path
    source_sha256: str
    compiler: str
    results: tuple[NpuResult, ...]
    measured_target: str | None = None
    accuracy: Accuracy | None = None

    @property
    def exit_code(self) -> ExitCode:
        """STAGE_FAILED where an NPU has no artifact."""
        return ExitCode.STAGE_FAILED if any(one.failure for one in self.results) else ExitCode.OK


@dataclass(frozen=True, kw_only=True)
class CheckFinding:
    """What a chip does not take of a model, or takes at a price.

    Attributes:
        target: For which target.
        layer: The canonical layer; "" where it is the whole model.
        operation: Its operations that are meant.
        reason: Why.
        remedy: What to do about it.
        breaks: Whether the model is not taken as a whole; else it is advice.
    """

    target: str
    layer: str
    operation: str
    reason: str
    remedy: str
    breaks: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport(Shown):
    """Whether a model will be taken as a whole by chips, before it is calibrated.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        model: Its name.
        targets: What it was checked for.
        findings: What was found.
        seconds: How long that took after the model was loaded.
    """

    schema_version: int
    model: str
    targets: tuple[str, ...]
    findings: tuple[CheckFinding, ...]
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """GATE_FAILED where a target does not take the model as a whole."""
        return ExitCode.GATE_FAILED if any(one.breaks for one in self.findings) else ExitCode.OK
