"""Devices that are reached over SSH.

The system's own client connects, so that the user's configuration, keys and jump hosts count.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from edgefx.benchmarking.devices.link import BOOTSTRAP
from edgefx.benchmarking.devices.remote import FOLDER, Remote
from edgefx.errors import DeviceDependencyError, DeviceError, EdgefxError, MissingToolError, UsageError
from edgefx.protocols import SILENT, Progress

PYTHON = "python3"
_CONNECT_S = 15
_OF_SSH = 255  # the exit code of ssh itself; others are those of the command there
# Nothing is ever asked for (a password, whether to trust a key), no session of the user's is shared in, and a
# connection that is cut is noticed within 45 s.
_OPTIONS = (
    "BatchMode=yes",
    f"ConnectTimeout={_CONNECT_S}",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
)
# No name may look like an option of ssh, or mean something to a shell in a ProxyCommand of the user's.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:%-]*")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*")
_EXAMPLE = "give ssh://user@host or ssh://user@host:port; a host of ~/.ssh/config will do"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a device is.

    Attributes:
        host: Its name or address, or a host of ``~/.ssh/config``.
        user: None where SSH's configuration says who.
        port: None where SSH's configuration says which.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``ssh://[user@]host[:port]``.

        Raises:
            UsageError: It is no such address.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"--device {url}: {error}", hint=_EXAMPLE) from error
        if parts.path.strip("/") or parts.query or parts.fragment or parts.password is not None:
            raise UsageError(f"--device {url}: more than a user, a host and a port", hint=_EXAMPLE)
        # Not parts.hostname, which is in lower case: hosts of ~/.ssh/config are not.
        host = parts.netloc.rpartition("@")[2]
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if not _HOST.fullmatch(host):
            raise UsageError(f"--device {url}: no host that SSH could reach", hint=_EXAMPLE)
        if parts.username is not None and not _USER.fullmatch(parts.username):
            raise UsageError(f"--device {url}: no name of a user", hint=_EXAMPLE)
        return cls(host=host, user=parts.username, port=port)

    @property
    def words(self) -> list[str]:
        """The arguments of ssh that name it."""
        words = ["-p", str(self.port)] if self.port is not None else []
        return [*words, *(["-l", self.user] if self.user is not None else []), "--", self.host]

    @property
    def by_hand(self) -> str:
        """What to try by hand."""
        port = f"-p {self.port} " if self.port is not None else ""
        return f"ssh {port}{f'{self.user}@' if self.user else ''}{self.host}"


def connect(
    url: str,
    *,
    name: str = "",
    python: str = PYTHON,
    folder: str = FOLDER,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Remote:
    """Return a device that is connected when it is entered.

    Args:
        url: ``ssh://[user@]host[:port]``.
        name: What results call it; by default the URL.
        python: Its Python: a name or a path, where ``~/`` is its user's home.
        folder: Where files are kept there.
        threads: Runtime threads where a command names none; None for all of its cores.
        progress: Shows how files are copied.

    Raises:
        UsageError: `url` is no address.
        MissingToolError: There is no SSH client here.
    """
    address = Address.parse(url)
    client = shutil.which("ssh")
    if client is None:
        raise MissingToolError(
            "devices are reached by OpenSSH's client, and there is no ssh here",
            hint="install openssh-client, by apt or dnf",
        )

    def explain(code: int, lines: Sequence[str]) -> EdgefxError | None:
        if code == _OF_SSH:
            return _of_connection(name or url, address, lines)
        return _of_python(name or url, python, code, lines)

    options = [word for option in _OPTIONS for word in ("-o", option)]
    command = [client, "-T", *options, *address.words, remote_command(python)]
    return Remote(name or url, command, explain=explain, folder=folder, threads=threads, progress=progress)


def remote_command(python: str) -> str:
    """Return the command line that a shell of the device is given: a POSIX one, fish or csh.

    Only the path of Python varies; all else that a user may name goes through stdin.
    """
    home, rest = python.startswith("~/"), python.removeprefix("~/")
    words = f'"$HOME"/{shlex.quote(rest)}' if home else shlex.quote(python)
    return f"exec {words} -c {shlex.quote(BOOTSTRAP)}"


def _of_python(name: str, python: str, code: int, lines: Sequence[str]) -> EdgefxError | None:
    """Say why there is no Python that serves; None where that is not it."""
    if found := re.search(r"^Python (\d\S*)$", "\n".join(lines), re.MULTILINE):
        return DeviceDependencyError(
            f"{name}: {python} is Python {found.group(1)} there; 3.9 or later is needed",
            hint="install a later one there, and name it: --device-python",
        )
    if code in (126, 127):
        return DeviceDependencyError(
            f"{name}: there is no {python}",
            hint="install Python 3.9 or later there, or name the one it has: --device-python",
            details=lines,
        )
    return None


def _of_connection(name: str, address: Address, lines: Sequence[str]) -> EdgefxError:
    """Say why ssh did not connect, and what to do."""
    text, hand = "\n".join(lines), address.by_hand
    last = lines[-1] if lines else ""
    if "has changed and you have requested strict checking" in text:
        forget = re.search(r"ssh-keygen -f .*", text)
        return DeviceError(
            f"{name}: it answers with another host key than it used to: another machine may pretend to be it",
            hint="if it was installed anew, forget its old key: "
            + (forget.group() if forget else f"ssh-keygen -R {address.host}"),
            details=lines,
        )
    if "Host key verification failed" in text:
        return DeviceError(
            f"{name}: its host key is not known on this machine",
            hint=f"connect once by hand, and compare the fingerprint that is shown: {hand}",
            details=lines,
        )
    if "Permission denied" in text or "Too many authentication failures" in text:
        return DeviceError(
            f"{name}: none of your keys is accepted: {last}",
            hint=f"edgefx never asks for a password. Try by hand: {hand}; to allow a key: "
            f"{hand.replace('ssh', 'ssh-copy-id', 1)}",
            details=lines[:-1],
        )
    if "Could not resolve hostname" in text:
        return UsageError(f"{name}: no such host: {last}", hint=f"check the name; try by hand: {hand}")
    return DeviceError(
        f"{name}: cannot be reached: {last or 'ssh says nothing'}",
        hint=f"is it switched on, and does it accept SSH? Try by hand: {hand}",
        details=lines[:-1],
    )
