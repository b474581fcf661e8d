"""The typed objects that all rooms share.

Frozen dataclasses and enums only; nothing here imports more than the standard library, so that every
command may import it. Units are part of the names: ``_ms`` milliseconds, ``_mb`` 10^6 bytes,
``_pp`` percentage points, ``_s`` seconds. Shares and accuracies without a unit are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgefx.vocabulary import (
    Effort,
    IoDtype,
    OutputKind,
    Precision,
    QatMode,
    Ranges,
    Resize,
    Runtime,
    Stage,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]  # [N, H, W, 3], raw RGB
    Scores = NDArray[np.float32]  # [N, classes]: probabilities, or logits where the model ends in logits


__all__ = [  # of the vocabulary: re-exported
    "Effort",
    "IoDtype",
    "OutputKind",
    "Precision",
    "QatMode",
    "Ranges",
    "Resize",
    "Runtime",
    "Stage",
]

# -------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What the rest of edgefx needs to know of a classifier.

    Attributes:
        name: Zoo name, or the file's stem.
        source: What was loaded: a zoo name with its weights, or the path given.
        height: Input height in pixels.
        width: Input width in pixels.
        classes: Length of the output vector.
        output: Whether the output is a distribution over the classes or logits.
        pixel_range: The values that the model's own preprocessing expects; (0, 255) for Keras EfficientNets.
        parameters: Trainable and frozen parameters of the model as loaded.
        macs: Multiply-accumulates of one inference of the canonical graph (batch 1).
        sha256: Hash of the model's content (file bytes, or architecture and weights for a zoo model).
        class_names: Names by index where the model is known to carry them, else empty.
    """

    name: str
    source: str
    height: int
    width: int
    classes: int
    output: OutputKind
    parameters: int
    macs: int
    sha256: str
    pixel_range: tuple[float, float] = (0.0, 255.0)
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One layer of the canonical graph; the same name is used in every runtime's report."""

    name: str
    kind: str  # the Keras layer class, e.g. "Conv2D"
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """How a layer's outputs were spread over the training images: what its batch normalization was taught.

    Attributes:
        mean: Per channel, float64 [channels].
        deviation: Standard deviation per channel, likewise.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrozenGraph:
    """The canonical graph on disk: what every conversion starts from.

    Attributes:
        path: A TensorFlow ``GraphDef`` (binary ``.pb``) without variables. Its input is the placeholder
            ``image:0``, float32 [1, H, W, 3], raw RGB in [0, 255]; its output is ``probabilities:0`` or
            ``logits:0``, float32 [1, classes]. Operations are named ``<layer>/<op>``.
        spec: The model it came from.
        layers: The canonical layers in topological order; empty for a SavedModel without Keras layers.
        workdir: A temporary folder that lives as long as the run; runtimes keep shared intermediates there.
        spreads: For the layers that batch normalization was folded into, before the activation.
    """

    path: Path
    spec: ModelSpec
    layers: tuple[LayerInfo, ...]
    workdir: Path
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def input_name(self) -> str:
        """Name of the one graph input, without ``:0``."""
        return "image"

    @property
    def output_name(self) -> str:
        """Name of the one graph output, without ``:0``."""
        return self.spec.output.value


# --------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """One image file and its class index (None when the folder is unlabelled)."""

    path: Path
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A listing of image files; nothing is decoded yet.

    Attributes:
        root: The folder it was read from.
        items: Files in a fixed order (sorted by class, then name; or the order of labels.csv).
        class_names: Class names by index; empty when unlabelled or when labels.csv holds bare indices.
        kind: ``folders`` (sub-folder per class), ``csv`` (labels.csv) or ``flat`` (unlabelled).
    """

    root: Path
    items: tuple[ImageItem, ...]
    class_names: tuple[str, ...]
    kind: str

    @property
    def labelled(self) -> bool:
        """True when every item carries a class index."""
        return bool(self.items) and all(item.label is not None for item in self.items)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Decoded, resized images: the identical tensors that baseline and every runtime are fed.

    Attributes:
        pixels: uint8 [N, H, W, 3], raw RGB; may be a memory map.
        labels: Class index per image, or None when unlabelled.
        paths: The file each image came from.
        sha256: Hash over the files' bytes and order, the size and the resize mode.
        resize: How files became H x W.
        skipped: Files left out with ``skip_bad``, with the reason.
    """

    pixels: Pixels
    labels: NDArray[np.int64] | None
    paths: tuple[Path, ...]
    sha256: str
    resize: Resize
    skipped: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        """Number of decoded images."""
        return len(self.paths)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What the report says of an image set."""

    role: str  # "calibration", "training" or "evaluation"
    root: str
    images: int
    classes: int | None  # number of distinct labels, None when unlabelled
    sha256: str
    resize: Resize
    interpolation: str
    seed: int | None
    skipped: int
    note: str = ""


# ---------------------------------------------------------------------------------------------- artifacts


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An artifact's input or output tensor; real value = (stored - zero_point) * scale when quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # NumPy name: "float32", "uint8", "int8", "int16", "float16"
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class OpCount:
    """How many operations of one type an artifact holds, by the type of what they compute."""

    op: str
    dtype: str  # "int8", "int16", "float16", "float32", "int32", … of the op's output
    count: int


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """One file of an artifact."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """The file(s) for one target, described by reading them back.

    Attributes:
        target: The target's name, or "" when a file is described that edgefx did not just make.
        files: The main file first (``.tflite``, ``.onnx``, ``.xml``).
        inputs: Graph inputs.
        outputs: Graph outputs.
        ops: Histogram; QUANTIZE/DEQUANTIZE style conversions are included under their own names.
        compute_int8: Number of computing operations that run on integers.
        compute_float: Number of computing operations that run in floating point.
        int8_macs_share: Share of multiply-accumulates computed on INT8 weights and activations, if known.
        opset: ONNX opset, else None.
        notes: What a reader must know (for example "the first 12 blocks stay in float: faster here").
    """

    target: str
    files: tuple[ArtifactFile, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpCount, ...]
    compute_int8: int
    compute_float: int
    int8_macs_share: float | None = None
    opset: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The main file."""
        return self.files[0].path

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class QuantScheme:
    """What is asked of a conversion.

    Attributes:
        precision: The number format.
        io_dtype: Element type of the ends.
        seed: Of everything that is sampled.
        effort: How much time accuracy is worth; only INT8 has a choice.
        ranges: How activation ranges are chosen; one of those in the target's row.
        keep_float: Canonical layers that an INT8 conversion leaves in floating point.
    """

    precision: Precision
    io_dtype: IoDtype
    seed: int = 0
    effort: Effort = Effort.BALANCED
    ranges: Ranges = Ranges.AUTO
    keep_float: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class QatSettings:
    """How a model is trained for quantization.

    Attributes:
        mode: What it learns from.
        epochs: Passes over the training images at most.
        batch_size: Images per gradient.
        accumulate: Gradients summed up per step of the optimizer.
        learning_rate: Highest step of a weight, in units of its INT8 step; biases and scales follow it.
        optimizer: ``adam`` or ``sgd`` (with momentum 0.9).
        warm_up: Share of all steps in which the rate rises from zero; it falls by a cosine afterwards.
        label_smoothing: Mode supervised: share of each label spread over all classes.
        features: Mode distill: weight of the difference of the blocks' outputs, beside that of the scores.
        augment: Flip and shift images a little.
        sizes: Image heights and widths to train on, one after the other; the model's own comes last.
        tensor_float32: Let a GPU that has TensorFloat-32 multiply in it.
        validation_split: Share of the training images that chooses the best epoch, and is not trained on.
        patience: Epochs without a better one after which training stops; most is gained in the last ones,
            when the rate is low.
        seed: Of order, split and augmentation.
    """

    mode: QatMode = QatMode.DISTILL
    epochs: int = 10
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 0.002
    optimizer: str = "adam"
    warm_up: float = 0.1
    label_smoothing: float = 0.0
    features: float = 10.0
    augment: bool = True
    sizes: tuple[int, ...] = ()
    tensor_float32: bool = True
    validation_split: float = 0.15
    patience: int = 20
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationGrid:
    """The grid that an artifact rounds an activation to.

    Attributes:
        tensor: The operation of the canonical graph whose output is rounded, e.g. ``stem_conv/BiasAdd``.
        low: Real value of the lowest level: float32 [1], or [channels] with a grid per channel.
        high: Real value of the highest level, likewise.
        levels: Number of evenly spaced levels, 256 for 8 bits.
        readers: The canonical layers, or operations, that read the rounded values; None when all do.
        dynamic: Whether the ends are those of each image, widened to hold zero; `low` and `high` are empty.
        factor: What a dynamic grid's artifact multiplies the channels by before it rounds, float32
            [channels] or [1]; in the ends of other grids this is accounted for.
    """

    tensor: str
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    levels: int
    readers: frozenset[str] | None = None
    dynamic: bool = False
    factor: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredWeights:
    """What an artifact stores of a layer's weights, dequantized, in the canonical graph's layout.

    Attributes:
        layer: The canonical layer.
        kernel: float32: [height, width, in / groups, out], depthwise [height, width, in, multiplier], dense
            [in, out].
        bias: float32 [out], or None where the artifact has none.
    """

    layer: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantization:
    """What an artifact quantizes, in terms of the canonical graph.

    Attributes:
        grids: The activations that are rounded.
        weights: The layers whose weights are stored in fewer bits.
        unmatched: Quantized tensors of the artifact that have no counterpart in the canonical graph.
    """

    grids: tuple[ActivationGrid, ...]
    weights: tuple[StoredWeights, ...]
    unmatched: tuple[str, ...] = ()


class Session(Protocol):
    """An artifact opened in its runtime. Nothing runtime-specific leaks past it."""

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""

    @property
    def precision_ran(self) -> str:
        """The numeric format that the runtime executes in, e.g. "int8", "float32", "bf16"."""

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3] through the artifact; returns float32 [N, classes], dequantized."""


# Lowest and highest value of what canonical layers put out, by layer.
Spans = Mapping[str, tuple[float, float]]


class Target(Protocol):
    """One runtime's conversion: a module of ``edgefx.targets`` offers these functions."""

    def check(self) -> None:
        """Raise `errors.MissingDependencyError` when a package this runtime needs is absent."""

    def convert(
        self,
        graph: FrozenGraph,
        scheme: QuantScheme,
        calibration: ImageSet | None,
        out: Path,
        progress: Progress,
    ) -> tuple[Path, ...]:
        """Write the artifact for `scheme` as `out` (main file); return what was written, main file first."""

    def describe(self, path: Path) -> Artifact:
        """Read an artifact's inputs, outputs and operations back from its files."""

    def open(
        self, path: Path, threads: int, precision: Precision | None = None
    ) -> AbstractContextManager[Session]:
        """Open an artifact for inference with `threads` intra-op threads."""


# ------------------------------------------------------------------------------------------------ progress


class Task(Protocol):
    """A running piece of work whose length is known."""

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more of the total as done."""


class Progress(Protocol):
    """How the core tells of long work; the CLI renders it, the core never prints."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Show `label` with a bar over `total` steps, or a spinner when the total is unknown."""

    def note(self, message: str) -> None:
        """Tell the user something once, on stderr."""

    def warn(self, message: str) -> None:
        """Warn the user once, on stderr; the same text belongs in the report."""
