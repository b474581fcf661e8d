"""Which device a name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgefx.benchmarking.devices import ssh
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.remote import FOLDER, Remote
from edgefx.errors import UnknownNameError, UsageError
from edgefx.protocols import Progress

_SCHEMES = ("ssh",)


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """A device as a user names it.

    Attributes:
        device: "host", or ``ssh://[user@]host[:port]``.
        python: Its Python, a name or a path there; by default python3.
        folder: Where files are kept there; by default ~/.cache/edgefx.
    """

    device: str = HOST.name
    python: str | None = None
    folder: str | None = None

    @property
    def is_host(self) -> bool:
        """Whether it is this machine."""
        return self.device == HOST.name


ON_HOST = DeviceChoice()


@contextmanager
def connected(choice: DeviceChoice, progress: Progress) -> Iterator[Remote | None]:
    """Connect a device; gives None for this machine.

    Raises:
        UsageError: It names no device.
        MissingDependencyError: What reaches it is not installed on this machine.
        DeviceError: It cannot be reached.
        DeviceDependencyError: It has no Python that serves.
    """
    if choice.is_host:
        if choice.python or choice.folder:
            raise UsageError("--device-python and --device-dir belong to --device", hint="give --device, too")
        yield None
        return
    with progress.task(f"connect {choice.device}"):
        device = _remote(choice, progress).__enter__()
    try:
        yield device
    finally:
        device.__exit__(None, None, None)


def _remote(choice: DeviceChoice, progress: Progress) -> Remote:
    scheme, colon, _ = choice.device.partition("://")
    if not colon:
        raise UsageError(f"unknown device '{choice.device}'", hint=f"give {HOST.name}, or ssh://user@host")
    if scheme not in _SCHEMES:
        raise UnknownNameError("kind of device", scheme, _SCHEMES, hint="(as in ssh://user@host)")
    folder = FOLDER if choice.folder is None else choice.folder
    return ssh.connect(choice.device, python=choice.python or ssh.PYTHON, folder=folder, progress=progress)
