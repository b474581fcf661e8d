"""This machine: what it is, and what it can compute fast."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from edgefx.results import Environment
from edgefx.system import cgroup
from edgefx.system.cpu import cpuinfo, parse_cpuinfo
from edgefx.version import __version__

# Distributions whose version can change a result.
PACKAGES = (
    "tensorflow", "keras", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "ai-edge-quantizer",
    "onnx", "onnxruntime", "tf2onnx", "openvino", "numpy", "pillow",
)  # fmt: skip

# Kernel or sysctl name -> the vendor's name of an instruction set that decides how fast INT8 or 16-bit runs.
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "neon": "NEON",
    "asimdhp": "NEON-fp16",
    "asimddp": "NEON-dotprod",
    "i8mm": "NEON-i8mm",
    "bf16": "NEON-bf16",
    "sve": "SVE",
    "sve2": "SVE2",
    "hw.optional.avx2_0": "AVX2",
    "hw.optional.avx512f": "AVX512F",
    "hw.optional.avx512vnni": "AVX512-VNNI",
    "hw.optional.neon": "NEON",
    "hw.optional.arm.FEAT_FP16": "NEON-fp16",
    "hw.optional.arm.FEAT_DotProd": "NEON-dotprod",
    "hw.optional.arm.FEAT_I8MM": "NEON-i8mm",
    "hw.optional.arm.FEAT_BF16": "NEON-bf16",
}


def environment() -> Environment:
    """Describe this machine and the installed packages, importing none of them."""
    model, features = cpu()
    return Environment(
        edgefx=__version__,
        python=platform.python_version(),
        os=_os_name(),
        machine=platform.machine(),
        cpu=model,
        cpu_features=features,
        cores=cores(),
        memory_mb=memory_mb(),
        packages=versions(PACKAGES),
    )


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Installed versions by distribution name; absent ones are left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu() -> tuple[str, tuple[str, ...]]:
    """Return the CPU's model and those of its instruction sets that matter here."""
    if platform.system() == "Darwin":
        names = {"hw.optional.neon", *(name for name in _FEATURES if name.startswith("hw."))}
        flags = {name for name in names if _sysctl(name) == "1"}
        return _sysctl("machdep.cpu.brand_string") or platform.machine(), named_features(flags)
    if (text := cpuinfo()) is not None:
        model, flags = parse_cpuinfo(text)
        board = Path("/sys/firmware/devicetree/base/model")  # "Raspberry Pi 5 Model B Rev 1.0"
        if board.exists():
            model = f"{board.read_text(errors='replace').strip(chr(0))} ({model})"
        return model, named_features(flags)
    return platform.processor() or platform.machine(), ()


def named_features(flags: Iterable[str]) -> tuple[str, ...]:
    """Translate the kernel's flags to the vendors' names, in table order."""
    present = set(flags)
    return tuple(dict.fromkeys(name for flag, name in _FEATURES.items() if flag in present))


def cores(group: Path = cgroup.ROOT) -> int:
    """Return how many CPUs this process may use: affinity mask, then the quota of its control groups."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup.cpu_quota(group)
    return usable if quota is None else max(1, min(usable, int(quota)))


def memory_mb(group: Path = cgroup.ROOT) -> int:
    """Memory that this process may use, in 10^6 bytes: the machine's, or the limit of its control groups."""
    import psutil

    total = int(psutil.virtual_memory().total)
    return min([total, *(limit for limit, _ in cgroup.memory(group))]) // 10**6


def available_bytes(group: Path = cgroup.ROOT) -> int:
    """Return the memory that is left without swapping: to the machine, or to the tightest control group."""
    import psutil

    available = int(psutil.virtual_memory().available)
    return max(0, min([available, *(limit - used for limit, used in cgroup.memory(group))]))


def _os_name() -> str:
    if platform.system() == "Linux":
        try:
            return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"
        except (OSError, KeyError):  # a minimal image without /etc/os-release
            return f"Linux {platform.release()}"
    return platform.platform(terse=True)


def _sysctl(name: str) -> str:
    """Value of a macOS kernel state, "" when this machine does not have it."""
    result = subprocess.run(  # noqa: S603 - constant names
        ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False
    )
    return result.stdout.strip()
