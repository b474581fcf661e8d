"""What each effort does to an ``.onnx``; `quantize` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgefx.runtimes.passes import Condition, Pass
from edgefx.vocabulary import Effort, Precision

PLACE: Final = Pass("place", "Chooses the convolutions that are faster in INT8 than in float.")
EQUALIZE: Final = Pass(
    "equalize",
    "Balances the channels behind squeeze-and-excitation gates, and measures what INT8 costs each "
    "convolution.",
    without=frozenset({Condition.TRAINED}),
)
# Below which SQNR (dB) of its own output a convolution computes in float, and at most for which share of the
# planned multiply-accumulates. Sound layers have 30 dB and more; one at 25 dB errs by a twentieth.
SPARED: Final[Mapping[Effort, tuple[float, float]]] = {  # tuned: ablations onnx.passes.SPARED
    Effort.BALANCED: (25.0, 0.1),
    Effort.HIGH: (30.0, 0.25),
}
SPARE: Final = {
    effort: Pass(
        "spare",
        f"Leaves the convolutions in float that would fall below {limit_db:.0f} dB, for at most "
        f"{most:.0%} of the work.",
        without=frozenset({Condition.TRAINED}),
    )
    for effort, (limit_db, most) in SPARED.items()
}
GATES: Final = Pass(
    "gates", "Takes the ranges of the inputs behind gates from the image at hand, at run time."
)
RANGES: Final = Pass("ranges", "Finds the range of each other activation on the calibration images.")
CHANNELS: Final = Pass(
    "channels",
    "Gives the channels in front of a swish ranges of their own.",
    without=frozenset({Condition.TRAINED, Condition.OWN_RANGES}),
)
GPTQ: Final = Pass(
    "gptq",
    "Rounds the weights of each layer so that their errors cancel (GPTQ).",
    without=frozenset({Condition.TRAINED}),
)
BIAS: Final = Pass(
    "bias",
    "In networks of ReLUs, moves biases by what rounding shifts the mean of each channel.",
    without=frozenset({Condition.TRAINED}),
)
QUANTIZE: Final = Pass("quantize", "Writes quantize and dequantize operations around what was chosen.")

_FOUND: Final = (GATES, RANGES, CHANNELS)
PASSES: Final[Mapping[Precision, Mapping[Effort, tuple[Pass, ...]]]] = {
    Precision.INT8: {
        Effort.FAST: (PLACE, *_FOUND, BIAS, QUANTIZE),
        Effort.BALANCED: (PLACE, EQUALIZE, SPARE[Effort.BALANCED], *_FOUND, GPTQ, BIAS, QUANTIZE),
        Effort.HIGH: (PLACE, EQUALIZE, SPARE[Effort.HIGH], *_FOUND, GPTQ, BIAS, QUANTIZE),
    }
}
