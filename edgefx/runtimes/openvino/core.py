"""OpenVINO's entry point, opened once."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def core() -> Any:
    """Return the one ``openvino.Core`` of this process, which lives as long as the process does.

    Each Core that loads the CPU plugin gives this thread a stack of its own for signal handlers, and puts
    back what it found when it goes. Where two overlap and the older goes first, what the younger puts back
    is memory that is no longer there, and the next signal (Ctrl-C, SIGTERM) is a segmentation fault
    (OpenVINO 2026.4 on Linux; what `sigaltstack` tells shows it).
    """
    import openvino as ov

    return ov.Core()
