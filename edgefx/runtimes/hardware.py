"""What an artifact says of the class of CPU that it is laid out for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgefx.hardware import HardwareProfile
from edgefx.quantization import QuantScheme
from edgefx.targets import TARGETS
from edgefx.vocabulary import Hardware, Runtime

WEIGHTS_ONLY = "no convolution runs in INT8, as none is faster in it there: only the weights are stored in it"
WEIGHTS_ONLY_KEY = "weights_only"  # of an artifact's metadata
KEY = "hardware"  # of the statement in an artifact's metadata
_NOTE = "laid out for "
# Where it was measured which operations are faster in INT8; other classes get the forms of the nearest one.
MEASURED = frozenset({Hardware.X86_VNNI, Hardware.X86_AMX})
ASSUMED = Hardware.X86_VNNI  # whose tables are taken for classes that nothing was measured of


def statement(scheme: QuantScheme, runtime: Runtime) -> str:
    """Return what goes into an artifact's metadata."""
    if scheme.profile is not None and scheme.profile.of(runtime) is not None:
        return f"{scheme.hardware}, as measured on {scheme.profile.cpu}"
    if scheme.hardware in MEASURED:
        return str(scheme.hardware)
    return f"{scheme.hardware}, whose speed was never measured"


def stated(notes: Iterable[str]) -> Hardware | None:
    """Return the class that an artifact's notes name; None where it fits any."""
    for text in notes:
        if text.startswith(_NOTE):
            name = text.removeprefix(_NOTE).partition(",")[0]
            return Hardware(name) if name in set(Hardware) else None
    return None


def misfit(notes: Iterable[str], present: Hardware, where: str) -> str | None:
    """Say that an artifact is laid out for another class of CPU than it runs on; None where it is not."""
    asked = stated(notes)
    if asked is None or asked is present:
        return None
    return (
        f"laid out for {asked}, and {where} is {present}: it may be slower or less accurate there than one "
        f"that is compiled with --hardware {present}"
    )


def note(stated: str) -> str:
    """Return what is told to a user of what an artifact's metadata states."""
    return f"{_NOTE}{stated}"


def placements(hardware: Hardware, profile: HardwareProfile | None) -> Mapping[str, str]:
    """Say by what artifacts for a class of CPU are laid out.

    Args:
        hardware: The class.
        profile: What was measured of it, or of a device of that class; None where nothing was.

    Returns:
        A phrase for each target that computes in INT8 only what is faster in it.
    """
    return {row.name: _placement(row.runtime, hardware, profile) for row in TARGETS.values() if row.is_placed}


def _placement(runtime: Runtime, hardware: Hardware, profile: HardwareProfile | None) -> str:
    found = None if profile is None else profile.of(runtime)
    if profile is not None and found is not None:
        return f"the profile of {profile.cpu}, measured on {profile.measured} with {found.package}"
    if hardware in MEASURED:
        return f"the built-in table of {hardware}"
    return f"the built-in table of {ASSUMED}: nothing was measured of {hardware}"
