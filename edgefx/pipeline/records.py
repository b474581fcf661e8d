"""What the cache keeps of each stage, beside `results.TrainingResult` and `results.TrainingEffect`.

The source of this file, and of all that it imports, is part of every key (`edgefx.cache.keys`): a field that
changes its meaning is never read with the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgefx.compilation import Compilation, Parity
from edgefx.compression import NarrowedBlock
from edgefx.measured import Saliency
from edgefx.results import Accuracy, Check, Latency, LayerSensitivity
from edgefx.types import Artifact, ArtifactFile, LayerInfo, ModelSpec


@dataclass(frozen=True, kw_only=True)
class GraphRecord:
    """What is known of a canonical graph without its file.

    Attributes:
        spec: The model, multiply-accumulates counted.
        layers: The canonical layers.
        notes: What the user should know of the model.
        channels: For each layer in `FrozenGraph.spreads`, the number of its channels.
        sha256: Hash of the graph's content: its file, the layers and the spreads.
    """

    spec: ModelSpec
    layers: tuple[LayerInfo, ...]
    notes: tuple[str, ...]
    channels: tuple[tuple[str, int], ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PrunedRecord:
    """What is known of a canonical graph with fewer channels, and which blocks it has fewer in."""

    graph: GraphRecord
    blocks: tuple[NarrowedBlock, ...]


@dataclass(frozen=True, kw_only=True)
class ImagesRecord:
    """What decoding told of an image set.

    Attributes:
        images: How many can be decoded.
        classes: Number of distinct labels, None when unlabelled.
        skipped: Files left out, with the reason.
    """

    images: int
    classes: int | None
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class BaselineRecord:
    """The float model's answers; the scores are a file.

    Attributes:
        top1: The best class of each image.
        confidence: Its probability; empty where the model chooses no class.
    """

    top1: tuple[int, ...]
    confidence: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Equality:
    """The canonical graph against the model as loaded.

    Attributes:
        max_abs_dp: Largest difference of a probability.
        is_usual: Whether it is too small to be worth a warning.
    """

    max_abs_dp: float
    is_usual: bool


@dataclass(frozen=True, kw_only=True)
class CalibrationChecks:
    """What was found in the decoded calibration images."""

    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Pictures that are in two image sets in another form, as `edgefx.data.twins` finds them.

    Attributes:
        pairs: Path in the first set and path among the evaluation images.
        alike: Share of the first set's images that look as much like another one of it.
    """

    pairs: tuple[tuple[str, str], ...]
    alike: float


@dataclass(frozen=True, kw_only=True)
class ConversionRecord:
    """An artifact, its paths bare names of files, and how many seconds its conversion took back then."""

    artifact: Artifact
    convert_s: float


@dataclass(frozen=True, kw_only=True)
class CompiledRecord:
    """What a compiler made of an artifact, its paths bare names of files, and how."""

    artifact: Artifact
    compilation: Compilation


@dataclass(frozen=True, kw_only=True)
class FinishedFiles:
    """An artifact's files with its metadata in them, their paths bare names, the main one first."""

    files: tuple[ArtifactFile, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An artifact's answers on the evaluation images.

    Attributes:
        accuracy: Compared with the baseline.
        top1: The best class of each image; of equal scores the lower class. None for an image that is not in
            the sample that it was measured on, or that it gave no answer to.
        confidence: The probability of that class, likewise; empty where the model chooses no class.
        parity: Whether an interpreter for microcontrollers answers as the runtime does; None without one.
        warnings: Which images got no answer, and what to try.
    """

    accuracy: Accuracy
    top1: tuple[int | None, ...]
    confidence: tuple[float | None, ...] = ()
    parity: Parity | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The layers of an artifact, those first whose quantization alone changes the scores most."""

    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """What a benchmark measured, by target."""

    latencies: Mapping[str, Latency]


@dataclass(frozen=True, kw_only=True)
class Saliencies:
    """What the float model, or an artifact, looks at in some images, in their order."""

    maps: tuple[Saliency, ...]
