"""Vela, Arm's compiler for Ethos-U NPUs: the package `ethos-u-vela`.

It runs in a process of its own: what it imports, prints and keeps in memory ends with it.
"""

from __future__ import annotations

import configparser
import csv
import re
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Final

from edgefx.compilation import LayerPlacement, NpuEstimate, Processor
from edgefx.compilers.protocol import Compiled
from edgefx.errors import ConversionError, UnknownNameError
from edgefx.harmless import line
from edgefx.npus import NPUS, NpuOptions
from edgefx.storage.atomic import write_artifact
from edgefx.system.packages import is_installed, missing
from edgefx.vocabulary import Optimise

_PACKAGE, _DISTRIBUTION = "ethosu", "ethos-u-vela"
_CONFIG = "Arm/vela.ini"  # that Vela brings along
_KIB = 1024
# What Vela says of an operation that it leaves to the CPU: its output, then the rule that it breaks.
_REFUSED = re.compile(
    r"^Warning \(supported operators\) operator: \S+, ofm: '(?P<tensor>.*)'\nReason: (?P<reason>.+(?:\n.+)*)",
    re.MULTILINE,
)


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

    def configure(self, chip: str, options: NpuOptions) -> NpuOptions:
        """Return the options with every default written out; see `Compiler.configure`."""
        row = NPUS[chip]
        systems, modes = _configurations()
        own = [name for name in systems if name.startswith(row.family)]
        for kind, name, known in (
            ("system configuration", options.system_config, own),
            ("memory mode", options.memory_mode, modes),
        ):
            if name is not None and name not in known:
                raise UnknownNameError(f"{kind} of {row.name}", name, known)
        defaults = NpuOptions(
            system_config=row.system_config, memory_mode=row.memory_mode, optimise=Optimise.PERFORMANCE
        )
        return defaults.overridden_by(options)

    def compile(self, content: bytes, out: Path, chip: str, options: NpuOptions) -> Compiled:
        """Compile a ``.tflite``; see `Compiler.compile`."""
        said = options.said  # all of them: `configure` has written them out
        with tempfile.TemporaryDirectory(prefix="vela-") as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(content)
            # Vela writes names of its input into its output: a fixed one makes the same bytes everywhere.
            command = [sys.executable, "-m", "ethosu.vela", "model.tflite", "--output-dir", "out"]
            command += ["--accelerator-config", chip, "--config", _CONFIG]
            command += ["--system-config", said["system_config"], "--memory-mode", said["memory_mode"]]
            command += ["--optimise", said["optimise"], "--verbose-performance"]
            ran = subprocess.run(  # noqa: S603 - names of our tables, arguments as a list
                command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
            )
            made = folder / "out" / "model_vela.tflite"
            summaries = [*(folder / "out").glob("*_summary_*.csv")]
            if ran.returncode or not made.is_file() or len(summaries) != 1:
                output = [text for text in (ran.stderr + ran.stdout).splitlines() if text.strip()]
                raise ConversionError(
                    f"Vela refused to compile for {chip} with {options.system_config} and"
                    f" {options.memory_mode}: {line(_reason(output))}",
                    hint="choose others with --system-config and --memory-mode, or see Vela's documentation",
                )
            compiled = Compiled(
                estimate=_estimate(summaries[0]),
                placements=_placements(
                    folder / "out" / "model_per-layer.csv", _refusals(ran.stdout + ran.stderr)
                ),
            )
            write_artifact(out, made.read_bytes())
        return compiled


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


def _refusals(said: str) -> dict[str, str]:
    """Return why operations are left to the CPU, by the layer of their output."""
    return {
        _layer(line(match["tensor"])): line(" ".join(match["reason"].split()))
        for match in _REFUSED.finditer(said)
    }


def _layer(tensor: str) -> str:
    """Return the layer that a tensor belongs to: they are called ``<layer>/<operation>``."""
    return tensor.partition(";")[0].partition("/")[0]


def _placements(per_layer: Path, refusals: dict[str, str]) -> tuple[LayerPlacement, ...]:
    """Read Vela's table of the operations that it makes of each layer, in the order of the network."""
    found: dict[tuple[str, Processor], LayerPlacement] = {}
    last = LayerPlacement(layer="", operations=(), processor=Processor.NPU)
    with per_layer.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            operation, processor = line(row["Original Operator"]), Processor(row["Target"].strip())
            layer = _layer(line(row["Name"].strip()))
            if "/" not in row["Name"] and operation in last.operations:
                layer = last.layer  # the network's output, which has a name of its own
            before = found.get(
                (layer, processor), LayerPlacement(layer=layer, operations=(), processor=processor)
            )
            is_left = processor is Processor.CPU
            last = found[layer, processor] = LayerPlacement(
                layer=layer,
                operations=tuple(dict.fromkeys((*before.operations, operation))),
                processor=processor,
                cycles=before.cycles + (0 if is_left else round(float(row["Op Cycles"]))),
                reason=refusals.get(layer, "") if is_left else "",
            )
    return tuple(found.values())


COMPILER: Final = Vela()
