"""What each effort does to a ``.tflite``; `quantize` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgefx.runtimes.passes import Condition, Pass
from edgefx.vocabulary import Effort, Precision

RANGES: Final = Pass(
    "ranges",
    "Finds each activation's range on the calibration images; auto weighs an error by what the next layer "
    "makes of it.",
)
EQUALIZE: Final = Pass(
    "equalize",
    "Gives the channels of the noisiest swishes and gates scales of their own, and finds the ranges again.",
)
QUANTIZE: Final = Pass("quantize", "Rounds weights per channel, and writes integer operations.")
GPTQ: Final = Pass("gptq", "Rounds the weights of each layer again so that their errors cancel (GPTQ).")
BIAS: Final = Pass(
    "bias", "Corrects the biases for the mean error of each layer, as the integer kernels compute it."
)
RECONSTRUCT: Final = Pass(
    "reconstruct",
    "Optimizes weights, biases and scales together until the scores are those of the float model.",
    # The training behind it imitates fully integer artifacts only, and moves weights off their values.
    without=frozenset({Condition.KEPT_FLOAT, Condition.COMPRESSED}),
)

_BALANCED = (RANGES, EQUALIZE, QUANTIZE, GPTQ, BIAS)
_INT8: Final[Mapping[Effort, tuple[Pass, ...]]] = {
    Effort.FAST: (RANGES, QUANTIZE),
    Effort.BALANCED: _BALANCED,
    Effort.HIGH: (*_BALANCED, RECONSTRUCT),
}
_INT16X8: Final[Mapping[Effort, tuple[Pass, ...]]] = dict.fromkeys(Effort, (RANGES, QUANTIZE))
PASSES: Final[Mapping[Precision, Mapping[Effort, tuple[Pass, ...]]]] = {
    Precision.INT8: _INT8,
    Precision.INT16X8: _INT16X8,
}
