"""IREE, a compiler of machine code for CPUs: from TFLite through TOSA, whose integers say what is computed.

It has an environment of its own (`edgefx setup iree`). What it makes, a module for IREE's runtime, holds the
weights and the code of every operation; TOSA defines integer arithmetic to the bit, so that it answers as
LiteRT's reference kernels do. https://iree.dev, https://www.mlplatform.org/tosa.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgefx.compilers.environments import OwnEnvironment
from edgefx.compilers.protocol import Compiled
from edgefx.errors import ConversionError
from edgefx.harmless import line
from edgefx.npus import NPU_DEFAULTS, NpuOptions
from edgefx.storage.atomic import write_artifact
from edgefx.system import cpu

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENVIRONMENT: Final = OwnEnvironment(
    name="iree",
    purpose="the targets iree-*",
    lock=Path(__file__).with_name("iree.lock"),
    megabytes=750,
)
VERSION: Final = "3.13.0"  # of iree-base-compiler in the lock: the keys of the cache depend on this file
_INPUT, _OUTPUT = "model.tosa", "model.vmfb"  # names get into the module: fixed ones make the same bytes
_CPUS = {
    "iree-x86-64": ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "iree-aarch64": ("aarch64-unknown-linux-gnu", "generic"),
    "iree-riscv64": ("riscv64-unknown-linux-gnu", "generic-rv64"),
}
_MORE = {
    "iree-riscv64": ("--iree-llvmcpu-target-cpu-features=+m,+a,+f,+d,+c", "--iree-llvmcpu-target-abi=lp64d")
}


class Iree:
    """A `Compiler`, and `Native`."""

    def check(self) -> str:
        """Return the name and the version of IREE; see `Compiler.check`."""
        ENVIRONMENT.command("iree-compile")
        return f"iree-base-compiler {VERSION}"

    def configure(self, chip: str, options: NpuOptions) -> NpuOptions:
        """Return no options: there is nothing to choose; see `Compiler.configure`."""
        del chip, options
        return NPU_DEFAULTS

    def compile(self, content: bytes, out: Path, chip: str, options: NpuOptions) -> Compiled:
        """Compile a ``.tflite``; see `Compiler.compile`."""
        del options
        triple, core = _CPUS[chip]
        with tempfile.TemporaryDirectory(prefix="iree-") as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(content)
            _run(folder, chip, "tosa-converter-for-tflite", "model.tflite", "--bytecode", "-o", _INPUT)
            _run(
                folder,
                chip,
                "iree-compile",
                _INPUT,
                "--iree-input-type=tosa",
                "--iree-hal-target-device=local",
                "--iree-hal-local-target-device-backends=llvm-cpu",
                f"--iree-llvmcpu-target-triple={triple}",
                f"--iree-llvmcpu-target-cpu={core}",
                "--iree-llvmcpu-debug-symbols=false",
                *_MORE.get(chip, ()),
                "-o",
                _OUTPUT,
            )
            write_artifact(out, (folder / _OUTPUT).read_bytes())
        return Compiled()

    def answers(self, path: Path, chip: str, stored: NDArray[np.int8]) -> NDArray[np.int8] | None:
        """Run a module in IREE's runtime; see `Native.answers`."""
        import numpy as np

        if sys.platform != "linux" or platform.machine() != _CPUS[chip][0].partition("-")[0]:
            return None
        if chip == "iree-x86-64" and "avx2" not in cpu.parse_cpuinfo(cpu.cpuinfo() or "")[1]:
            return None
        found = []
        with tempfile.TemporaryDirectory(prefix="iree-") as name:
            folder = Path(name)
            for image in stored:
                np.save(folder / "image.npy", image[None])
                module = f"--module={path.resolve()}"
                _run(
                    folder, chip, "iree-run-module", module, "--function=main", "--input=@image.npy",
                    "--output=@scores.npy",
                )  # fmt: skip
                found.append(np.load(folder / "scores.npy").reshape(-1).view(np.int8))
        return np.stack(found)


def _run(folder: Path, chip: str, command: str, *arguments: str) -> None:
    """Run a command of the environment in a folder.

    Raises:
        ConversionError: It fails.
        NotSetUpError: The environment was not made.
    """
    ran = subprocess.run(  # noqa: S603 - names of our tables, arguments as a list
        [ENVIRONMENT.command(command), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode:
        said = [text for text in (ran.stderr + ran.stdout).splitlines() if "error" in text.lower()]
        reason = line((said or [f"{command} ended with {ran.returncode}"])[0])
        raise ConversionError(f"{chip}: IREE refused the model: {reason}", hint="see: edgefx inspect")


COMPILER: Final = Iree()
