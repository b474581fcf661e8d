"""What is asked of a quantization, and what an artifact holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgefx.hardware import HardwareProfile
from edgefx.vocabulary import Effort, Ending, Hardware, IoDtype, Precision, QatMode, Ranges

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_VALUES = 128  # of weights that are indices: as many as one of 7 bits tells apart
SMALL = 2048  # weights; a layer with fewer keeps them as they are: no file is smaller by them
CHANNEL_MULTIPLE = 16  # of channels: an Ethos-U computes so many at once, and CPUs divisors of it


@dataclass(frozen=True, kw_only=True)
class WeightCompression:
    """What is asked of a model's weights so that they take less room; by default nothing.

    Attributes:
        values: How many distinct values a layer's INT8 weights, or those of each of its channels, may have.
        saved: The share of the file that lookup tables are to save, instead: each layer has as few values as
            that takes, and as it bears.
        zeros: The share of the INT8 weights that are made zero.
        two_of_four: Whether of any four neighbours two are made zero, instead of a share.
        channels: The share of all weights that goes with expansion channels that are removed, before anything
            is quantized.
        multiple: What the number of channels that are left is a multiple of.
    """

    values: int | None = None
    saved: float = 0.0
    zeros: float = 0.0
    two_of_four: bool = False
    channels: float = 0.0
    multiple: int = CHANNEL_MULTIPLE

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.clusters or self.prunes or self.narrows

    @property
    def clusters(self) -> bool:
        """Whether INT8 weights have few values."""
        return self.values is not None or self.saved > 0

    @property
    def prunes(self) -> bool:
        """Whether INT8 weights are made zero."""
        return self.zeros > 0 or self.two_of_four

    @property
    def narrows(self) -> bool:
        """Whether channels are removed."""
        return self.channels > 0

    @property
    def of_graph(self) -> WeightCompression:
        """What of it changes the graph, and so any target."""
        return WeightCompression(channels=self.channels, multiple=self.multiple)

    @property
    def of_integers(self) -> WeightCompression:
        """What of it changes INT8 weights."""
        return replace(self, channels=0.0, multiple=CHANNEL_MULTIPLE)

    def with_pruning(self, other: WeightCompression) -> WeightCompression:
        """Return it with all that another one says of zeros and channels."""
        return replace(other, values=self.values, saved=self.saved)

    def __str__(self) -> str:
        """Say it as the options of the command line do."""
        few = f"{100 * self.saved:.15g}%" if self.saved else self.values
        cluster = (f"--cluster {few}",) if self.clusters else ()
        zeros = "2:4" if self.two_of_four else f"{self.zeros:.15g}" if self.zeros else ""
        channels = f"channels:{100 * self.channels:.15g}%" if self.narrows else ""
        if self.multiple != CHANNEL_MULTIPLE:
            channels += f"/{self.multiple}"
        prune = (f"--prune {zeros or channels}",) if zeros or channels else ()
        return " ".join((*cluster, *prune))


UNCOMPRESSED = WeightCompression()


@dataclass(frozen=True, kw_only=True)
class QuantScheme:
    """What is asked of a conversion.

    Attributes:
        precision: The number format.
        io_dtype: Element type of the input, and of the output unless that has another.
        output_dtype: Element type of the output, where it is another; else None.
        outputs: Those of several outputs whose element type is said by name, each with it.
        seed: Seed of everything that is sampled.
        effort: How much time accuracy is worth; only INT8 has a choice.
        ranges: How activation ranges are chosen; one of those in the target's row.
        keep_float: Canonical layers that an INT8 conversion leaves in floating point.
        hardware: The class of CPU that the artifact is laid out for.
        profile: What was measured of that class, or of the very device; None for what is known of classes.
        integer_only: Whether nothing may be computed in float but conversions at the ends.
        ends: What the artifact ends in.
        compression: What is asked of INT8 weights beyond 8 bits; only fully integer TFLite has a choice.
    """

    precision: Precision
    io_dtype: IoDtype
    seed: int = 0
    effort: Effort = Effort.BALANCED
    ranges: Ranges = Ranges.AUTO
    keep_float: frozenset[str] = frozenset()
    hardware: Hardware = Hardware.OTHER
    profile: HardwareProfile | None = None
    integer_only: bool = False
    ends: Ending = Ending.SCORES
    compression: WeightCompression = UNCOMPRESSED
    output_dtype: IoDtype | None = None
    outputs: tuple[tuple[str, IoDtype], ...] = ()

    @property
    def io_dtypes(self) -> tuple[IoDtype, ...]:
        """All element types that are asked for: of the input, of outputs, and of those with their own."""
        return self.io_dtype, self.output_dtype or self.io_dtype, *dict(self.outputs).values()

    def output_dtypes(self, names: Sequence[str]) -> tuple[IoDtype, ...]:
        """Return the element type of each output."""
        own = dict(self.outputs)
        return tuple(own.get(name, self.output_dtype or self.io_dtype) for name in names)

    def float_sigmoids(self, names: Sequence[str]) -> tuple[bool, ...]:
        """Return of each output whether TFLite computes a sigmoid that it ends in as float.

        In 8 bits it has steps of 1/256, in which scores near 0 and 1 are all alike.
        """
        return tuple(
            dtype is IoDtype.FLOAT32 and not self.integer_only for dtype in self.output_dtypes(names)
        )


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
        seed: Seed of the images' order, split and augmentation.
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
class QuantParams:
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
class QuantizedWeights:
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

    grids: tuple[QuantParams, ...]
    weights: tuple[QuantizedWeights, ...]
    unmatched: tuple[str, ...] = ()


# Lowest and highest value of what canonical layers put out, by layer.
ActivationRanges = Mapping[str, tuple[float, float]]
