"""Which device a name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgefx.benchmarking.devices import book, ssh
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.remote import FOLDER, Remote
from edgefx.errors import UnknownNameError, UsageError
from edgefx.protocols import Progress

_SCHEMES = ("ssh",)


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """A device as a user names it.

    Attributes:
        device: "host", ``ssh://[user@]host[:port]``, or a name of `devices.yaml`.
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
    if "://" in choice.device:
        known = book.NamedDevice(name=choice.device, address=choice.device)
    else:
        known = book.device(choice.device)
    scheme = known.address.partition("://")[0]
    if scheme not in _SCHEMES:
        raise UnknownNameError("kind of device", scheme, _SCHEMES, hint="(as in ssh://user@host)")
    return ssh.connect(
        known.address,
        name=known.name,
        python=choice.python or known.python or ssh.PYTHON,
        folder=choice.folder or known.folder or FOLDER,
        threads=known.threads,
        progress=progress,
    )
