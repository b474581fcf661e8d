"""A real OpenSSH server on loopback, run as whoever runs the tests, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

_SERVER = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class SshServer:
    """A device that is this machine, with another home.

    Attributes:
        folder: Keys and configurations.
        home: The home of the device's user.
        port: Where it listens.
        pid: The server's process.
    """

    folder: Path
    home: Path
    port: int
    pid: int

    @property
    def config(self) -> Path:
        """The client's configuration; it calls the server "Device", or with another key "Refused"."""
        return self.folder / "ssh_config"

    def path(self) -> str:
        """A PATH whose ssh reads that configuration and not the user's."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def connections(self) -> list[psutil.Process]:
        """The processes that serve a connection, with what they have started."""
        return psutil.Process(self.pid).children(recursive=True)

    def cut(self) -> None:
        """Cut all connections as a dead server would: nothing is said to either end."""
        for one in psutil.Process(self.pid).children():
            for process in [one, *(child for child in one.children() if "sshd" in child.name())]:
                process.kill()

    def wait_until_idle(self, timeout_s: float = 15.0) -> None:
        """Wait until no process of any connection is left."""
        deadline = time.monotonic() + timeout_s
        while (left := self.strays()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, left

    def strays(self) -> list[str]:
        """The command lines of processes that have this server's home, wherever they hang."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.home):
                    found.append(" ".join(process.cmdline())[:200])
            except psutil.Error:
                continue
        return found

    def unfinished(self) -> list[Path]:
        """Half-written files."""
        return list(self.home.rglob("*.part"))


def _skip(reason: str) -> NoReturn:
    """Skip a test; where CI has seen to it that there is a server, it fails instead."""
    if os.environ.get("EDGEFX_TESTS_SSHD") == "required":
        pytest.fail(f"EDGEFX_TESTS_SSHD=required, and {reason}")
    pytest.skip(reason)


@contextmanager
def serving(folder: Path) -> Iterator[SshServer]:
    """Run a server; skips the test where there is none, or where nobody can log in."""
    if _SERVER is None or shutil.which("ssh") is None:
        _skip("there is no OpenSSH server: apt-get install openssh-server")
    home = folder / "home of a device"
    (folder / "bin").mkdir()
    home.mkdir()
    for name in ("host_key", "user_key", "wrong_key"):
        _keygen(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    if os.geteuid() == 0:  # a server of root separates privileges, and does not start without this
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(_server_config(folder, home, port))
    (folder / "ssh_config").write_text(_client_config(folder, port))
    write_known_host(folder, port, (folder / "host_key.pub").read_text())
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{folder}/ssh_config" "$@"\n')
    wrapper.chmod(0o755)
    log = (folder / "log").open("wb")
    server = subprocess.Popen([_SERVER, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_for(port, server, folder)
        _check_login(wrapper, folder)
        yield SshServer(folder=folder, home=home, port=port, pid=server.pid)
    finally:
        server.terminate()
        server.wait()
        log.close()


def write_known_host(folder: Path, port: int, public_key: str) -> None:
    """Say which key the client expects of the server."""
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public_key}")


def _server_config(folder: Path, home: Path, port: int) -> str:
    return f"""\
ListenAddress 127.0.0.1
Port {port}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{folder}/authorized_keys"
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv "HOME={home}" TMPDIR=/tmp
LogLevel VERBOSE
"""


def _client_config(folder: Path, port: int) -> str:
    return f"""\
Host Refused
  IdentityFile "{folder}/wrong_key"
Host Device Other
  IdentityFile "{folder}/user_key"
Host Device Other Refused
  HostName 127.0.0.1
  Port {port}
  User {getpass.getuser()}
Host 127.0.0.1
  IdentityFile "{folder}/user_key"
Host *
  IdentitiesOnly yes
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgefx tests", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def _wait_for(port: int, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    _skip(f"the OpenSSH server does not start: {(folder / 'log').read_text()[-500:]}")


def _check_login(ssh: Path, folder: Path) -> None:
    done = subprocess.run(
        [ssh, "-o", "BatchMode=yes", "Device", "true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        _skip(f"nobody can log in on loopback: {done.stderr} {(folder / 'log').read_text()[-500:]}")
