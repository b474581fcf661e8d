"""Which convolutions ONNX Runtime gains from INT8, by class of hardware.

``python -m tests.benchmarks onnx_forms`` measures the candidates on a machine; its verdict belongs into
`INTENSITY`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgefx.quantization import QuantScheme
from edgefx.runtimes.hardware import ASSUMED, MEASURED
from edgefx.vocabulary import Hardware

# Multiply-accumulates per value read or written from which INT8 pays for its conversions: below, the maps are
# large, the channels few, and quantizing, transposing and dequantizing cost more than is saved. Measured on
# an AMD EPYC with AVX-512 VNNI and on an Intel Xeon with AMX.
# tuned: ablations onnx.profile.INTENSITY
INTENSITY: Mapping[Hardware, float] = {Hardware.X86_AMX: 30.0, Hardware.X86_VNNI: 30.0}


def intensity(hardware: Hardware) -> float:
    """Return the threshold for a class of hardware, that of another one where it was not measured."""
    return INTENSITY.get(hardware, INTENSITY[ASSUMED])


def caveat(scheme: QuantScheme) -> str | None:
    """Say what a user should know where nothing was measured."""
    if scheme.hardware in MEASURED or (scheme.profile is not None and scheme.profile.onnx is not None):
        return None
    return (
        f"onnx-int8: which convolutions are faster in INT8 was measured on {ASSUMED}, not on "
        f"{scheme.hardware}: compare the latency with onnx-float32, or measure the device: edgefx device "
        "profile"
    )
