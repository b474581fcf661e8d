"""Sections of a recipe that say where artifacts run: the devices that measure, and the NPUs compiled for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from edgefx.npus import NpuOptions
from edgefx.recipe.values import DeviceNames, Section
from edgefx.vocabulary import HOST, LAUNCHES, MIN_SECONDS, MOST_LAUNCHES, Optimise, is_on_host


class BenchmarkSection(Section):
    """How latency is measured."""

    devices: DeviceNames = Field(
        default=(HOST,),
        description="Where latency is measured: on this machine (host), and on others, given as "
        "ssh://user@host[:port] or by their names in devices.yaml. On those, accuracy is measured, too, and "
        "the answers are compared with those of this machine, where accuracy is measured in any case.",
    )
    threads: PositiveInt | None = Field(
        default=None, description="Number of threads the runtime uses; by default all cores."
    )
    rounds: PositiveInt = Field(default=100, description="Least number of timed inferences per artifact.")
    min_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=MIN_SECONDS,
        description="Least time that the timed inferences of each artifact take together: fast ones get "
        "more of them.",
    )
    launches: Annotated[int, Field(ge=1, le=MOST_LAUNCHES)] = Field(
        default=LAUNCHES,
        description="How many processes are started for each artifact, one after the other, and share its "
        "inferences: what differs between them decides how far a ratio can be relied on.",
    )
    seconds: PositiveFloat = Field(
        default=30.0,
        allow_inf_nan=False,
        description="Time limit for the timed inferences of all artifacts together.",
    )
    max_noise: Annotated[float, Field(gt=0, le=100)] = Field(
        default=0.25,
        description="How much the speed may change while it is measured. Above, it is measured again while "
        "there is time; a latency that stays above is not kept in the cache, nor called slower.",
    )
    price_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="What an hour of this machine costs, in any currency: the report then says what 1000 "
        "inferences cost.",
    )
    energy: bool = Field(
        default=False,
        description="Whether the energy of an inference is measured, where a machine has a counter that can "
        "be read (RAPL, hwmon).",
    )
    profile: bool = Field(default=False, description="Whether the runtimes' profilers are asked, too.")

    @property
    def others(self) -> tuple[str, ...]:
        """The devices that are not this machine, each once."""
        return tuple(dict.fromkeys(name for name in self.devices if name != HOST))

    @property
    def is_on_host(self) -> bool:
        """Whether latency is measured on this machine: others that are named alone are measured alone."""
        return is_on_host(self.devices)


class NpuSection(Section):
    """What a compiler for NPUs is told; the figures that it estimates hold for this."""

    system_config: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Clock and memories to assume, one of Vela's system configurations for the NPU, such as "
        "Ethos_U55_Deep_Embedded; by default Vela's own, which describes no chip in particular.",
    )
    memory_mode: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Where weights and activations lie, one of Vela's memory modes, such as Sram_Only; by "
        "default Vela's own for the NPU.",
    )
    optimise: Optimise | None = Field(
        default=None,
        description="What to make small: the time (Performance, the default) or the memory (Size); for "
        "tflm-int8, Size means flash: weights become lookup tables.",
    )

    @property
    def options(self) -> NpuOptions:
        """The same for a compiler."""
        return NpuOptions(
            system_config=self.system_config, memory_mode=self.memory_mode, optimise=self.optimise
        )
