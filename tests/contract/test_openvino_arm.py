"""OpenVINO on Arm CPUs: who compiles for one is told what it makes of INT8 there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefx.errors import ArtifactError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.openvino import profile
from edgefx.runtimes.openvino.runtime import RUNTIME
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.system import cpu
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision
from edgefx.vocabulary import Hardware

from .conftest import RecordedProgress


class Noted(RecordedProgress):
    """A progress that keeps notes."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("hardware", [Hardware.ARM, Hardware.ARM_I8MM])
def test_who_compiles_for_arm_is_told(
    hardware: Hardware, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    progress = Noted()
    scheme = QuantScheme(
        precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, hardware=hardware, effort=Effort.FAST
    )
    request = ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration)
    RUNTIME.convert(request, tmp_path / "digits.xml", progress)
    assert profile.caveat(hardware) in progress.notes


def test_a_refusal_names_what_runs_there_instead(
    tiny_graph: FrozenGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any refusal: OpenVINO refuses more streams than it knows how to count."""
    scheme = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    path, *_ = RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme), tmp_path / "digits.xml", RecordedProgress()
    )
    monkeypatch.setattr(cpu, "detect", lambda: Hardware.ARM)
    with (
        pytest.raises(ArtifactError, match="OpenVINO refuses") as caught,
        RUNTIME.open_session(path, threads=-5),
    ):
        pass
    assert "tflite-int8" in caught.value.hint
