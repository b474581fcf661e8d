"""What OpenVINO makes of an INT8 model on classes of CPU that it has few or no INT8 kernels for.

Seen in OpenVINO 2026.4 on emulated Arm CPUs (``python -m tests.benchmarks emulated``) with INT8 models of
edgefx: convolutions that cannot run in INT8 there run in float16, also where float32 is asked for, and a CPU
without float16 arithmetic cannot open the model at all ("object is not initialized").
"""

from __future__ import annotations

from edgefx.vocabulary import Hardware

_INSTEAD = "tflite-int8 and onnx-int8 run in INT8 there, openvino-float32 in float32"


def caveat(hardware: Hardware) -> str | None:
    """Say what a user should know who compiles for a class of hardware."""
    match hardware:
        case Hardware.ARM:
            return (
                "openvino-int8: OpenVINO cannot open it on Arm CPUs without float16 arithmetic (Cortex-A53, "
                f"Cortex-A72); {_INSTEAD}"
            )
        case Hardware.ARM_DOTPROD | Hardware.ARM_I8MM:
            return (
                "openvino-int8: OpenVINO runs it in float16 on Arm, so that it is smaller, not faster; "
                "tflite-int8 and onnx-int8 run in INT8 there"
            )
        case _:
            return None


def hint(hardware: Hardware) -> str:
    """Return what to try where OpenVINO refuses a model.

    Args:
        hardware: The class of the CPU that it was to run on.
    """
    if hardware is Hardware.ARM:
        return f"if it is an INT8 model, this CPU lacks the float16 arithmetic it needs on Arm; {_INSTEAD}"
    return "convert it again, or run: edgefx inspect"
