"""A process that has used OpenVINO still ends as it is told to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgefx.quantization import QuantScheme
from edgefx.runtimes.openvino.runtime import RUNTIME
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.types import FrozenGraph, IoDtype, Precision

from .conftest import NATIVE, RecordedProgress

_SESSIONS = """
import gc, signal, sys
from contextlib import ExitStack
from pathlib import Path
from edgefx.runtimes.openvino.runtime import RUNTIME

older, younger = ExitStack(), ExitStack()
for session in (older, younger):
    session.enter_context(RUNTIME.open_session(Path(sys.argv[1]), threads=1))
for session in (older, younger):
    session.close()
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heeded", flush=True))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sessions_that_overlapped_leave_signals_alone(tiny_graph: FrozenGraph, tmp_path: Path) -> None:
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    request = ConversionRequest(graph=tiny_graph, scheme=scheme)
    path = RUNTIME.convert(request, tmp_path / "tiny.xml", RecordedProgress())[0]
    ended = subprocess.run(
        [sys.executable, "-c", _SESSIONS, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "heeded\n"), ended.stderr
