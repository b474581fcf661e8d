"""What an artifact says of the class of CPU that it is laid out for."""

from __future__ import annotations

from collections.abc import Iterable

from edgefx.quantization import QuantScheme
from edgefx.vocabulary import Hardware, Runtime

WEIGHTS_ONLY = "no convolution runs in INT8, as none is faster in it there: only the weights are stored in it"
WEIGHTS_ONLY_KEY = "weights_only"  # of an artifact's metadata
KEY = "hardware"  # of the statement in an artifact's metadata
_NOTE = "laid out for "
# Where it was measured which operations are faster in INT8; other classes get the forms of the nearest one.
MEASURED = frozenset({Hardware.X86_VNNI, Hardware.X86_AMX})


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
