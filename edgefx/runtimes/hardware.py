"""What an artifact says of the class of CPU that it is laid out for."""

from __future__ import annotations

from edgefx.vocabulary import Hardware

KEY = "hardware"  # of the statement in an artifact's metadata
# Where it was measured which operations are faster in INT8; other classes get the forms of the nearest one.
MEASURED = frozenset({Hardware.X86_VNNI, Hardware.X86_AMX})


def statement(hardware: Hardware) -> str:
    """Return what goes into an artifact's metadata."""
    return str(hardware) if hardware in MEASURED else f"{hardware}, whose speed was never measured"


def note(stated: str) -> str:
    """Return what is told to a user of what an artifact's metadata states."""
    return f"laid out for {stated}"
