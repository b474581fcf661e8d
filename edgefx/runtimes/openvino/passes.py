"""What each effort does to an OpenVINO model; `quantize` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgefx.runtimes.passes import Condition, Pass
from edgefx.vocabulary import Effort, Precision

PLACE: Final = Pass("place", "Chooses the values to quantize: where it is free and pays on the hardware.")
STATISTICS: Final = Pass("statistics", "Collects the values of each activation on the calibration images.")
EQUALIZE: Final = Pass(
    "equalize",
    "Balances the channels behind squeeze-and-excitation gates, and leaves the gated products in float that "
    "would lose most.",
    without=frozenset({Condition.TRAINED, Condition.OWN_RANGES}),
)
RANGES: Final = Pass("ranges", "Chooses the range of each activation.")
MEANS: Final = Pass("means", "Measures by how much quantized activations shift what each layer reads.")
GPTQ: Final = Pass(
    "gptq",
    "Collects what rounding needs so that the errors of a layer's weights cancel (GPTQ).",
    without=frozenset({Condition.TRAINED}),
)
QUANTIZE: Final = Pass(
    "quantize", "Rounds weights, corrects biases for all shifts, and writes the operations."
)

_BALANCED = (PLACE, STATISTICS, EQUALIZE, RANGES, MEANS, GPTQ, QUANTIZE)
PASSES: Final[Mapping[Precision, Mapping[Effort, tuple[Pass, ...]]]] = {
    Precision.INT8: {
        Effort.FAST: (PLACE, STATISTICS, RANGES, MEANS, QUANTIZE),
        Effort.BALANCED: _BALANCED,
        Effort.HIGH: _BALANCED,
    }
}
