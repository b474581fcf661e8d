"""``manifest.json``: what a bundle holds, how its artifacts are fed, and what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgefx.compilation import Compilation
from edgefx.results import Accuracy, Latency
from edgefx.types import SPARSE, ArtifactFile, OutputMetadata, TensorInfo
from edgefx.verdicts import Verdict
from edgefx.vocabulary import Hardware

NAME = "manifest.json"
SUMS = "SHA256SUMS"  # of all other files but the signature; `sha256sum --check` reads it
SIGNATURE = "model.sig"  # of all other files, SHA256SUMS among them
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BundledModel:
    """The Keras model that the artifacts were made from.

    Attributes:
        name: Its name.
        sha256: Hash of its content.
        height: Input height in pixels.
        width: Input width in pixels.
        parameters: Number of its parameters.
        macs: Multiply-accumulates of one inference.
        output: What a score is: "probabilities" or "logits".
    """

    name: str
    sha256: str
    height: int
    width: int
    parameters: int
    macs: int
    output: str


@dataclass(frozen=True, kw_only=True)
class BundledImages:
    """Images that artifacts were calibrated, trained or measured with; they are not in the bundle.

    Attributes:
        role: "calibration", "training" or "evaluation".
        images: How many.
        sha256: Hash over files, labels, size and resize mode.
        resize: How they became the model's input.
        interpolation: How pixels were interpolated.
    """

    role: str
    images: int
    sha256: str
    resize: str
    interpolation: str


@dataclass(frozen=True, kw_only=True)
class BundledTarget:
    """An artifact.

    Attributes:
        target: Its target.
        files: Paths of its files in the bundle, the main one first.
        input: The image; quantized, real value = (stored - zero point) * scale, which is the pixel.
        output: The scores, stored in the same way; of several outputs the one that `class_names` belong to.
        hardware: The class of CPU that it is laid out for; None where it fits any.
        accuracy: As measured by the run; None where it was not. With `compilation`, that of the artifact
            which was compiled.
        latency: As measured on the machine in `Manifest.environment`; None where it was not.
        verdict: The worst of its gates; None without gates.
        compilation: How a compiler made it, with its estimates; None for a runtime's own artifact.
        outputs: All outputs, where there are several.
    """

    target: str
    files: tuple[str, ...]
    input: TensorInfo
    output: TensorInfo
    hardware: Hardware | None
    accuracy: Accuracy | None
    latency: Latency | None
    verdict: Verdict | None
    compilation: Compilation | None = None
    outputs: tuple[OutputMetadata, ...] = field(default=(), metadata=SPARSE)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is in a bundle.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        edgefx: Version of edgefx that compiled.
        created: When the run was finished, ISO 8601, UTC.
        model: What was compiled.
        color: Order of the input's last axis.
        pixel_range: The values of a pixel, low then high.
        class_names: By index; empty where unknown.
        targets: The artifacts.
        data: Image sets by role, calibration first.
        environment: Where figures were measured: operating system, CPU.
        packages: Versions of what compiled and measured, by distribution.
        files: Every file of the bundle but this one, the checksums and the signature.
    """

    schema_version: int
    edgefx: str
    created: str
    model: BundledModel
    color: str
    pixel_range: tuple[float, float]
    class_names: tuple[str, ...]
    targets: tuple[BundledTarget, ...]
    data: tuple[BundledImages, ...]
    environment: Mapping[str, str]
    packages: Mapping[str, str]
    files: tuple[ArtifactFile, ...]
