"""Vela, Arm's compiler for Ethos-U NPUs: the package `ethos-u-vela`.

It runs in a process of its own: what it imports, prints and keeps in memory ends with it.
"""

from __future__ import annotations

import configparser
import csv
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Final

from edgefx.errors import ConversionError, UnknownNameError
from edgefx.harmless import line
from edgefx.npus import NpuRow
from edgefx.shipments import NpuEstimate
from edgefx.storage.atomic import write_artifact
from edgefx.system.packages import is_installed, missing

_PACKAGE, _DISTRIBUTION = "ethosu", "ethos-u-vela"
_CONFIG = "Arm/vela.ini"  # that Vela brings along
_KIB = 1024


class Vela:
    """A `Compiler`."""

    def check(self) -> str:
        """Return the name and the version of Vela; see `Compiler.check`."""
        if not is_installed(_PACKAGE):
            raise missing(_PACKAGE, purpose="Ethos-U NPUs")
        try:
            return f"{_DISTRIBUTION} {metadata.version(_DISTRIBUTION)}"
        except metadata.PackageNotFoundError:
            return _DISTRIBUTION

    def configure(
        self, row: NpuRow, *, system_config: str | None, memory_mode: str | None
    ) -> tuple[str, str]:
        """Return the system configuration and the memory mode to compile for; see `Compiler.configure`."""
        systems, modes = _configurations()
        own = [name for name in systems if name.startswith(row.family)]
        for kind, name, known in (
            ("system configuration", system_config, own),
            ("memory mode", memory_mode, modes),
        ):
            if name is not None and name not in known:
                raise UnknownNameError(f"{kind} of {row.name}", name, known)
        return system_config or row.system_config, memory_mode or row.memory_mode

    def compile(
        self, content: bytes, out: Path, row: NpuRow, *, system_config: str, memory_mode: str
    ) -> NpuEstimate:
        """Compile a ``.tflite``; see `Compiler.compile`."""
        with tempfile.TemporaryDirectory(prefix="vela-") as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(content)
            # Vela writes names of its input into its output: a fixed one makes the same bytes everywhere.
            command = [sys.executable, "-m", "ethosu.vela", "model.tflite", "--output-dir", "out"]
            command += ["--accelerator-config", row.name, "--config", _CONFIG]
            command += ["--system-config", system_config, "--memory-mode", memory_mode]
            ran = subprocess.run(  # noqa: S603 - names of our tables, arguments as a list
                command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
            )
            made, summaries = (
                folder / "out" / "model_vela.tflite",
                [*(folder / "out").glob("*_summary_*.csv")],
            )
            if ran.returncode or not made.is_file() or len(summaries) != 1:
                said = [text for text in (ran.stderr + ran.stdout).splitlines() if text.strip()]
                raise ConversionError(
                    f"Vela refused to compile for {row.name} with {system_config} and {memory_mode}:"
                    f" {line(_reason(said))}",
                    hint="choose others with --system-config and --memory-mode, or see Vela's documentation",
                )
            estimate = _estimate(summaries[0])
            write_artifact(out, made.read_bytes())
        return estimate


def _configurations() -> tuple[list[str], list[str]]:
    """Return the names of the system configurations and the memory modes that Vela brings along."""
    spec = util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    parser = configparser.ConfigParser()
    parser.read([Path(place) / "config_files" / _CONFIG for place in places], encoding="utf-8")
    found: dict[str, list[str]] = {"System_Config": [], "Memory_Mode": []}
    for section in parser.sections():
        kind, _, name = section.partition(".")
        if kind in found:
            found[kind].append(name)
    return found["System_Config"], found["Memory_Mode"]


def _reason(said: list[str]) -> str:
    """Return what Vela said last of what is wrong."""
    errors = [text for text in said if "error" in text.lower()]
    return (errors or said or ["it said nothing"])[-1].rpartition("errors.")[2]


def _estimate(summary: Path) -> NpuEstimate:
    """Read the one line of Vela's summary."""
    with summary.open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)

    def of(*names: str) -> float:
        return sum(float(row[name]) for name in names)

    return NpuEstimate(
        inference_ms=1e3 * of("inference_time"),
        clock_mhz=of("core_clock") / 1e6,
        cycles=round(of("cycles_total")),
        sram_bytes=round(_KIB * of("sram_memory_used")),
        dram_bytes=round(_KIB * of("dram_memory_used")),
        flash_bytes=round(_KIB * of("on_chip_flash_memory_used", "off_chip_flash_memory_used")),
    )


COMPILER: Final = Vela()
