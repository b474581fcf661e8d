"""What is asked of a run, as far as rules look at it, and what they find (`edgefx.recipe.rules`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgefx.errors import UsageError
from edgefx.models.zoo import brings_images
from edgefx.quantization import UNCOMPRESSED, WeightCompression
from edgefx.targets import TargetRow
from edgefx.units import parse_io_dtypes
from edgefx.verdicts import Gate
from edgefx.vocabulary import Ending, IoDtype, Ranges


@dataclass(frozen=True, kw_only=True)
class TargetRequest:
    """What is asked of one target.

    Attributes:
        row: The target.
        io_dtype: Element types of its input and output, as `units.parse_io_dtypes` reads them; None leaves
            them to the target.
        ends: What it ends in.
        ranges: How its activation ranges are chosen.
        keeps_float: Whether layers are named to be left in float.
        integer_only: Whether it must not compute in float.
        compression: Those of the keys that ask for few or zero weights that are set.
        channels: The part of its compression that removes channels; empty without.
        limits: Those keys of `LIMITED` that are set.
        npu_options: Those keys of the section ``npu`` that are set.
    """

    row: TargetRow
    io_dtype: str | None = None
    ends: str = Ending.SCORES
    ranges: str = Ranges.AUTO
    keeps_float: bool = False
    integer_only: bool = False
    compression: tuple[str, ...] = ()
    channels: WeightCompression = UNCOMPRESSED
    limits: tuple[str, ...] = ()
    npu_options: tuple[str, ...] = ()

    @property
    def io_dtypes(self) -> tuple[IoDtype, ...]:
        """The types that are asked for, each once; none where what is said cannot be read."""
        try:
            said = parse_io_dtypes(self.io_dtype) if self.io_dtype is not None else {}
        except UsageError:
            return ()
        return tuple(dict.fromkeys(said.values()))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a run, as far as rules look at it.

    Attributes:
        model: Zoo name or path; "" where it is not known, and what depends on it is not judged.
        targets: In table order.
        method: "ptq", "qat" or "none".
        mode: What training learns from.
        trains: Whether there are training images.
        smooths: Whether labels are smoothed.
        calibrates: Whether there are calibration images.
        samples: Whether it is said how many of them to use.
        evaluates: Whether accuracy is to be measured.
        evaluation: Whether there are images to measure it on.
        benchmarks: Whether latency is to be measured.
        prices: Whether it is said what an hour of this machine costs.
        for_zoo: Which keys are given that only a model of the zoo has.
        explains: Whether to show what answers rest on.
        scaling: The coefficients that the model is scaled by, beside its name.
        input_size: The size of its images that is given.
        devices: Where latency is to be measured; none for this machine alone.
        device_gates: Limits on what is measured there, by the device or ``TARGETS@DEVICE``.
    """

    model: str
    targets: tuple[TargetRequest, ...]
    method: str = "ptq"
    mode: str = "distill"
    trains: bool = False
    smooths: bool = False
    calibrates: bool = False
    samples: bool = False
    evaluates: bool = True
    evaluation: bool = False
    benchmarks: bool = True
    prices: bool = False
    for_zoo: tuple[str, ...] = ()
    explains: bool = False
    scaling: Mapping[str, float] = field(default_factory=dict)
    input_size: int | str | None = None
    devices: tuple[str, ...] = ()
    device_gates: Mapping[str, Sequence[Gate]] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        """Whether INT8 targets are trained."""
        return self.method == "qat"

    @property
    def has_calibration(self) -> bool:
        """Whether there are images that set ranges: given, the model's own, or those of training."""
        return self.calibrates or brings_images(self.model) or (self.is_trained and self.trains)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What does not go together.

    Attributes:
        message: What, without a final full stop; keys in braces, ``{target}`` for the target.
        key: The recipe's key at fault.
        hint: What to do; keys in braces.
        target: For which target, where it is not the same for all.
        at_key: Whether the key should not be there, whatever its value.
        item: The key inside it that is meant, where its value is a mapping.
    """

    message: str
    key: str
    hint: str
    target: str = ""
    at_key: bool = False
    item: str = ""
