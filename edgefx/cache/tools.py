"""What results depend on besides their inputs: versions of tools, edgefx's own code, the machine.

Nothing is imported to find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import edgefx
from edgefx.cache.entry import Json

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = ("types.py", "vocabulary.py")  # what every stage's results are made of
_RUNTIMES = ("tflite", "onnx", "openvino")
TENSORFLOW = ("tensorflow", "keras", "tf-keras", "numpy")
IMAGES = ("numpy", "pillow")
# What each runtime's conversion runs; all of them start from a TensorFlow graph.
CONVERTERS = {
    "tflite": ("tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy"),
    "onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy"),
    "openvino": ("tensorflow", "openvino", "numpy"),
}
ENGINES = {"tflite": ("ai-edge-litert",), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


def versions(distributions: Iterable[str]) -> dict[str, Json]:
    """Return the installed versions by name, nothing imported."""
    return {name: version for name in distributions if (version := _version(name)) is not None}


def code(*rooms: str) -> str:
    """Hash the source files of some rooms (``models``, ``evaluate``) or of one target (``targets/onnx``).

    A target's code is what its files and those of no runtime at all say: ``onnx_graph.py`` and ``grids.py``.
    """
    return _code(tuple(sorted(set(rooms))))


def cpu_features() -> list[Json]:
    """Return what tells whether two CPUs compute the same: the architecture and its instruction sets."""
    import platform

    _, features = _cpu()
    return [platform.machine(), *features]


def machine() -> dict[str, Json]:
    """Return what latency depends on besides the artifact and the runtime."""
    import platform

    from edgefx.benchmark.devices.host import cores

    model, features = _cpu()
    return {
        "cpu": model,
        "features": list(features),
        "cores": cores(),
        "os": f"{platform.system()} {platform.release()}",
    }


@cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    from edgefx.benchmark.devices.host import cpu

    return cpu()


@cache
def _version(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def _code(rooms: tuple[str, ...]) -> str:
    total = hashlib.sha256(edgefx.__version__.encode())
    for path in sorted(
        {_ROOT / name for name in _SHARED} | {path for room in rooms for path in _files(room)}
    ):
        total.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def _files(room: str) -> list[Path]:
    folder, _, runtime = room.partition("/")
    found = sorted((_ROOT / folder).rglob("*.py"))
    if not runtime:
        return found
    others = tuple(name for name in _RUNTIMES if name != runtime)
    return [path for path in found if not path.name.startswith(others)]
