"""CPUs: what Linux says of this one, and which class of hardware it, or one that is described, belongs to."""

from __future__ import annotations

import platform
from pathlib import Path

from edgefx.errors import UnknownNameError, UsageError
from edgefx.vocabulary import NATIVE, Hardware

_CPUINFO = Path("/proc/cpuinfo")
PROFILE_SUFFIXES = (".yaml", ".yml")
_ARM_PARTS = {  # "CPU part" of /proc/cpuinfo, implementer 0x41 (Arm)
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}  # fmt: skip


def cpuinfo() -> str | None:
    """Return what Linux says of this machine's CPUs; None on other systems."""
    return _CPUINFO.read_text(errors="replace") if _CPUINFO.is_file() else None


def parse_cpuinfo(text: str) -> tuple[str, set[str]]:
    """Read model and flags from Linux's /proc/cpuinfo, x86 ("model name", "flags") or Arm ("CPU part")."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    part = fields.get("CPU part", "")
    # First the part: 64-bit Arm kernels may say "ARMv8 Processor rev 3 (v8l)" of any model.
    model = _ARM_PARTS.get(part.lower()) or fields.get("model name") or fields.get("Model")
    return model or (f"Arm part {part}" if part else platform.machine()), flags


def detect(*, architecture: str | None = None, described: str | None = None) -> Hardware:
    """Tell the class of this machine, or of another one that is described.

    Args:
        architecture: As `platform.machine` has it.
        described: The text of ``/proc/cpuinfo``; where there is none, an ARM CPU of macOS has dot products
            and an x86-64 CPU counts as one without VNNI.
    """
    if architecture is None:
        architecture = platform.machine()
        described = described or cpuinfo()
    _, words = parse_cpuinfo(described or "")
    match architecture.lower():
        case "x86_64" | "amd64" | "x86-64":
            if words >= {"amx_int8", "amx_bf16"}:
                return Hardware.X86_AMX
            return Hardware.X86_VNNI if words & {"avx512_vnni", "avx_vnni"} else Hardware.X86
        case "aarch64" | "arm64":
            if "i8mm" in words:
                return Hardware.ARM_I8MM
            return Hardware.ARM_DOTPROD if "asimddp" in words or described is None else Hardware.ARM
        case _:
            return Hardware.OTHER


def resolve(asked: str) -> Hardware:
    """Return the class that ``--hardware`` asks for: ``native``, a class by name, or a profile file.

    A profile is YAML with ``architecture`` and ``features``, in the words of ``uname -m`` and
    ``/proc/cpuinfo`` of the device: ``{architecture: aarch64, features: [asimddp, i8mm]}``.

    Raises:
        UnknownNameError: There is no such class.
        UsageError: The profile cannot be read, or is none.
    """
    if asked == NATIVE:
        return detect()
    if asked in set(Hardware):
        return Hardware(asked)
    path = Path(asked)
    if path.suffix not in PROFILE_SUFFIXES:
        known = [NATIVE, *Hardware]
        raise UnknownNameError(
            "hardware", asked, known, hint="(or the path of a profile, a .json or .yaml file)"
        )
    return _profile(path)


def _profile(path: Path) -> Hardware:
    from edgefx.system import short_yaml

    example = "expected, for example, {architecture: aarch64, features: [asimddp, i8mm]}"
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"--hardware {path}: is no file", hint=example)
        with path.open("rb") as stream:
            content = short_yaml.parse(stream.read(short_yaml.MOST_BYTES + 1))
    except OSError as error:
        raise UsageError(f"--hardware {path}: cannot be read: {error.strerror}", hint=example) from error
    except ValueError as error:
        raise UsageError(f"--hardware {path}: no YAML: {error}", hint=example) from error
    profile = content if isinstance(content, dict) and set(content) <= {"architecture", "features"} else {}
    architecture, features = profile.get("architecture"), profile.get("features", [])
    if not isinstance(architecture, str) or not isinstance(features, list):
        raise UsageError(f"--hardware {path}: no hardware profile", hint=example)
    return detect(architecture=architecture, described=f"flags : {' '.join(map(str, features))}")
