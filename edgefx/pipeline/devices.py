"""Devices looked at and prepared: `edgefx device`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.phone import Phone
from edgefx.benchmarking.devices.remote import Remote
from edgefx.errors import DeviceError, EdgefxError, ExitCode, UsageError
from edgefx.protocols import Progress
from edgefx.runtimes.hardware import placements
from edgefx.storage.hardware import shipped
from edgefx.system.packages import require
from edgefx.targets import TARGETS
from edgefx.views import DeviceCheck, DeviceState
from edgefx.vocabulary import Runtime

_VENV = "venv"  # beside the files that are kept there
_OLDEST_GLIBC = 17  # of manylinux2014, 2.17; wheels for older ones are no longer made


def check(choices: Sequence[DeviceChoice], progress: Progress) -> tuple[DeviceCheck, ExitCode]:
    """Look at devices: what they are, and which runtimes can be imported there.

    One that cannot be reached does not keep the others from being looked at.

    Returns:
        What was found, and the exit code of the first that cannot be used.
    """
    states, code = [], ExitCode.OK
    for choice in choices:
        try:
            with connected(choice, progress) as device:
                assert device is not None
                states.append(_state(device, progress))
        except EdgefxError as error:
            code = code or error.exit_code
            states.append(DeviceState(device=choice.device, error=error.message, hint=error.hint))
    return DeviceCheck(devices=tuple(states)), code


def _state(device: Remote | Phone, progress: Progress) -> DeviceState:
    if isinstance(device, Phone):
        return DeviceState(
            device=device.name,
            environment=device.environment,
            hardware=device.hardware,
            lacking={str(runtime): device.lacks(runtime) for runtime in Runtime},
        )
    lacking = {}
    with progress.task(f"import runtimes on {device.name}", len(Runtime)) as task:
        for runtime in Runtime:
            lacking[str(runtime)] = device.lacks(runtime)
            task.advance()
    return DeviceState(
        device=device.name,
        environment=device.environment,
        hardware=device.hardware,
        python=device.python,
        folder=device.folder,
        disk_free_mb=device.free_bytes // 10**6,
        memory_available_mb=device.memory_available_mb,
        governor=device.governor,
        lacking=lacking,
        placements=placements(device.hardware, shipped(device.hardware)),
    )


def setup(
    choice: DeviceChoice, runtimes: Sequence[Runtime], progress: Progress, *, offline: bool
) -> tuple[str, DeviceState]:
    """Make a virtual environment on a device and install runtimes in it.

    Args:
        choice: The device.
        runtimes: Which.
        progress: Shows what is done.
        offline: Download the wheels to this machine and copy them, for a device without internet.

    Returns:
        The path of the environment's Python there, and the state of the device with it.

    Raises:
        UsageError: The device is this machine.
        DeviceError: It cannot be reached, or a step failed there; or no wheel fits it.
        MissingDependencyError: There is no pip here to download wheels with.
    """
    if choice.is_host:
        raise UsageError("this machine is no device to set up", hint="name one, or give ssh://user@host")
    packages = ["numpy", *dict.fromkeys(_package(runtime) for runtime in runtimes)]
    with connected(choice, progress) as device:
        assert device is not None
        if isinstance(device, Phone):
            raise UsageError(
                f"{choice.device}: it has no Python that adb's shell may run, to make an environment of",
                hint="its .tflite files can be measured without one: --benchmark-model",
            )
        venv = f"{device.folder}/{_VENV}"
        python = f"{venv}/bin/python"
        with progress.task(f"make {venv} on {device.name}"):
            _make(device, venv, python)
        install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:"]
        if offline:
            install += ["--no-index", "--find-links", _carried(device, packages, progress)]
        with progress.task(f"install {', '.join(packages)} on {device.name}"):
            device.execute(*install, *packages, what="pip install")
    there = DeviceChoice(device=choice.device, python=python, folder=choice.folder)
    with connected(there, progress) as device:
        assert isinstance(device, Remote)
        return python, _state(device, progress)


def _make(device: Remote, venv: str, python: str) -> None:
    """Make a virtual environment, unless there is one that works."""
    try:
        device.execute(python, "-m", "pip", "--version", what="pip")
    except DeviceError:
        device.execute(device.python, "-m", "venv", "--clear", venv, what="python -m venv")


def _package(runtime: Runtime) -> str:
    return next(row for row in TARGETS.values() if row.runtime is runtime).run_by[-1]


def _carried(device: Remote, packages: Sequence[str], progress: Progress) -> str:
    """Download wheels that fit a device and copy them there; returns the folder that they are in."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgefx-wheels-") as folder:
        with progress.task(f"download wheels for {device.name}"):
            _download(device, packages, Path(folder))
        return device.keep_folder(Path(folder))


def _download(device: Remote, packages: Sequence[str], folder: Path) -> None:
    require("pip", purpose="downloading wheels for a device")
    machine, glibc = device.environment.machine, device.glibc
    if glibc is None or glibc[0] != 2:
        raise DeviceError(
            f"{device.name}: its C library is not that of GNU: there are no wheels of the runtimes for it",
            hint="use a Python of Debian, Ubuntu or Fedora there, for example in a container",
        )
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc[1], _OLDEST_GLIBC - 1, -1)]
    version = ".".join(device.environment.python.split(".")[:2])
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    command += ["--dest", str(folder)]
    for tag in (*platforms, f"manylinux2014_{machine}", "any"):
        command += ["--platform", tag]
    done = subprocess.run(  # noqa: S603 - pip, arguments as a list
        [*command, *packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DeviceError(
            f"no wheels of {', '.join(packages)} for Python {version} on {machine} with glibc 2.{glibc[1]}",
            hint="try another Python there (--device-python), or leave a runtime out (--runtime)",
            details=done.stderr.strip().splitlines()[-10:],
        )
