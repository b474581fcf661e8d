"""The table of NPUs that an integer artifact can be compiled for: targets of `compile`, and `edgefx npu`.

To add one: a row here; for another compiler, a module of `edgefx.compilers` that offers ``COMPILER``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from edgefx.errors import UnknownNameError
from edgefx.vocabulary import Optimise


@dataclass(frozen=True, kw_only=True)
class NpuOptions:
    """What is asked of a compiler; None leaves it to the row of the NPU.

    Attributes:
        system_config: Clock and memories that are assumed, by the compiler's name for them.
        memory_mode: Where weights and activations are assumed to lie, likewise.
        optimise: What is made small: the time, or the memory.
    """

    system_config: str | None = None
    memory_mode: str | None = None
    optimise: Optimise | None = None

    @property
    def said(self) -> dict[str, str]:
        """The options that are not left to the row, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in values.items() if value is not None}

    @property
    def unsaid(self) -> tuple[str, ...]:
        """Names of the options that are left to the row."""
        return tuple(field.name for field in fields(self) if field.name not in self.said)

    def overridden_by(self, other: NpuOptions) -> NpuOptions:
        """Return these options with those that `other` says."""
        return replace(
            self,
            system_config=other.system_config or self.system_config,
            memory_mode=other.memory_mode or self.memory_mode,
            optimise=other.optimise or self.optimise,
        )


NPU_DEFAULTS = NpuOptions()


@dataclass(frozen=True, kw_only=True)
class NpuRow:
    """One row of the table.

    Attributes:
        name: As users and the compiler write it.
        compiler: The module of its compiler.
        package: What the compiler imports.
        family: What names of its system configurations begin with.
        macs_per_cycle: 8-bit multiply-accumulates that it can do in a cycle.
        system_config: What clock and memories are assumed, where nothing else is asked for.
        memory_mode: Where weights and activations are assumed to lie, likewise.
    """

    name: str
    compiler: str
    package: str
    family: str
    macs_per_cycle: int
    system_config: str
    memory_mode: str


def _ethos(family: str, macs: tuple[int, ...], system_config: str, memory_mode: str) -> tuple[NpuRow, ...]:
    return tuple(
        NpuRow(
            name=f"ethos-{family.lower()}-{count}",
            compiler="edgefx.compilers.vela",
            package="ethosu",
            family=f"Ethos_{family}",
            macs_per_cycle=count,
            system_config=f"Ethos_{family}_{system_config}",
            memory_mode=memory_mode,
        )
        for count in macs
    )


# The configurations are those that Vela assumes when it is told nothing.
NPUS: dict[str, NpuRow] = {
    row.name: row
    for row in (
        *_ethos("U55", (32, 64, 128, 256), "High_End_Embedded", "Shared_Sram"),
        *_ethos("U65", (256, 512), "Client_Server", "Dedicated_Sram_384KB"),
        *_ethos("U85", (128, 256, 512, 1024, 2048), "SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    )
}


def select(patterns: Iterable[str]) -> tuple[NpuRow, ...]:
    """Resolve names, comma lists and globs to table rows, in table order, without repeats.

    Raises:
        UnknownNameError: A name or a glob that matches no NPU.
    """
    wanted: set[str] = set()
    for pattern in (part.strip() for text in patterns for part in text.split(",")):
        matches = fnmatch.filter(NPUS, pattern.lower())
        if not matches:
            raise UnknownNameError("NPU", pattern, NPUS)
        wanted.update(matches)
    return tuple(row for name, row in NPUS.items() if name in wanted)
