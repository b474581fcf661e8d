"""What was measured of a device: which forms of convolution take less time in INT8 than in float.

A form is a convolution as a runtime's speed sees it: its sizes, and what stands around it. What its time is
compared by was measured in the surroundings that it has in a network, with the conversions that INT8 takes
there; so a form pays where the quotient of the two times is below 1, and nothing else has to be known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from edgefx.vocabulary import Hardware, Runtime

_LEAST_GAIN = 0.02  # of the time of a form and its surroundings: below, chance decides
_CHANCE_US = 1.0  # by which a time may be too short; of small forms, which take 20, that is more
_NEIGHBOURS = 4  # measured forms that one is judged by which was not measured


class Role(StrEnum):
    """What stands around a convolution, as far as it decides what INT8 costs."""

    SWISH = "swish"  # dense, with a swish behind it
    GATED = "gated"  # dense, behind the product with a squeeze-and-excitation gate
    PLAIN = "plain"  # dense, with neither
    DEPTHWISE = "depthwise"  # each channel has filters of its own
    CONVERSION = "conversion"  # no convolution: a map that becomes integers and float again


@dataclass(frozen=True, kw_only=True, order=True)
class Form:
    """A convolution as its speed sees it.

    Attributes:
        role: What stands around it.
        kernel: Height and width of its filters.
        stride: Rows and columns from one position to the next.
        inputs: Channels that it reads.
        outputs: Channels that it makes.
        height: Rows of the map that it reads.
        width: Columns of that map.
    """

    role: Role
    kernel: int
    stride: int
    inputs: int
    outputs: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        """Positions of the map that it makes."""
        return math.ceil(self.height / self.stride) * math.ceil(self.width / self.stride)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        if self.role is Role.CONVERSION:
            return 0
        read = 1 if self.role is Role.DEPTHWISE else self.inputs
        return self.positions * self.outputs * read * self.kernel**2

    @property
    def values(self) -> int:
        """Values that it reads and makes."""
        return self.height * self.width * self.inputs + self.positions * self.outputs

    def __str__(self) -> str:
        """Return it in words: ``1x1 swish 16 -> 96, 112 x 112``."""
        kernel = f"{self.kernel}x{self.kernel}" + (f"/{self.stride}" if self.stride > 1 else "")
        return f"{kernel} {self.role} {self.inputs} -> {self.outputs}, {self.height} x {self.width}"

    def distance(self, other: Form) -> float:
        """Return how much another form differs, in doublings."""
        return (
            abs(math.log2(self.inputs / other.inputs))
            + abs(math.log2(self.outputs / other.outputs))
            + abs(math.log2(self.positions / other.positions))
            + 2 * abs(math.log2(self.kernel / other.kernel))
            + abs(math.log2(self.stride / other.stride))
        )


@dataclass(frozen=True, kw_only=True, order=True)
class FormTime:
    """What a form and its surroundings take on a device.

    Attributes:
        form: The form.
        threads: Intra-op threads.
        float_us: Time with all of it in float, in microseconds.
        int8_us: Time with the form in INT8, with the conversions before and behind it.
    """

    form: Form
    threads: int
    float_us: float
    int8_us: float

    @property
    def ratio(self) -> float:
        """INT8 over float; below 1 INT8 is faster."""
        return self.int8_us / self.float_us


@dataclass(frozen=True, kw_only=True)
class RuntimeProfile:
    """What was measured of one runtime.

    Attributes:
        package: Its distribution and version, such as "onnxruntime 1.31.1".
        times: One for each form and number of threads.
    """

    package: str
    times: tuple[FormTime, ...]

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads that were measured."""
        return tuple(sorted({time.threads for time in self.times}))

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms that were measured, in the order of the file."""
        return tuple(dict.fromkeys(time.form for time in self.times))

    @cached_property
    def _ratios(self) -> Mapping[Form, float]:
        float_us, int8_us = defaultdict[Form, float](float), defaultdict[Form, float](float)
        for time in self.times:
            float_us[time.form] += time.float_us
            int8_us[time.form] += time.int8_us + _CHANCE_US
        return {form: int8_us[form] / float_us[form] for form in float_us}

    def ratio(self, form: Form) -> float:
        """Return INT8 over float for a form: the times at all numbers of threads, and what chance there is.

        Where it was not measured, those that are nearest to it decide: the mean of the logarithms of four of
        them, weighted by the inverse cube of their distance; of the same role, if there are any.
        """
        return self._ratios[form] if form in self._ratios else _estimated(form, self._ratios)

    def pays(self, form: Form) -> bool:
        """Whether a form is faster in INT8."""
        return self.ratio(form) < 1 - _LEAST_GAIN


def _estimated(form: Form, measured: Mapping[Form, float]) -> float:
    dense = {one: ratio for one, ratio in measured.items() if one.role not in _NO_DENSE}
    same = {one: ratio for one, ratio in measured.items() if one.role is form.role}
    known = same or dense
    if not known:
        return math.inf
    nearest = sorted((form.distance(one), one) for one in known)[:_NEIGHBOURS]
    weights = [1 / max(distance, 1e-3) ** 3 for distance, _ in nearest]
    logs = [math.log(known[one]) for _, one in nearest]
    return math.exp(sum(map(float.__mul__, weights, logs)) / sum(weights))


_NO_DENSE = (Role.DEPTHWISE, Role.CONVERSION)


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """What was measured of a device.

    Attributes:
        hardware: The class of its CPU.
        cpu: What its CPU is called.
        cores: Cores that were there.
        measured: The day, as ``2026-11-28``.
        edgefx: The version that measured it.
        onnx: Of ONNX Runtime; None where it was not measured.
        openvino: Of OpenVINO; None where it was not measured.
    """

    hardware: Hardware
    cpu: str
    cores: int
    measured: str
    edgefx: str
    onnx: RuntimeProfile | None = None
    openvino: RuntimeProfile | None = None

    def of(self, runtime: Runtime) -> RuntimeProfile | None:
        """Return what was measured of a runtime; None where nothing was."""
        return {Runtime.ONNX: self.onnx, Runtime.OPENVINO: self.openvino}.get(runtime)

    @property
    def runtimes(self) -> Sequence[tuple[Runtime, RuntimeProfile]]:
        """The runtimes that were measured."""
        return [(runtime, found) for runtime in Runtime if (found := self.of(runtime)) is not None]
