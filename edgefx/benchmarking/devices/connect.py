"""Which device a name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgefx.benchmarking.devices import book, ssh
from edgefx.benchmarking.devices.adb import SCHEME, Adb
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.phone import Phone
from edgefx.benchmarking.devices.remote import FOLDER, Remote
from edgefx.errors import UnknownNameError, UsageError
from edgefx.protocols import Progress

_SCHEMES = ("ssh", SCHEME)
_PHONE_FOLDER = "/data/local/tmp/edgefx"  # where adb's shell may write


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """A device as a user names it.

    Attributes:
        device: "host", ``ssh://[user@]host[:port]``, ``adb://[serial]``, or a name of `devices.yaml`.
        python: Its Python, a name or a path there; by default python3.
        folder: Where files are kept there; by default ~/.cache/edgefx.
        benchmark_model: LiteRT's tool for Android on this machine, which measures on a phone without Python.
    """

    device: str = HOST.name
    python: str | None = None
    folder: str | None = None
    benchmark_model: Path | None = None

    @property
    def is_host(self) -> bool:
        """Whether it is this machine."""
        return self.device == HOST.name


ON_HOST = DeviceChoice()


@contextmanager
def connected(choice: DeviceChoice, progress: Progress) -> Iterator[Remote | Phone | None]:
    """Connect a device; gives None for this machine.

    Raises:
        UsageError: It names no device.
        MissingToolError: What reaches it is not installed on this machine.
        DeviceError: It cannot be reached.
        DeviceDependencyError: It has no Python that serves.
    """
    if choice.is_host:
        if choice.python or choice.folder or choice.benchmark_model:
            raise UsageError(
                "--device-python, --device-dir and --benchmark-model belong to --device",
                hint="give --device, too",
            )
        yield None
        return
    with progress.task(f"connect {choice.device}"):
        device = _remote(choice, progress).__enter__()
    try:
        yield device
    finally:
        device.__exit__(None, None, None)


def _remote(choice: DeviceChoice, progress: Progress) -> Remote | Phone:
    if "://" in choice.device:
        known = book.NamedDevice(name=choice.device, address=choice.device)
    else:
        known = book.device(choice.device)
    scheme = known.address.partition("://")[0]
    if scheme not in _SCHEMES:
        raise UnknownNameError("kind of device", scheme, _SCHEMES, hint="(as in ssh://user@host)")
    if scheme == SCHEME:
        return _phone(choice, known, progress)
    return ssh.connect(
        known.address,
        name=known.name,
        python=choice.python or known.python or ssh.PYTHON,
        folder=choice.folder or known.folder or FOLDER,
        threads=known.threads,
        progress=progress,
    )


def _phone(choice: DeviceChoice, known: book.NamedDevice, progress: Progress) -> Remote | Phone:
    """Return a phone: like any other device where it has a Python that adb's shell may run."""
    adb = Adb(known.address, known.name)
    python = choice.python or known.python or adb.python()
    if not python:
        tool = choice.benchmark_model or known.benchmark_model
        return Phone(adb, tool, threads=known.threads, progress=progress)
    return Remote(
        adb.name,
        adb.python_command(python),
        explain=adb.explain,
        folder=choice.folder or known.folder or _PHONE_FOLDER,
        threads=known.threads,
        progress=progress,
    )
