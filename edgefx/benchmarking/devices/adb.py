"""Android's debug bridge: the program `adb`, what it says when it fails, and what a phone says of itself."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from edgefx.benchmarking.devices.link import BOOTSTRAP
from edgefx.errors import DeviceDependencyError, DeviceError, EdgefxError, MissingToolError, UsageError

SCHEME = "adb"
_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")  # also 192.168.1.7:5555 and emulator-5554
_EXAMPLE = "give adb://SERIAL, of those that adb devices lists, or adb:// where there is only one"
_TIMEOUT_S = 60.0
_PUSH_BYTES_PER_S = 10**6
_EXIT = "edgefx-exit"  # printed with the exit code: adb of old phones does not pass it on
# Where there is a Python that the shell may run: in $PATH, or Termux's on phones that let it.
_PYTHONS = ("python3", "/data/data/com.termux/files/usr/bin/python3")


class Adb:
    """A phone at the other end of the bridge.

    Attributes:
        name: What the user calls it.

    Raises:
        DeviceError: From everything: it is not there, or does not let this machine in.
    """

    def __init__(self, url: str, name: str = "") -> None:
        """Find the program, and take the serial number from ``adb://SERIAL``.

        Raises:
            UsageError: `url` is no such address.
            MissingToolError: There is no `adb` here.
        """
        self.name = name or url
        self._serial = unquote(url.removeprefix(f"{SCHEME}://").rstrip("/"))
        if self._serial and not _SERIAL.fullmatch(self._serial):
            raise UsageError(f"--device {url}: no serial number of a phone", hint=_EXAMPLE)
        program = shutil.which("adb")
        if program is None:
            raise MissingToolError(
                f"{self.name}: phones are reached by Android's debug bridge, and there is no adb here",
                hint="install adb, by apt or dnf, or the SDK Platform-Tools of developer.android.com",
            )
        self._program = program

    def command(self, *words: str) -> list[str]:
        """Return the command line of adb for this phone."""
        return [self._program, *(["-s", self._serial] if self._serial else []), *words]

    def python_command(self, python: str) -> list[str]:
        """Return a command line that runs a Python there, whose stdin and stdout are its own."""
        return self.command("shell", "-T", f"exec {shlex.quote(python)} -c {shlex.quote(BOOTSTRAP)}")

    def shell(self, script: str, *, timeout_s: float = _TIMEOUT_S) -> tuple[int, str]:
        """Run a script in the phone's shell; returns its exit code, and what it printed."""
        # In a subshell: "exit" in the script must not keep its code from being printed.
        output = self.run("shell", "-T", f"( {script} ) 2>&1; echo {_EXIT} $?", timeout_s=timeout_s)
        text, mark, code = output.replace("\r\n", "\n").rpartition(f"{_EXIT} ")
        if not mark or not code.strip().isdigit():
            raise DeviceError(
                f"{self.name}: the connection ended",
                hint="see that the phone is still connected, and measure again",
                details=output.splitlines()[-5:],
            )
        return int(code), text

    def push(self, path: Path, to: str) -> None:
        """Copy a file to the phone; see that all of it arrived."""
        size = path.stat().st_size
        self.run("push", str(path), to, timeout_s=_TIMEOUT_S + size / _PUSH_BYTES_PER_S)
        _, text = self.shell(f"wc -c < {shlex.quote(to)}")
        if text.strip() != str(size):
            raise DeviceError(
                f"{self.name}: {path.name} arrived with {text.strip() or 'no'} of {size} bytes",
                hint="is there room on the phone? Try again",
            )

    def run(self, *words: str, timeout_s: float) -> str:
        """Run adb; returns its stdout."""
        try:
            done = subprocess.run(  # noqa: S603 - arguments as a list
                self.command(*words),
                capture_output=True,
                timeout=timeout_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"{self.name}: no answer within {timeout_s:.0f} s", hint="is the phone still connected?"
            ) from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", errors="replace")
            raise explained(self.name, done.returncode, said.splitlines())
        return done.stdout.decode("utf-8", errors="replace")

    def explain(self, code: int, lines: Sequence[str]) -> EdgefxError | None:
        """Say why there is no agent; see `edgefx.benchmarking.devices.remote.Remote`."""
        if found := re.search(r"^Python (\d\S*)$", "\n".join(lines), re.MULTILINE):
            return DeviceDependencyError(
                f"{self.name}: its Python is {found.group(1)}; 3.9 or later is needed",
                hint="update Termux there: pkg upgrade",
            )
        return explained(self.name, code, lines)

    def python(self) -> str:
        """Return a Python of the phone that the shell may run, "" where there is none."""
        for path in _PYTHONS:
            code, _ = self.shell(f"{path} -c 'import numpy'")
            if code == 0:
                return path
        return ""


def explained(name: str, code: int, lines: Sequence[str]) -> EdgefxError:
    """Return the error that says why adb failed, and what to do."""
    lines = [line for line in lines if line.strip() and not line.startswith("* daemon")]
    text = "\n".join(lines)
    if "unauthorized" in text or "still authorizing" in text:
        return DeviceError(
            f"{name}: the phone does not trust this machine yet",
            hint="unlock it, allow USB debugging in the dialog that it shows, and try again",
            details=lines,
        )
    if "offline" in text:
        return DeviceError(
            f"{name}: the phone is offline: adb sees it, but gets no answer",
            hint="unlock it, plug its cable in again, or run: adb reconnect",
            details=lines,
        )
    if "more than one" in text:
        return UsageError(f"{name}: there is more than one phone", hint=_EXAMPLE)
    if "no permissions" in text or "insufficient permissions" in text:
        return DeviceError(
            f"{name}: this user may not open the phone's USB port",
            hint="install android-sdk-platform-tools-common (udev rules), or join the group plugdev",
            details=lines,
        )
    if "no devices" in text or re.search(r"device '.*' not found|device not found", text):
        return DeviceError(
            f"{name}: there is no such phone",
            hint="plug it in, and turn USB debugging on in its developer options; adb devices lists what is"
            " there",
            details=lines,
        )
    return DeviceError(
        f"{name}: adb failed (exit code {code}): {lines[-1] if lines else 'it says nothing'}",
        hint="try by hand: adb devices -l",
        details=lines[:-1],
    )
