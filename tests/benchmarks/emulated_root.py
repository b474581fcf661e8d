"""An aarch64 Python with the runtimes, and an emulator to run it with, in one folder.

Of Debian 13 are the emulator (QEMU 10 in user mode, of this machine's architecture) and Python 3.13 with the
C and C++ libraries; of the package index are the wheels, in the versions and with the hashes of
``requirements.lock``. Nothing is installed on this machine, and no rights are needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.installs import closure

_SUITE = "trixie"
_PYTHON = "3.13"  # the suite's
_CHECKOUT = Path(__file__).parents[2]
_RUNS = ("edgefx", "ai-edge-litert", "onnx", "onnxruntime", "openvino")  # what a device installs
_GLIBC = (17, 24, 27, 28, 31, 34, 35, 36, 38, 39, 40, 41)  # 2.x of the wheels that the suite's can load


def interpreter(root: Path, cpu: str) -> list[str | Path]:
    """Return the command that runs the emulated Python.

    Args:
        root: What `prepare` has made.
        cpu: As the emulator names it.
    """
    root = root.absolute()
    paths = f"PYTHONPATH={_CHECKOUT}:{root / 'wheels'}"
    emulator, python = root / "emulator/usr/bin/qemu-aarch64", root / "system/usr/bin" / f"python{_PYTHON}"
    return [emulator, "-cpu", cpu, "-L", root / "system", "-E", paths, python]


def prepare(root: Path, mirror: str) -> None:
    """Fill a folder; what is there already stays.

    Args:
        root: The folder.
        mirror: URL of a Debian mirror.

    Raises:
        subprocess.CalledProcessError: apt-get, dpkg-deb or pip has failed, and has said why.
    """
    root = root.absolute()
    if not (root / "emulator").exists():
        here = _output("dpkg", "--print-architecture").strip()
        _unpack(root / "emulator", _downloaded(root / "apt", mirror, here, "qemu-user"))
    if not (root / "system").exists():
        needed = (f"python{_PYTHON}", "libstdc++6", "libgomp1")
        _unpack(root / "system", _downloaded(root / "apt", mirror, "arm64", *needed))
    if not (root / "wheels").exists():
        _install_wheels(root)


def _downloaded(folder: Path, mirror: str, architecture: str, *packages: str) -> list[Path]:
    """Download packages and all that they need, by apt with folders of its own."""
    place = folder / architecture
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "status").touch()
    (place / "sources.list").write_text(f"deb {mirror} {_SUITE} main\n")
    settings = {
        "Dir::State": place,
        "Dir::State::status": place / "status",
        "Dir::Cache": place,
        "Dir::Etc::sourcelist": place / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
    }
    given = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    subprocess.run(["apt-get", "-q", *given, "update"], check=True)
    subprocess.run(["apt-get", "-qy", *given, "--download-only", "install", *packages], check=True)
    return sorted((place / "archives").glob("*.deb"))


def _unpack(folder: Path, packages: list[Path]) -> None:
    (folder / "usr/lib").mkdir(parents=True)
    (folder / "lib").symlink_to("usr/lib")  # as the suite has it; where programs look for their loader
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


def _install_wheels(root: Path) -> None:
    wanted = closure(_RUNS) - {"edgefx"}
    blocks = re.split(r"^(?=[a-z])", (_CHECKOUT / "requirements.lock").read_text(), flags=re.MULTILINE)
    chosen = root / "requirements.txt"
    chosen.write_text("".join(block for block in blocks if block.partition("==")[0] in wanted))
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in _GLIBC]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        root / "wheels",
        "--no-deps",
    ]
    command += ["--require-hashes", "--only-binary=:all:", "--python-version", _PYTHON]
    command += [word for name in platforms for word in ("--platform", name)]
    subprocess.run([*command, "-r", chosen], check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
