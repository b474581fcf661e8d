"""The connection to a device's agent: requests out, answers in, files along with them, and how it ends."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edgefx.benchmarking.devices import agent
from edgefx.errors import DeviceError, DiskFullError, EdgefxError
from edgefx.protocols import SILENT, Progress

# What Python is given with -c: it reads a script, whose length comes first. Python 2 must understand it, too.
BOOTSTRAP = (
    'import sys;sys.version_info<(3,9) and sys.exit("Python "+sys.version.split()[0]);'
    'f=sys.stdin.buffer;exec(compile(f.read(int(f.readline())),"edgefx","exec"))'
)
ANSWER_TIMEOUT_S = 60.0  # of what takes the device no time, over a slow network
SLOWEST_BYTES_PER_S = 10**6  # at which a device reads its own files to hash them
_CONNECT_TIMEOUT_S = 60.0
_HEARTBEAT_S = 15.0
_RETURN_S = 60.0  # that a device which was lost is waited for: a small board starts in less
_RETRY_S = 2.0
_BLOCK = 1 << 16  # bytes: the agent hears something while a slow network carries a file
_TAIL = 10  # lines of a command's stderr in an error


class Link:
    """A command whose stdin and stdout are those of an agent; a context manager.

    Attributes:
        waiting: Whether an answer is still to come: after an interruption, the next one would be to that
            request.
        boot: What tells this start of the device's system from others. Where it is known, a device that was
            lost is asked for it again, to say whether it was restarted.

    Raises:
        DeviceError: From everything: there is no agent, or it is no longer there.
        DiskFullError: The device has no room for a file.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        explain: Callable[[int, Sequence[str]], EdgefxError | None],
        progress: Progress,
    ) -> None:
        """Prepare a connection; see `edgefx.benchmarking.devices.remote.Remote`."""
        self._name, self._command, self._explain, self._progress = name, command, explain, progress
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._greeted = False
        self._answers: queue.Queue[str | None] = queue.Queue()
        self.waiting = False
        self.boot = ""

    def __enter__(self) -> Self:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        self.process = subprocess.Popen(  # noqa: S603 - arguments as a list
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,  # closing must not wait until a dead network takes what is left
            # Ctrl-C is for edgefx, which ends the connection in good order by closing it.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            script, runner = _script("agent"), _script("runner").decode()
            self.send(b"%d\n%s%s\n" % (len(script), script, json.dumps(runner).encode()))
            while self._line(_CONNECT_TIMEOUT_S).strip() != agent.HELLO:
                pass  # what a login script of the device prints
        except BaseException:
            self._close()
            raise
        self._greeted = True
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def request(self, do: str, *, timeout_s: float = ANSWER_TIMEOUT_S, **fields: object) -> dict[str, Any]:
        """Send a request of the agent's protocol, and return its answer, which is that it succeeded."""
        return self._checked(self._exchanged({"do": do, **fields}, timeout_s))

    def ask(self, runner: int, request: str, timeout_s: float) -> dict[str, Any]:
        """Ask a runner; returns its answer, which may be that it failed."""
        document = {"do": "ask", "runner": runner, "request": request, "timeout_s": timeout_s}
        return self._exchanged(document, timeout_s + ANSWER_TIMEOUT_S)

    def _exchanged(self, document: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
        self.waiting = True
        self.send(json.dumps(document).encode() + b"\n")
        return self._answer(timeout_s)

    def put(self, key: str, name: str, stream: IO[bytes], size: int, sha256: str) -> None:
        """Copy a file to the device, where it gets its name when its content is what it should be."""
        self.request("put", key=key, name=name, size=size, sha256=sha256)
        blocks = -(-size // _BLOCK)
        with self._progress.task(f"copy {name} to {self._name}", blocks) as task:
            self.waiting = True
            for _ in range(blocks):
                data = stream.read(_BLOCK)
                if not data:
                    raise DeviceError(f"{name} became shorter while it was copied to {self._name}")
                self.send(json.dumps({"do": "data", "bytes": len(data)}).encode() + b"\n" + data)
                task.advance()
            self._checked(self._answer(ANSWER_TIMEOUT_S + size / SLOWEST_BYTES_PER_S))

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" not in answer:
            return answer
        if answer["kind"] == "full":
            raise DiskFullError(
                f"{self._name}: no room for a file: {answer['error']}",
                hint="free some space there, or choose another folder of it: --device-dir",
            )
        raise DeviceError(
            f"{self._name}: {answer['error']}",
            hint="try again: the connection may be faulty"
            if answer["kind"] == "damaged"
            else "choose a folder that can be written there: --device-dir",
        )

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        line = self._line(timeout_s)
        self.waiting = False
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DeviceError(
                f"{self._name}: what answers there is no agent of edgefx: {line.strip()[:80]!r}"
            )
        return answer

    def _line(self, timeout_s: float) -> str:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise DeviceError(
                f"{self._name}: no answer within {timeout_s:.0f} s", hint="is it overloaded, or the network?"
            ) from None
        if line is None:
            raise self._lost()
        return line

    def send(self, data: bytes) -> None:
        """Send bytes that the agent understands."""
        if not self._written(data):
            raise self._lost()

    def _written(self, data: bytes) -> bool:
        """Send bytes; returns whether there is still a pipe for them."""
        assert self.process.stdin is not None
        try:
            with self._sending:
                left = memoryview(data)
                while left:
                    left = left[self.process.stdin.write(left) :]
        except (OSError, ValueError):  # the pipe is broken, or closed already
            return False
        return True

    def _beat(self) -> None:
        """Tell the agent that someone is still there (a thread)."""
        while not self._ended.wait(_HEARTBEAT_S):
            if not self._written(b"\n"):
                return

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line.decode("utf-8", errors="replace"))
        self._answers.put(None)

    def _lost(self) -> EdgefxError:
        """Return the error that says why the connection ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-_TAIL:]
        if self._greeted:
            return self._gone(lines)
        code = self.process.returncode
        return self._explain(-1 if code is None else code, lines) or DeviceError(
            f"{self._name}: the connection ended (exit code {code})",
            hint="see that the device is switched on and the network is up, and try again",
            details=lines,
        )

    def _gone(self, lines: Sequence[str]) -> EdgefxError:
        """Return the error that says whether a device that had answered was restarted."""
        boot = self._boot_now()
        if boot and boot != self.boot:
            return restarted(self._name, lines)
        known = "it was not restarted" if boot else "see that it was not restarted"
        return DeviceError(
            f"{self._name}: the connection ended",
            hint=f"nothing is left running there, and {known}; see that the network is up, and try again",
            details=lines,
        )

    def _boot_now(self) -> str:
        """Ask a device that was lost in which start of its system it is; "" where it does not come back."""
        if not self.boot or self._ended.is_set():  # what was closed from here is not lost
            return ""
        deadline = time.monotonic() + _RETURN_S
        with self._progress.task(f"wait for {self._name}, to see whether it was restarted"):
            while True:
                try:
                    with Link(self._name, self._command, self._explain, SILENT) as again:
                        return str(again.request("boot")["boot"])
                except DeviceError:
                    if self._ended.wait(_RETRY_S) or time.monotonic() > deadline:
                        return ""
                except EdgefxError:
                    return ""

    def _close(self) -> None:
        """End the connection; the agent ends by itself, and its runners with it."""
        self._ended.set()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self._sending:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=1.0)
        if not self._reader.is_alive():
            assert self.process.stdout is not None
            self.process.stdout.close()
        self._stderr.close()


def restarted(name: str, details: Sequence[str] = ()) -> DeviceError:
    """Return the error that says that a device was restarted while it was measured."""
    return DeviceError(
        f"{name}: it was restarted in the middle of the work",
        hint="try again; if it restarts by itself, see to its power supply and temperature",
        details=details,
    )


def _script(name: str) -> bytes:
    return Path(__file__).with_name(f"{name}.py").read_bytes()
