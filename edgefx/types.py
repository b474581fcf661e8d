"""The typed objects that all rooms share.

Frozen dataclasses and enums only; nothing here imports more than the standard library, so that every
command may import it. Units are part of the names: ``_ms`` milliseconds, ``_mb`` 10^6 bytes,
``_pp`` percentage points, ``_s`` seconds. Shares and accuracies without a unit are fractions in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.vocabulary import (
    SPARSE,
    Effort,
    Ending,
    IoDtype,
    ModelTask,
    OutputKind,
    Precision,
    QatMode,
    Ranges,
    Resize,
    Runtime,
    ScoreFunction,
    StageKind,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]  # [N, H, W, 3], raw RGB
    Scores = NDArray[np.float32]  # [N, classes]: probabilities, or logits where the model ends in logits


__all__ = [  # of the vocabulary: re-exported
    "SPARSE",
    "Effort",
    "Ending",
    "IoDtype",
    "ModelTask",
    "OutputKind",
    "Precision",
    "QatMode",
    "Ranges",
    "Resize",
    "Runtime",
    "StageKind",
]

# -------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One of several outputs of a model.

    Attributes:
        name: As the model calls it; an artifact's output is called so, too.
        shape: Without the batch.
        task: What it answers.
        output: What its values are.
        threshold: See `ModelSpec.threshold`.
    """

    name: str
    shape: tuple[int, ...]
    task: ModelTask
    output: OutputKind
    threshold: float = 0.5

    @property
    def columns(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def truths(self) -> int:
        """How many numbers say what is right for an image: its class, or what each value should be."""
        if self.task.classifies or self.task.is_embedding:
            return 1
        return 0 if self.task is ModelTask.FEATURES else self.columns

    @property
    def classes(self) -> int:
        """Number of classes; of values where there are none. See `ModelSpec.classes`."""
        return 2 if self.task is ModelTask.BINARY else self.columns


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What the rest of edgefx needs to know of a model.

    A model with several outputs is described by its first one, which is the first that chooses a class where
    one does; all of them are in `outputs`. Its scores are a row per image as well: the values of all outputs,
    one output after the other (`parts`).

    Attributes:
        name: Zoo name, or the file's stem.
        source: What was loaded: a zoo name with its weights, or the path given.
        height: Input height in pixels.
        width: Input width in pixels.
        classes: Number of classes; where the model has none, number of values in its output.
        output: Whether the output is a distribution over the classes, logits, or values.
        pixel_range: The values that the model's own preprocessing expects; (0, 255) for Keras EfficientNets.
        parameters: Trainable and frozen parameters of the model as loaded.
        macs: Multiply-accumulates of one inference of the canonical graph (batch 1).
        sha256: Hash of the model's content (file bytes, or architecture and weights for a zoo model).
        class_names: Names by index, of the model or of the labelled images; empty where unknown.
        task: What the model answers.
        threshold: Of tasks whose scores stand alone: the probability above which one counts as a yes.
        outputs: All outputs, in the order of the scores, where there are several; else empty.
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
    task: ModelTask = ModelTask.CLASSIFICATION
    threshold: float = 0.5
    outputs: tuple[OutputSpec, ...] = field(default=(), metadata=SPARSE)

    @property
    def columns(self) -> int:
        """How many scores an image has."""
        return sum(one.columns for one in self.outputs) or self.classes

    @property
    def parts(self) -> tuple[tuple[OutputSpec, slice], ...]:
        """The outputs, each with its columns of the scores; none where there is one output."""
        ends = list(accumulate(one.columns for one in self.outputs))
        return tuple(
            (one, slice(end - one.columns, end)) for one, end in zip(self.outputs, ends, strict=True)
        )

    @property
    def first(self) -> OutputSpec | None:
        """The one of several outputs that the model is described by; None where there is one output."""
        return self.first_of(self.outputs) if self.outputs else None

    @staticmethod
    def first_of(outputs: Sequence[OutputSpec]) -> OutputSpec:
        """Return the output that a model is described by: the first that chooses a class, if one does."""
        return next((one for one in outputs if one.task.classifies), outputs[0])


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
        deviation: Standard deviation per channel, float64 [channels].
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrozenGraph:
    """The canonical graph on disk: what every conversion starts from.

    Attributes:
        path: A TensorFlow ``GraphDef`` (binary ``.pb``) without variables. Its input is the placeholder
            ``image:0``, float32 [1, H, W, 3], raw RGB in [0, 255]; its output is ``probabilities:0``,
            ``logits:0`` or ``values:0``, float32 [1, classes], and several are called as the model does.
            Operations are named ``<layer>/<op>``.
        spec: The model it came from.
        layers: The canonical layers in topological order; empty for a SavedModel without Keras layers.
        workdir: A temporary folder of this graph alone, which lives as long as the run. What several targets
            start from is made there by the first that needs it (``float32.tflite``, ``float32.onnx``,
            ``openvino-float32.xml``): it follows from the graph, so that it belongs to no request.
        spreads: For the layers that batch normalization was folded into, before the activation.
        left_off: The sigmoid or softmax that the model ends in and the graph does not; then `spec` says that
            it ends in logits, and its output is called ``sigmoid_logits:0`` or ``softmax_logits:0``.
    """

    path: Path
    spec: ModelSpec
    layers: tuple[LayerInfo, ...]
    workdir: Path
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    left_off: ScoreFunction | None = None

    @property
    def input_name(self) -> str:
        """Name of the one graph input, without ``:0``."""
        return "image"

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, without ``:0``; mostly there is one."""
        if self.spec.outputs:
            return tuple(one.name for one in self.spec.outputs)
        return (self.left_off.output_name if self.left_off is not None else self.spec.output.value,)

    @property
    def first_output_name(self) -> str:
        """The name of the output that the model is described by."""
        first = self.spec.first
        return first.name if first is not None else self.output_names[0]

    @property
    def output_kinds(self) -> tuple[OutputKind, ...]:
        """What each of them is."""
        return tuple(one.output for one in self.spec.outputs) or (self.spec.output,)


# --------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """One image file and what is right for it.

    Attributes:
        path: The file.
        label: Its class index; None when the folder is unlabelled, or the model has no classes.
        values: What is right in a regression, or 1 for each label that it has and 0 for the others.
    """

    path: Path
    label: int | None
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A listing of image files; nothing is decoded yet.

    Attributes:
        root: The folder it was read from.
        items: Files in a fixed order (sorted by class, then name; or the order of labels.csv).
        class_names: Class names by index; empty when unlabelled or when labels.csv holds bare indices.
        kind: ``folders`` (sub-folder per class), ``csv`` (labels.csv) or ``flat`` (unlabelled).
        columns: Of a labels.csv without the column ``label``: those for the outputs of a model, by their
            names, which `labels.fit` reads.
    """

    root: Path
    items: tuple[ImageItem, ...]
    class_names: tuple[str, ...]
    kind: str
    columns: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """True when every item carries a class index."""
        return bool(self.items) and all(item.label is not None for item in self.items)

    @property
    def known(self) -> bool:
        """True when something is known to be right for every item: its class, or its values."""
        return self.labelled or (
            bool(self.items) and (bool(self.columns) or all(item.values for item in self.items))
        )


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Decoded, resized images: the identical tensors that baseline and every runtime are fed.

    Attributes:
        pixels: uint8 [N, H, W, 3], raw RGB; may be a memory map.
        labels: Class index per image, or None when unlabelled.
        values: What is right in a regression, or 0 and 1 for each label, float32 [N, values]; else None.
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
    values: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of decoded images."""
        return len(self.paths)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What the report says of an image set.

    Attributes:
        role: "calibration", "training" or "evaluation".
        root: The folder.
        images: Number of images that were used.
        classes: Number of distinct labels; None when unlabelled.
        sha256: Hash over files, labels, size and resize mode.
        resize: How images became the model's input.
        interpolation: How pixels were interpolated.
        seed: The seed with which images are sampled; None where none is.
        skipped: Number of corrupt images that were left out.
        note: How the images were chosen.
    """

    role: str
    root: str
    images: int
    classes: int | None
    sha256: str
    resize: Resize
    interpolation: str
    seed: int | None
    skipped: int
    note: str = ""


# ---------------------------------------------------------------------------------------------- artifacts


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An artifact's input or output tensor.

    Attributes:
        name: The tensor's name.
        shape: The lengths of its axes.
        dtype: NumPy's name: "float32", "uint8", "int8", "int16", "float16".
        scale: When quantized, real value = (stored - zero_point) * scale; else None.
        zero_point: The stored value that stands for 0; None when not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class OpCount:
    """How many operations of one type an artifact holds, by the type of what they compute.

    Attributes:
        op: The operation's name in the runtime's format.
        dtype: The type of its output: "int8", "int16", "float16", "float32", "int32", …
        count: Number of such operations.
    """

    op: str
    dtype: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """One file of an artifact.

    Attributes:
        path: Where it is; in a report relative to the report's folder.
        size_bytes: Its size.
        sha256: Hash of its bytes.
    """

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
class OutputMetadata:
    """What an artifact says of one of several outputs; see `ArtifactMetadata`.

    Attributes:
        tensor: The output, called as the model calls it.
        output_kind: What a value of it is, one of `OutputKind`.
        task: What it answers, one of `ModelTask`.
    """

    tensor: TensorInfo
    output_kind: str
    task: str


@dataclass(frozen=True, kw_only=True)
class ArtifactMetadata:
    """What an artifact says of itself: how its input is made of an image, and what its output means.

    Words are plain text, so that a file of a later version, with a word that this one does not know, can be
    read.

    Attributes:
        edgefx: Version of edgefx that made the artifact.
        target: The target that it was made for.
        model: Name of the model.
        model_sha256: Hash of the model's content, as `ModelSpec.sha256`.
        input: The image, [1, height, width, 3]; quantized, its real values are the pixels.
        color: Order of the input's last axis: "RGB".
        pixel_range: The values of a pixel, low then high.
        resize: How an image of any shape was made height x width where the artifact was calibrated or
            measured, one of `Resize`; "" where it was neither.
        output: The scores, [1, classes].
        output_kind: What a value of the output is, one of `OutputKind`. Logits that the model makes scores of
            itself are in an output called after the function that the artifact leaves off (`ScoreFunction`).
        class_names: By index, each one line of at most 200 characters; empty where unknown.
        task: What the model answers, one of `ModelTask`.
        outputs: All outputs, where there are several; `output` is the one that the class names belong to.
    """

    edgefx: str
    target: str
    model: str
    model_sha256: str
    input: TensorInfo
    output: TensorInfo
    output_kind: str
    color: str = "RGB"
    pixel_range: tuple[float, float] = (0.0, 255.0)
    resize: str = ""
    class_names: tuple[str, ...] = ()
    task: str = ModelTask.CLASSIFICATION.value
    outputs: tuple[OutputMetadata, ...] = field(default=(), metadata=SPARSE)


@dataclass(frozen=True, kw_only=True)
class ForeignMetadata:
    """What an artifact of other origin says of itself, in its format's own fields.

    Attributes:
        class_names: By index, each one line of at most 200 characters; empty where it names none.
        mean: What is taken off raw pixels, one number or one per channel; empty where it says nothing.
        deviation: What they are divided by then.
    """

    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
