"""The programs that the pages show, run on artifacts that edgefx has just made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import Finished

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "docs" / "how-to" / "programs"
SEVEN = ROOT / "calibration" / "digits" / "val" / "7" / "000.png"


def _answer(*command: str | os.PathLike[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("program", "artifact"),
    [
        ("classify_tflite.py", "digits-int8.tflite"),
        ("classify_tflite.py", "digits-float16.tflite"),
        ("classify_onnx.py", "digits-int8.onnx"),
        ("classify_openvino.py", "digits-int8.xml"),
    ],
)
def test_python(everything: tuple[Finished, Path], program: str, artifact: str) -> None:
    answer = _answer(sys.executable, PROGRAMS / program, everything[1] / artifact, SEVEN)
    assert answer.startswith("class 7, probability 0.9")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_cpp_with_the_headers_of_the_openvino_package(
    everything: tuple[Finished, Path], tmp_path: Path
) -> None:
    spec = find_spec("openvino")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    binary = tmp_path / "classify"
    source = PROGRAMS / "classify_openvino.cpp"
    folder = f"-Wl,-rpath,{package / 'libs'},-rpath-link,{package / 'libs'}"
    flags = ("-std=c++17", "-Wall", "-Werror", f"-I{package / 'include'}", folder)
    _answer("g++", *flags, source, library, "-o", binary)
    pixels = tmp_path / "seven.rgb"
    image = Image.open(SEVEN).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    pixels.write_bytes(image.tobytes())
    assert _answer(binary, everything[1] / "digits-int8.xml", pixels).startswith("class 7, probability 0.9")
